"""Cleaning as a part of building: what is left out, what is said of it, and that workers have no say."""

from __future__ import annotations

import contextlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from datastore.build import build
from datastore.config import load_config
from datastore.errors import InvalidArgument, NotFound
from datastore.keeping.addition import add
from datastore.store.manifest import Manifest, read_manifest
from datastore.store.reader import StoreReader

if TYPE_CHECKING:
    from tests.datastore.conftest import Config

BASE = (
    "The committee met on Tuesday and discussed in great detail the proposal to extend the harbour wall by forty "
    "metres before the winter storms arrive on the coast."
)
TEXTS = {
    "kept": BASE,
    "same": BASE,
    "near": f"{BASE} Then everybody went home.",
    "german": "Der Ausschuss tagte am Dienstag und besprach den Vorschlag, die Hafenmauer zu verlängern.",
    "quiz": "The quiz of today: who was the first person to walk on the moon? Answers to quiz@example.org, please.",
    "mail": "Write to jane.doe@example.com, from the host 10.0.0.1, about the harbour and the storms of this winter.",
}
CLEAN: dict[str, Any] = {
    "personal": {"mask": ["email", "ipv4"]},
    "language": {"keep": ["en"]},
    "duplicates": {"shingle_words": 13},
    "contamination": {"questions": ["questions.txt"], "rephrased": {}},
}


@pytest.fixture(autouse=True)
def files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "questions.txt").write_text("Who was the first person to walk on the moon?\n")
    write(tmp_path / "in.jsonl", TEXTS)


def write(path: Path, texts: dict[str, str]) -> None:
    path.write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in texts.items()))


def texts_of(store: Path) -> dict[str, str]:
    with contextlib.closing(StoreReader(store)) as reader:
        return {
            passage.document_id: passage.text
            for segment in reader.segments
            for passage in segment.passages.get(range(segment.live.passages))
        }


def rejects(store: Path, name: str = "rejects-1.jsonl") -> list[dict[str, Any]]:
    return [json.loads(line) for line in (store / name).read_text().splitlines()]


@pytest.mark.parametrize("task_bytes", [1, None])
def test_a_build_leaves_out_what_it_should_in_any_tasks(config: Config, tmp_path: Path, task_bytes: int | None) -> None:
    settings = config(clean=CLEAN, input={"task_bytes": task_bytes})
    manifest = build(["in.jsonl"], tmp_path / "store", settings)
    assert manifest.rejects.by_reason == {"contaminated": 1, "exact duplicate": 1, "language": 1, "near duplicate": 1}
    assert manifest.masked == {"email": 1, "ipv4": 1}
    assert read_manifest(tmp_path / "store") == manifest
    assert texts_of(tmp_path / "store") == {
        "kept": BASE,
        "mail": "Write to [EMAIL], from the host [IPV4], about the harbour and the storms of this winter.",
    }
    said = rejects(tmp_path / "store")
    assert [(each["line"], each["reason"]) for each in said] == [
        (2, "exact duplicate"),
        (3, "near duplicate"),
        (4, "language"),
        (5, "contaminated"),
    ]
    assert said[0]["detail"] == "the text of the document 'kept', which came before"
    assert "quiz@example.org" not in json.dumps(said), "personal data is masked in what was left out as well"
    assert not (tmp_path / "store" / "work").exists()


def test_nothing_is_cleaned_unless_asked(config: Config, tmp_path: Path) -> None:
    manifest = build(["in.jsonl"], tmp_path / "store", config())
    assert (manifest.rejects.total, manifest.masked) == (0, {})
    assert texts_of(tmp_path / "store") == TEXTS


def test_the_first_stays_unless_its_id_was_taken(config: Config, tmp_path: Path) -> None:
    lines = [("a", "Some text of its own"), ("a", BASE), ("b", BASE), ("c", BASE)]
    Path("in.jsonl").write_text("".join(json.dumps({"_id": name, "text": text}) + "\n" for name, text in lines))
    settings = config(clean={"duplicates": {"near": False}}, input={"max_rejected_share": 0.3, "task_bytes": 1})
    manifest = build(["in.jsonl"], tmp_path / "store", settings)
    assert texts_of(tmp_path / "store") == {"a": "Some text of its own", "b": BASE}
    assert manifest.rejects.by_reason == {"duplicate id": 1, "exact duplicate": 1}


