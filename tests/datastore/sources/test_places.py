"""Inputs that are not on this machine's disk: over S3, spoken with a server on loopback, and in fsspec's memory."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from bench.fuzz_files import files
from datastore.documents import Document
from datastore.errors import FailedPrecondition, InvalidArgument, NotFound, PergamonError
from datastore.sources.inputs import cut_inputs, open_inputs
from datastore.sources.rejects import Rejects
from tests.datastore.sources.s3_server import KEY, SECRET, serving

OBJECTS = {
    **{f"corpora/all/{name}": content for name, content in files().items()},
    "corpora/all/deep/er/é a.jsonl": b'{"text": "one"}\n\n{"text": "three"}\n',
    "corpora/all/beir/corpus.jsonl": b'{"_id": "b1", "text": "of BEIR"}\n',
    "corpora/all/beir/queries.jsonl": b'{"_id": "q1", "text": "a query"}\n',
    "corpora/all/picture.png": b"\x89PNG",
}
READ = """
import json, sys
from pathlib import Path
from datastore.sources.inputs import cut_inputs, open_inputs
from datastore.sources.rejects import Rejects
from datastore.errors import PergamonError
for value in sys.argv[1:]:
    try:
        found = [[d.document_id, d.text, d.source] for d in open_inputs([value], Rejects(Path("/dev/null")))]
        print(json.dumps({"found": found, "pieces": [[p.location, p.start] for p in cut_inputs([value], 10)]}))
    except PergamonError as error:
        print(json.dumps({"error": type(error).__name__, "says": str(error)}))
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("places")
    for name, content in OBJECTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root / "corpora" / "all"


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serving(OBJECTS) as url:
        yield url


def read(*inputs: Path | str) -> list[Document]:
    with Rejects(Path(os.devnull)) as rejects:
        return list(open_inputs([str(value) for value in inputs], rejects))


def read_s3(server: str, *inputs: str, secret: str = SECRET) -> list[dict[str, object]]:
    """In a process of its own, as the client of S3 reads its environment once."""
    environment = {
        **os.environ,
        "AWS_ENDPOINT_URL": server,
        "AWS_ACCESS_KEY_ID": KEY,
        "AWS_SECRET_ACCESS_KEY": secret,
        "AWS_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    done = subprocess.run([sys.executable, "-c", READ, *inputs], env=environment, capture_output=True, check=True)
    assert secret.encode() not in done.stdout + done.stderr
    return [json.loads(line) for line in done.stdout.splitlines()]


def test_a_bucket_s_folder_reads_as_the_same_folder_on_disk(folder: Path, server: str) -> None:
    whole, pattern, file, nothing, none = read_s3(
        server,
        "s3://corpora/all",
        "s3://corpora/all/**/*.jsonl",
        "s3://corpora/all/deep/er/é a.jsonl",
        "s3://corpora/absent",
        "s3://corpora/all/absent.jsonl",
    )
    assert whole["found"] == [[item.document_id, item.text, item.source] for item in read(folder)]
    assert [item[0] for item in file["found"]] == ["é a.jsonl:1", "é a.jsonl:3"]  # type: ignore[attr-defined]
    assert file["pieces"] == [["s3://corpora/all/deep/er/é a.jsonl", 0], ["s3://corpora/all/deep/er/é a.jsonl", 16]]
    assert {"b1", "deep/er/é a.jsonl:1"} < {item[0] for item in pattern["found"]}  # type: ignore[attr-defined]
    assert (nothing["error"], none["error"]) == ("NotFound", "NotFound")


def test_a_wrong_secret_is_refused_and_not_shown(server: str) -> None:
    (refused,) = read_s3(server, "s3://corpora/all/a.txt", secret="not the right one")
    assert refused["error"] == "InvalidArgument"
    assert "credentials in the environment" in str(refused["says"])


@pytest.mark.parametrize("form", ["memory://all", "memory://all/", "file://{folder}"])
def test_other_schemes_read_the_same(form: str, folder: Path) -> None:
    memory = fsspec.filesystem("memory")
    for name, content in OBJECTS.items():
        memory.pipe(f"/{name.removeprefix('corpora/')}", content)
    assert read(form.format(folder=folder)) == read(folder)


def test_a_query_is_not_part_of_a_name(tmp_path: Path) -> None:
    with Rejects(tmp_path / "rejects") as rejects:
        from datastore.sources.rejects import RefusedError

        rejects.add("https://host/a.txt?signature=secret", 1, RefusedError("no text", ""))
    assert json.loads((tmp_path / "rejects").read_text())["file"] == "https://host/a.txt"


@pytest.mark.parametrize(
    ("value", "error", "problem"),
    [
        ("s3://key:hidden@corpora/all/", InvalidArgument, "has a user or password in it"),
        ("nosuch://corpora", InvalidArgument, "Protocol not known: nosuch"),
        ("sftp://host/folder", FailedPrecondition, "paramiko"),
        ("memory://nothing/there", NotFound, "there is nothing at 'memory://nothing/there'"),
        ("memory://pictures", InvalidArgument, "holds no file ending in .jsonl"),
        ("hf:a b", InvalidArgument, "names no dataset"),
    ],
)
def test_what_cannot_be_read_is_said(value: str, error: type[PergamonError], problem: str) -> None:
    fsspec.filesystem("memory").pipe("/pictures/a.png", b"")
    with pytest.raises(error, match=problem) as caught:
        cut_inputs([value])
    assert caught.value.field == "input"
    assert "hidden" not in str(caught.value)
