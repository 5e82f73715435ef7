"""Inputs that are not on this machine's disk: in a bucket and on the web, served on loopback; in fsspec's memory."""

from __future__ import annotations

import json
import os
import re
import socket
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import fsspec
import pytest

from bench.fuzz_files import files
from datastore.build import build
from datastore.config import InputConfig, load_config
from datastore.documents import Document
from datastore.errors import FailedPrecondition, InvalidArgument, NotFound, PergamonError, Unavailable
from datastore.sources.inputs import cut_inputs, open_inputs, read_piece
from datastore.sources.rejects import Rejects
from datastore.sources.remote_errors import told
from datastore.store.manifest import read_manifest

OBJECTS = {
    **{f"corpora/all/{name}": content for name, content in files().items()},
    "corpora/all/deep/er/é a.jsonl": b'{"text": "one"}\n\n{"text": "three"}\n',
    "corpora/all/beir/corpus.jsonl": b'{"_id": "b1", "text": "of BEIR"}\n',
    "corpora/all/beir/queries.jsonl": b'{"_id": "q1", "text": "a query"}\n',
    "corpora/all/picture.png": b"\x89PNG",
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("places")
    for name, content in OBJECTS.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_bytes(content)
    return root / "corpora" / "all"


@pytest.fixture(scope="module")
def bucket(s3: Path) -> Path:
    """The bucket `corpora`, with all objects."""
    for name, content in OBJECTS.items():
        (s3 / name).parent.mkdir(parents=True, exist_ok=True)
        (s3 / name).write_bytes(content)
    return s3 / "corpora"


def read(*inputs: Path | str) -> list[Document]:
    with Rejects(Path(os.devnull)) as rejects:
        return list(open_inputs([str(value) for value in inputs], rejects))


@pytest.mark.usefixtures("bucket")
def test_a_bucket_s_folder_reads_as_the_same_folder_on_disk(folder: Path) -> None:
    assert read("s3://corpora/all") == read(folder)
    name = "s3://corpora/all/deep/er/é a.jsonl"
    assert [document.document_id for document in read(name)] == ["é a.jsonl:1", "é a.jsonl:3"]
    assert [(piece.location, piece.start) for piece in cut_inputs([name], 10)] == [(name, 0), (name, 16)]
    pattern = {document.document_id for document in read("s3://corpora/all/**/*.jsonl")}
    assert {"b1", "deep/er/é a.jsonl:1"} < pattern
    local, remote = cut_inputs([str(folder)], 10), cut_inputs(["s3://corpora/all"], 10)
    assert len(remote) > len(OBJECTS)  # row groups and runs of lines, read by ranges
    with Rejects(Path(os.devnull)) as rejects:
        for one, other in zip(local, remote, strict=True):
            there, here = (list(read_piece(piece, rejects, InputConfig())) for piece in (other, one))
            assert [found.document for found in there] == [found.document for found in here]


@pytest.mark.usefixtures("bucket")
@pytest.mark.parametrize("absent", ["corpora/absent", "corpora/all/absent.jsonl", "no-bucket/all", "no-bucket/a.txt"])
def test_what_is_not_in_a_bucket_is_not_found(absent: str) -> None:
    with pytest.raises(NotFound, match=absent.partition("/")[0]):
        cut_inputs([f"s3://{absent}"])


def test_a_wrong_secret_is_refused_and_not_shown(s3: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (s3 / "guarded" / "a.txt").write_bytes(b"a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "not-the-right-one")
    for url in ("s3://guarded/a.txt", "s3://guarded"):
        with pytest.raises(InvalidArgument, match="credentials in the environment") as refused:
            cut_inputs([url])
        assert "right-one" not in str(refused.value)


def test_a_build_from_a_bucket_is_the_one_from_disk(bucket: Path, folder: Path, tmp_path: Path) -> None:
    config = load_config(None, {"encoder": {"name": "hashing"}, "input": {"max_rejected_share": 1.0}})
    for name, source in (("local", str(folder)), ("remote", "s3://corpora/all")):
        build([source], tmp_path / name, config)
    local, remote = (read_manifest(tmp_path / name) for name in ("local", "remote"))
    differing = [a.path for a, b in zip(local.files(), remote.files(), strict=True) if a != b]
    # RocksDB's and Lucene's files and the log depend on the run, rejects name the place; vectors and columns do not.
    assert local.passages == remote.passages > len(OBJECTS) // 2
    assert not [path for path in differing if not re.search(r"/(passages|bm25)/|^(rejects|build-log)", path)]


@pytest.mark.parametrize(
    ("said", "error"),
    [
        (
            "When listing objects under key '' in bucket 'b': AWS Error NETWORK_CONNECTION during ListObjectsV2",
            Unavailable,
        ),
        ("AWS Error SLOW_DOWN during GetObject operation: Please reduce your request rate", Unavailable),
        ("AWS Error UNKNOWN (HTTP status 503) during HeadObject operation: No response body.", Unavailable),
        ("AWS Error ACCESS_DENIED during GetObject operation: Access Denied", InvalidArgument),
        ("AWS Error UNKNOWN (HTTP status 403) during HeadObject operation", InvalidArgument),
        ("AWS Error NO_SUCH_BUCKET during ListObjectsV2 operation", NotFound),
        ("AWS Error NO_SUCH_KEY during GetObject operation", None),
    ],
)
def test_what_arrow_s_client_says(said: str, error: type[PergamonError] | None) -> None:
    """Its retries take ten seconds each, so that of these the messages alone are tested."""
    assert type(told("s3://b/key", OSError(said))) is (error or type(None))


class _Failing(BaseHTTPRequestHandler):
    """A web server that answers with the status in its path."""

    def do_GET(self) -> None:
        self.send_response(int(self.path.split("/")[1]))
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_HEAD = do_GET  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.mark.parametrize(
    ("path", "error", "problem"),
    [
        ("404/a.jsonl", NotFound, "there is nothing at"),
        ("503/a.jsonl", Unavailable, "cannot be reached: 503"),
        ("500/folder/", Unavailable, "cannot be reached: 500"),
        ("429/a.parquet", Unavailable, "cannot be reached: 429"),
        ("403/a.jsonl?signature=hidden", InvalidArgument, "credentials in the environment"),
    ],
)
def test_what_a_web_server_answers(path: str, error: type[PergamonError], problem: str) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), _Failing) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            with pytest.raises(error, match=problem) as caught:
                cut_inputs([f"http://127.0.0.1:{server.server_port}/{path}"])
        finally:
            server.shutdown()
            thread.join()
    assert "signature" not in caught.value.problem


def test_a_web_server_that_is_not_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{taken.getsockname()[1]}"
        for value in (f"{url}/a.jsonl", f"{url}/folder/"):
            with pytest.raises(Unavailable, match=r"cannot be reached.*check the network"):
                cut_inputs([value])


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
