"""Models of the user's own, by path and by hub name: a tiny one, made here."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest

from datastore.config import EncoderConfig
from datastore.devices import DeviceChoice
from datastore.encoders.registry import Encoder, open_encoder, open_query_encoder
from datastore.errors import FailedPrecondition, NotFound


@pytest.fixture
def copy(tiny_model: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(tiny_model, tmp_path / "elsewhere" / "copy"))


def test_what_is_recorded(tiny: Encoder, tiny_model: Path) -> None:
    fingerprint = tiny.fingerprint
    assert fingerprint.name == str(tiny_model)
    assert fingerprint.revision.startswith("xxh3:")
    assert (fingerprint.dimension, fingerprint.pooling, fingerprint.max_tokens) == (16, "cls", 32)
    assert (fingerprint.query_prompt, fingerprint.passage_prompt) == ("query: ", "passage: ")


def test_prompts_are_applied(tiny: Encoder, tiny_model: Path) -> None:
    plain = open_encoder(EncoderConfig(str(tiny_model), query_prompt="", passage_prompt=""))
    assert (plain.fingerprint.query_prompt, plain.fingerprint.passage_prompt) == ("", "")
    texts = ["a heron", "reeds"]
    for encode, prompt in ((tiny.encode_queries, "query: "), (tiny.encode_passages, "passage: ")):
        by_hand = plain.encode_passages([prompt + text for text in texts])
        np.testing.assert_allclose(encode(texts), by_hand, atol=1e-6)
        assert not np.allclose(encode(texts), plain.encode_queries(texts), atol=1e-3)
    np.testing.assert_allclose(plain.encode_queries(texts), plain.encode_passages(texts), atol=1e-6)
    own = open_encoder(EncoderConfig(str(tiny_model), query_prompt="q: "))
    np.testing.assert_allclose(own.encode_queries(texts), plain.encode_queries([f"q: {t}" for t in texts]), atol=1e-6)
    assert own.fingerprint.passage_prompt == "passage: "


def test_vectors_may_keep_their_length(tiny_model: Path, tiny: Encoder) -> None:
    raw = open_encoder(EncoderConfig(str(tiny_model), normalize=False))
    assert not raw.fingerprint.normalized
    vectors = raw.encode_queries(["a heron", "reeds"])
    lengths = np.linalg.norm(vectors, axis=1, keepdims=True)
    assert (np.abs(lengths - 1) > 0.01).all()
    np.testing.assert_allclose(vectors / lengths, tiny.encode_queries(["a heron", "reeds"]), atol=1e-6)


def test_a_device_that_is_not_there(tiny_model: Path) -> None:
    with pytest.raises(FailedPrecondition, match="the device is cuda:99") as raised:
        open_encoder(EncoderConfig(str(tiny_model)), DeviceChoice("cuda", (99,)))
    assert raised.value.field == "device"


def test_a_relative_path_is_found_again_from_elsewhere(copy: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(copy.parent)
    built_with = open_encoder(EncoderConfig(name=f"./{copy.name}")).fingerprint
    monkeypatch.chdir("/")
    assert open_query_encoder(built_with).fingerprint == built_with


def test_a_moved_copy_is_the_same_encoder(tiny: Encoder, copy: Path) -> None:
    (copy / "README.md").write_text("changed")
    (copy / ".cache").mkdir()
    (copy / ".cache" / "downloaded").write_text("yesterday")
    moved = open_query_encoder(tiny.fingerprint, str(copy))
    assert moved.fingerprint.revision == tiny.fingerprint.revision
    np.testing.assert_array_equal(moved.encode_queries(["a heron"]), tiny.encode_queries(["a heron"]))


@pytest.mark.parametrize("name", ["model.safetensors", "tokenizer.json", "1_Pooling/config.json"])
def test_a_changed_file_is_another_encoder(tiny: Encoder, copy: Path, name: str) -> None:
    content = (copy / name).read_bytes()
    (copy / name).write_bytes(content[:-1] + bytes([content[-1] ^ 1]) if name.endswith("tensors") else content + b"\n")
    with pytest.raises(
        FailedPrecondition, match=rf"{copy}.* with revision 'xxh3:.*revision '{tiny.fingerprint.revision}'"
    ):
        open_query_encoder(tiny.fingerprint, str(copy))


@pytest.mark.parametrize("name", ["model.safetensors", "config.json", "tokenizer.json", "modules.json"])
def test_a_damaged_model(copy: Path, name: str) -> None:
    (copy / name).write_bytes((copy / name).read_bytes()[:40])
    with pytest.raises(NotFound, match=f"the encoder model '{copy}' cannot be loaded: ") as caught:
        open_encoder(EncoderConfig(str(copy)))
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_no_model(tmp_path: Path) -> None:
    with pytest.raises(NotFound, match=f"'{tmp_path}' cannot be loaded"):
        open_encoder(EncoderConfig(str(tmp_path)))


def test_by_hub_name_from_the_cache(tiny_model: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that was downloaded before is loaded without a network, and its commit is its revision."""
    commit = "0123456789abcdef0123456789abcdef01234567"
    cached = tmp_path / "models--owner--tiny"
    shutil.copytree(tiny_model, cached / "snapshots" / commit)
    (cached / "refs").mkdir()
    (cached / "refs" / "main").write_text(commit)
    monkeypatch.setenv("SENTENCE_TRANSFORMERS_HOME", str(tmp_path))
    encoder = open_encoder(EncoderConfig("owner/tiny"))
    assert encoder.fingerprint.name == "owner/tiny"
    assert encoder.fingerprint.revision == commit
    assert open_query_encoder(encoder.fingerprint).fingerprint == encoder.fingerprint

    later = "f" * 40
    shutil.copytree(tiny_model, cached / "snapshots" / later)
    (cached / "refs" / "main").write_text(later)
    assert open_encoder(EncoderConfig("owner/tiny")).fingerprint.revision == later
    assert open_encoder(EncoderConfig("owner/tiny", revision=commit)).fingerprint.revision == commit
    assert open_query_encoder(encoder.fingerprint).fingerprint == encoder.fingerprint


def test_a_hub_that_cannot_be_reached(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    with pytest.raises(NotFound, match="'owner/absent' cannot be loaded: ") as caught:
        open_encoder(EncoderConfig("owner/absent"))
    assert "network" in caught.value.mend


def test_code_of_a_model_is_not_run(copy: Path, tmp_path: Path) -> None:
    (copy / "own.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    modules = json.loads((copy / "modules.json").read_text())
    modules[1]["type"] = "own.Pooling"
    (copy / "modules.json").write_text(json.dumps(modules))
    with pytest.raises(NotFound):
        open_encoder(EncoderConfig(str(copy)))
    assert not (tmp_path / "ran").exists()
