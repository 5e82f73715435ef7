"""Makes the Python stubs of the wire contract: `python proto/generate.py`.

The contract's files import one another from this folder (`pergamon/common/v1/…`), which is also what users of other
languages give to protoc as `-I`. In Python the stubs live in `retriever.stubs`, since `pergamon` is the command's own
package: protoc keeps the canonical file names in the descriptors, and this script moves the Python imports.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from pathlib import Path

CONTRACT = Path(__file__).resolve().parent
STUBS = CONTRACT.parent / "retriever" / "stubs"
STUBS_PACKAGE = "retriever.stubs"


def generate(output: Path) -> None:
    """Write the stubs, with their types, and the packages around them into the folder `output`."""
    output.mkdir(parents=True, exist_ok=True)
    sources = sorted(str(path.relative_to(CONTRACT)) for path in CONTRACT.glob("pergamon/**/*.proto"))
    # The mypy plugins are scripts beside the interpreter, which need not be on the PATH of who calls this.
    scripts = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    kinds = ("python_out=", "grpc_python_out=", "mypy_out=quiet:", "mypy_grpc_out=quiet,only_sync:")
    subprocess.run(  # noqa: S603 - the interpreter itself, with arguments from this file
        [sys.executable, "-m", "grpc_tools.protoc", "-I.", *(f"--{kind}{output}" for kind in kinds), *sources],
        cwd=CONTRACT,
        env={**os.environ, "PATH": scripts},
        check=True,
    )
    stubs = [path for path in output.rglob("*_pb2*") if path.suffix in {".py", ".pyi"}]
    for stub in stubs:
        stub.write_text(_move_imports(stub.read_text(encoding="utf-8")), encoding="utf-8")
    for folder in {folder for stub in stubs for folder in stub.parents if folder.is_relative_to(output)}:
        (folder / "__init__.py").touch()


def _move_imports(code: str) -> str:
    return re.sub(r"^(from|import) pergamon\.", rf"\1 {STUBS_PACKAGE}.pergamon.", code, flags=re.MULTILINE)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Make the Python stubs of the wire contract.")
    parser.add_argument("--output", type=Path, default=STUBS, help="the folder to write into (default: %(default)s)")
    generate(parser.parse_args().output.resolve())
