"""The examples of docs/filters.md find what it says, in one segment, in several, and in shards."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from datastore.build import build
from datastore.errors import InvalidArgument
from datastore.filters.language import MAX_CHARACTERS, MAX_CONDITIONS, MAX_DEPTH, parse
from datastore.store.reader import StoreReader

if TYPE_CHECKING:
    from tests.datastore.conftest import Config

GUIDE = (Path(__file__).parents[3] / "docs" / "filters.md").read_text(encoding="utf-8")
EXAMPLES = re.findall(r"^\| `([^`]+)` \|([^|]*)\|$", GUIDE, re.MULTILINE)


@pytest.fixture(
    scope="module", params=[(5, 1), (2, 1), (1, 1), (2, 2), (1, 3)], ids="{0[0]} a segment, {0[1]} shards".format
)
def shards(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory, config: Config
) -> Iterator[list[StoreReader]]:
    passages, count = request.param
    folder = tmp_path_factory.mktemp("guide")
    (documents,) = re.findall(r"```jsonl\n(.*?)```", GUIDE, re.DOTALL)
    (folder / "documents.jsonl").write_text(documents, encoding="utf-8")
    build([str(folder / "documents.jsonl")], folder / "store", config(segment={"passages": passages}))
    readers = [StoreReader(folder / "store", (index, count)) for index in range(count)]
    yield readers
    for reader in readers:
        reader.close()


@pytest.mark.parametrize(("where", "finds"), EXAMPLES)
def test_an_example_finds_what_the_guide_says(shards: list[StoreReader], where: str, finds: str) -> None:
    found, by_words = [], []
    for shard in shards:
        accept = [segment.filters.survivors(parse(where)) for segment in shard.segments]
        for segment, survivors in zip(shard.segments, accept, strict=True):
            found += [name.document_id for name in segment.columns.names(survivors.rows)]
        if shard.bm25 is not None:
            rows, _ = shard.bm25.search("stars algae", 10, accept=accept)
            ends = np.cumsum([survivors.passages for survivors in accept])
            for row in rows:
                at = int(np.searchsorted(ends, row, side="right"))
                inside = np.array([row - (ends[at] - accept[at].passages)])
                by_words += [name.document_id for name in shard.segments[at].columns.names(inside)]
    assert sorted(found) == finds.split()
    assert sorted(by_words) == finds.split(), "each document has one of the words"


def test_the_guide_has_examples_and_the_bounds() -> None:
    assert len(EXAMPLES) > 20
    for bound in (f"{MAX_CHARACTERS:,} characters", f"{MAX_CONDITIONS} conditions", f"{MAX_DEPTH} levels"):
        assert bound in GUIDE


def test_the_guide_shows_an_error_as_it_is() -> None:
    with pytest.raises(InvalidArgument) as caught:
        parse("document like 'astro%'")
    assert f"```\n{caught.value}\n```" in GUIDE