def test_a_build_is_not_gone_on_with_for_other_questions(
    config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as broken:
        broken.setattr("datastore.build.write_template", killed)
        with pytest.raises(KeyboardInterrupt):
            build(["in.jsonl"], tmp_path / "store", config(clean=CLEAN))
    Path("questions.txt").write_text("Who would extend the harbour wall by forty metres?\n")
    notes: list[str] = []
    manifest = build(["in.jsonl"], tmp_path / "store", config(clean=CLEAN), on_note=notes.append)
    assert "questions.txt" in notes[0]
    assert manifest.rejects.by_reason == {"contaminated": 3, "language": 1}
    assert "quiz" in texts_of(tmp_path / "store")


def test_an_input_that_is_cleaned_away(config: Config, tmp_path: Path) -> None:
    with pytest.raises(InvalidArgument, match=r"all 6 records were rejected \(language 6\)"):
        build(["in.jsonl"], tmp_path / "store", config(clean={"language": {"keep": ["ja"]}}))


def test_additions_are_cleaned_one_by_one(config: Config, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    store = tmp_path / "store"
    build(["in.jsonl"], store, config(clean=CLEAN))
    write(
        tmp_path / "more.jsonl",
        {
            "m1": TEXTS["quiz"],
            "m2": "Please ask me@example.com, or the host 10.0.0.2, when the new library of the town opens.",
            "m3": TEXTS["german"],
        },
    )
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    addition = add(store, ["../more.jsonl"], encoder="hashing")
    assert addition.rejects.by_reason == {"contaminated": 1, "language": 1}
    assert addition.manifest.masked == {"email": 2, "ipv4": 2}
    assert texts_of(store)["m2"].startswith("Please ask [EMAIL]")
    assert "quiz@example.org" not in json.dumps(rejects(store, "rejects-2.jsonl"))


@pytest.mark.parametrize(
    ("clean", "error", "message"),
    [
        ({"contamination": {"questions": ["gone.txt"]}}, NotFound, "gone.txt"),
        ({"language": {"keep": ["klingon"]}}, InvalidArgument, "'klingon' cannot be identified"),
        ({"classifier": {"model": "gone.bin", "label": "x"}}, NotFound, "gone.bin"),
        ({"personal": {"hook": "no.such:thing"}}, InvalidArgument, "masking hook"),
    ],
)
def test_settings_that_cannot_be_followed_stop_a_build_at_once(
    config: Config, tmp_path: Path, clean: dict[str, Any], error: type[Exception], message: str
) -> None:
    with pytest.raises(error, match=message):
        build(["in.jsonl"], tmp_path / "store", config(clean=clean))
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize(
    ("toml", "where"),
    [
        ("[clean]\ngofer = {}", "clean.gofer"),
        ("[clean.gopher]\nmin_words = -1", "clean.gopher.min_words"),
        ("[clean.contamination]\nquestions = []", "clean.contamination.questions"),
        ("[clean.classifier]\nlabel = 'x'", "clean.classifier.model"),
        ("[clean.duplicates]\nmin_jaccard = 0", "clean.duplicates.min_jaccard"),
        ("[clean.personal]\nmask = ['names']", "clean.personal.mask.0"),
    ],
)
def test_settings_that_are_none_are_named(tmp_path: Path, toml: str, where: str) -> None:
    (tmp_path / "build.toml").write_text(toml)
    with pytest.raises(InvalidArgument) as caught:
        load_config(tmp_path / "build.toml", {})
    assert caught.value.field == where


def test_options_are_put_over_tables(tmp_path: Path) -> None:
    (tmp_path / "build.toml").write_text("[clean.language]\nmin_confidence = 0.5\n[clean.gopher]\n")
    options = {"clean": {"language": {"keep": ["de"]}, "duplicates": {"exact": True}, "personal": None}}
    clean = load_config(tmp_path / "build.toml", options).clean
    assert clean.language is not None
    assert (clean.language.keep, clean.language.min_confidence) == (("de",), 0.5)
    assert clean.duplicates is not None
    assert clean.gopher is not None
    assert clean.personal is None


def test_a_manifest_without_cleaning_still_opens(flat_store: Path) -> None:
    manifest: Manifest = read_manifest(flat_store)
    assert manifest.config.clean.duplicates is None
    assert manifest.masked == {}


def test_an_empty_table_has_its_defaults_and_none_is_not_given() -> None:
    clean = load_config(None, {"clean": {"personal": {}, "gopher": None, "language": {"keep": None}}}).clean
    assert clean.personal is not None
    assert "email" in clean.personal.mask
    assert clean.gopher is None
    assert clean.language is None
