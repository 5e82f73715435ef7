"""What is said of a file of settings that cannot be: the setting, the file, and what to write."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Protocol

import pytest


class Done(Protocol):
    def error(self) -> str: ...


Run = Callable[..., Done]


@pytest.mark.parametrize(
    ("config", "reason"),
    [
        (b"[chunk\nwords = 3", "cannot be read as TOML"),
        (b"\xff\xfe", "cannot be read as TOML"),
        (b"[chunk]\nwrods = 3", "there is no setting chunk.wrods; write chunk.words in "),
        (b"[chunks]\nwords = 3", "there is no setting chunks; write chunk in "),
        (b"[chunk]\nwords = 'many'", "chunk.words is 'many'"),
        (b"chunk = 3", "chunk is 3"),
        (b"[clean.langauge]", "there is no setting clean.langauge; write clean.language in "),
        (b"task_bytes = 3", "there is no setting task_bytes; write input.task_bytes in "),
        (b"[chunk]\nzzz = 1", "there is no setting chunk.zzz; leave out chunk.zzz in "),
        (
            b"[chunk]\noverlap = 200",
            "error: the overlap is 200; of 256 words at most 128 can overlap; correct chunk in ",
        ),
        (b"[index]\nkind = 'annoy'", "index.kind is 'annoy'"),
        (None, "no config file"),
    ],
)
def test_a_config_that_cannot_be_read(
    run: Run, source: Path, tmp_path: Path, config: bytes | None, reason: str
) -> None:
    path = tmp_path / "build.toml"
    if config is not None:
        path.write_bytes(config)
    arguments = ["--input", source, "--store", tmp_path / "store", "--encoder", "hashing", "--config", path]
    error = run("build", *arguments).error()
    assert reason in error
    assert str(path) in error
