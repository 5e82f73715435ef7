from __future__ import annotations

import sys
from pathlib import Path

import pytest

from datastore.documents import Document
from datastore.sources.inputs import open_inputs
from datastore.sources.python_compiled import COMPILED_MODULES
from datastore.sources.python_source import SourceReader, find_modules
from datastore.sources.rejects import RefusedError, Rejects


def read(value: str, tmp_path: Path) -> dict[str, Document]:
    rejects = Rejects(tmp_path / "rejects")
    documents = {document.document_id: document for document in open_inputs([value], rejects)}
    assert rejects.total == 0
    return documents


@pytest.fixture(scope="module")
def everything(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Document]:
    return read("pydoc:", tmp_path_factory.mktemp("pydoc"))


def test_the_whole_documentation(everything: dict[str, Document]) -> None:
    assert len(everything) > 2_000
    for name, kind in {
        "asyncio.Queue": "class",
        "builtins": "module",
        "collections.abc.Mapping": "class",
        "collections.deque": "class",
        "concurrent.futures.Future": "class",
        "json": "module",
        "json.JSONDecoder": "class",
        "json.loads": "function",
        "math.gcd": "function",
        "os.path.join": "function",
        "str": "class",
    }.items():
        document = everything[f"pydoc:{name}"]
        assert (document.title, document.source, document.attributes) == (name, "pydoc", {"kind": kind})
    assert "def " not in everything["pydoc:json.loads"].text
    assert everything["pydoc:json.loads"].text.startswith("loads(s, *, cls=None")
    assert "maxsize" in everything["pydoc:asyncio.Queue"].text
    assert "    put_nowait(self, item)\n\n    Put an item" in everything["pydoc:asyncio.Queue"].text


def test_private_parts_tests_and_twins_are_left_out(everything: dict[str, Document]) -> None:
    parts = {part for name in everything if ":topic:" not in name for part in name.removeprefix("pydoc:").split(".")}
    assert not {part for part in parts if part.startswith("_")}
    assert not {"asyncio.queues.Queue", "idlelib", "antigravity", "this", "ntpath.join"} & {
        name.removeprefix("pydoc:") for name in everything
    }


def test_topics_come_first_where_the_installation_has_them(everything: dict[str, Document]) -> None:
    pytest.importorskip("pydoc_data.topics", reason="this Python has no pydoc_data.topics")
    kinds = [document.attributes["kind"] for document in everything.values()]
    topics = kinds.count("topic")
    assert kinds[:topics] == ["topic"] * topics
    assert topics > 50
    document = everything["pydoc:topic:with"]
    assert document.title == 'The "with" statement'
    assert document.text.startswith('The "with" statement is used')


def test_an_installation_without_topics(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pydoc_data.topics", None)
    documents = read("pydoc:50", tmp_path)
    assert len(documents) == 50
    assert "topic" not in {document.attributes["kind"] for document in documents.values()}


def test_a_limit_takes_topics_then_the_longest_in_the_same_order(
    everything: dict[str, Document], tmp_path: Path
) -> None:
    limited = read("pydoc:200", tmp_path)
    assert len(limited) == 200
    assert list(limited.items()) == [item for item in everything.items() if item[0] in limited]
    rest = [len(document.text) for name, document in everything.items() if name not in limited]
    taken = [len(document.text) for document in limited.values() if document.attributes["kind"] != "topic"]
    assert min(taken) >= max(rest)


def test_modules_and_a_limit(everything: dict[str, Document], tmp_path: Path) -> None:
    chosen = read("pydoc: json , collections.abc", tmp_path)
    assert {document.title.split(".")[0] for document in chosen.values()} == {"json", "collections"}
    assert "pydoc:collections.deque" not in chosen
    assert chosen.items() <= everything.items()
    assert len(read("pydoc:3,json", tmp_path)) == 3
    assert len(read("pydoc:1000000,json.decoder", tmp_path)) < 100
    assert "pydoc:decimal.Decimal" in read("pydoc:decimal", tmp_path)


def test_reading_runs_no_module_of_the_library(tmp_path: Path) -> None:
    """A library whose modules fail when they run is documented all the same."""
    package = tmp_path / "library" / "pack"
    (package / "tests").mkdir(parents=True)
    (package / "tests" / "__init__.py").write_text('"""Not documented."""')
    (package / "__init__.py").write_text(
        '"""A package."""\nfrom .star import *\nfrom pack._private import Hidden, helper as _helper\nraise SystemExit\n'
    )
    (package / "star.py").write_text('__all__ = ["shown"]\ndef shown():\n    """S."""\ndef kept():\n    """K."""\n')
    (package / "_private.py").write_text(
        'class Hidden(Exception):\n    def method(self, at: int = 1) -> str:\n        """M."""\n'
        'def helper():\n    """H."""\n'
    )
    (tmp_path / "library" / "plain.py").write_text(
        'if True:\n    async def first(*, a): "F."\nelse:\n    def second(): "G."\n'
        'def bare(): pass\nclass Bare: pass\nclass _Private: "P."\n'
    )
    modules = find_modules(tmp_path / "library", ["pack", "plain", "absent"])
    reader = SourceReader(modules)
    entries = [(entry.kind, entry.name, entry.text) for module in modules for entry in reader.entries(module)]
    assert entries == [
        ("module", "pack", "A package."),
        ("class", "pack.Hidden", "class Hidden(Exception)\n\n    method(self, at: int=1) -> str\n\n    M."),
        ("function", "pack.shown", "shown()\n\nS."),
        ("function", "pack.star.kept", "kept()\n\nK."),
        ("function", "plain.first", "first(*, a)\n\nF."),
        ("function", "plain.second", "second()\n\nG."),
    ]


@pytest.mark.parametrize("content", [b"def broken(:\n", b"# coding: no-such\n", b'"""caf\xe9"""\n', b"a = 1\0\n"])
def test_a_file_that_is_not_python_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "pack").mkdir()
    (tmp_path / "pack" / "__init__.py").write_bytes(content)
    (module,) = find_modules(tmp_path, ["pack"])
    with pytest.raises(RefusedError) as caught:
        list(SourceReader([module]).entries(module))
    assert caught.value.reason == "not Python"


def test_signatures_of_compiled_functions(everything: dict[str, Document]) -> None:
    assert everything["pydoc:math.isqrt"].text.startswith("isqrt(n, /)\n\n")
    assert everything["pydoc:sorted"].text.startswith("sorted(iterable, /, *, key=None, reverse=False)\n\n")
    assert "\n\n    index(value, start=0, stop=sys.maxsize, /)\n\n" in everything["pydoc:list"].text
    assert not [name for name, document in everything.items() if "($" in document.text.partition("\n")[0]]


def test_compiled_modules_belong_to_the_library() -> None:
    assert COMPILED_MODULES.keys() <= sys.stdlib_module_names
