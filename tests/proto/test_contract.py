"""The wire contract is linted, and the stubs are what it generates."""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
SCRIPTS = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])


def buf(*arguments: str) -> subprocess.CompletedProcess[str]:
    binary = shutil.which("buf", path=SCRIPTS)
    if binary is None:
        pytest.skip("buf is not installed (package buf-bin)")
    return subprocess.run([binary, *arguments], cwd=ROOT / "proto", capture_output=True, text=True, check=False)


def test_contract_is_linted() -> None:
    done = buf("lint")
    assert done.returncode == 0, done.stdout + done.stderr


def test_contract_is_formatted() -> None:
    done = buf("format", "--diff", "--exit-code")
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.skipif(importlib.util.find_spec("grpc_tools") is None, reason="grpcio-tools is not installed")
@pytest.mark.skipif(shutil.which("protoc-gen-mypy", path=SCRIPTS) is None, reason="mypy-protobuf is not installed")
def test_stubs_are_fresh(tmp_path: Path) -> None:
    generate = [sys.executable, str(ROOT / "proto" / "generate.py"), "--output", str(tmp_path)]
    subprocess.run(generate, check=True)
    subprocess.run([sys.executable, "-m", "compileall", "-q", tmp_path], check=True)
    subprocess.run(generate, check=True)  # over stubs that were in use
    assert contents(ROOT / "retriever" / "stubs") == contents(tmp_path), "run python proto/generate.py"


def contents(folder: Path) -> dict[str, str]:
    return {
        str(path.relative_to(folder)): path.read_text(encoding="utf-8")
        for path in folder.rglob("*.py*")
        if path.suffix in {".py", ".pyi"}
    }
