from __future__ import annotations

import dataclasses
from typing import TYPE_CHECKING

import numpy as np
import pytest

from datastore.config import EncoderConfig
from datastore.encoders.fingerprint import EncoderFingerprint
from datastore.encoders.registry import open_encoder, open_query_encoder
from datastore.errors import FailedPrecondition, InvalidArgument

if TYPE_CHECKING:
    from datastore.encoders.registry import Encoder

FINGERPRINT = EncoderFingerprint("owner/model", "abc", 384, "mean", True, "query: ", "passage: ", 256)
OTHER: dict[str, object] = {
    "revision": "abd",
    "dimension": 385,
    "pooling": "cls",
    "normalized": False,
    "query_prompt": "",
    "passage_prompt": "text: ",
    "max_tokens": 0,
}


def test_the_same_encoder_by_another_name() -> None:
    FINGERPRINT.require_same(FINGERPRINT, "the encoder")
    FINGERPRINT.require_same(dataclasses.replace(FINGERPRINT, name="/models/copy"), "the encoder")


def test_every_field_is_compared() -> None:
    compared = {field.name for field in dataclasses.fields(EncoderFingerprint)} - {"name"}
    assert compared == set(OTHER)


@pytest.mark.parametrize("name", OTHER)
def test_a_difference_is_named(name: str) -> None:
    other = dataclasses.replace(FINGERPRINT, **{name: OTHER[name]})  # type: ignore[arg-type]
    with pytest.raises(FailedPrecondition) as caught:
        FINGERPRINT.require_same(other, "shard 3's encoder")
    problem = caught.value.problem
    assert problem == (
        f"shard 3's encoder is 'owner/model' with {name} {OTHER[name]!r}; the store was built with 'owner/model': "
        f"{name} {getattr(FINGERPRINT, name)!r}"
    )
    assert "'owner/model' at revision 'abc'" in caught.value.mend


def test_all_differences_are_named_together() -> None:
    with pytest.raises(FailedPrecondition) as caught:
        FINGERPRINT.require_same(EncoderFingerprint("hashing", "1", 256, "sum", True, "", "", 0), "it")
    assert all(name in caught.value.problem for name in OTHER if name != "normalized")
    assert "normalized" not in caught.value.problem


@pytest.mark.parametrize("name", ["hashing2", "Hashing", "minilm", "all-minilm-l6-v2 ", "no such"])
def test_an_unknown_name(name: str) -> None:
    with pytest.raises(InvalidArgument, match="there are all-minilm-l6-v2, hashing, wordllama-256;") as caught:
        open_encoder(EncoderConfig(name))
    assert repr(name) in caught.value.problem
    assert caught.value.field == "encoder"


@pytest.mark.parametrize(
    "config",
    [
        EncoderConfig("hashing", query_prompt="query: "),
        EncoderConfig("hashing", passage_prompt="passage: "),
        EncoderConfig("hashing", normalize=False),
    ],
)
def test_settings_that_the_hashing_encoder_lacks(config: EncoderConfig) -> None:
    with pytest.raises(InvalidArgument, match="hashing encoder"):
        open_encoder(config)


def test_hashing_is_the_same_in_every_process_and_release() -> None:
    """Stores rest on these values."""
    vector = open_encoder(EncoderConfig("hashing")).encode_passages(["Tide tables"])[0]
    spread = {int(i): round(float(vector[i]), 4) for i in np.flatnonzero(vector)}
    assert spread == dict.fromkeys((127, 192, 212, 250), 0.189) | dict.fromkeys(
        (45, 143, 167, 188, 243, 251), -0.189
    ) | {134: 0.5669, 197: -0.5669}


def test_a_store_opens_its_own_encoder(encoder: Encoder) -> None:
    again = open_query_encoder(encoder.fingerprint)
    assert again.fingerprint == encoder.fingerprint
    np.testing.assert_allclose(again.encode_queries(["tide"]), encoder.encode_queries(["tide"]), atol=1e-6)


def test_another_encoder_is_refused() -> None:
    with pytest.raises(FailedPrecondition, match=r"is 'hashing' with revision '1', dimension 256"):
        open_query_encoder(dataclasses.replace(FINGERPRINT, query_prompt="", passage_prompt=""), "hashing")
