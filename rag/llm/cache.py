"""A folder of models in a form that loads quickly. It may be deleted at any time: what is missing is made again."""

from __future__ import annotations

import logging
import os
import shutil
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import xxhash

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ModelCache:
    """Entries are folders, named by a key that changes with everything that their contents depend on."""

    root: Path

    @staticmethod
    def of_user() -> ModelCache:
        """Under $XDG_CACHE_HOME, or ~/.cache where that is not set."""
        return ModelCache(Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pergamon" / "models")

    def find(self, key: str) -> Path | None:
        folder = self.root / key
        return folder if folder.is_dir() else None

    def put(self, key: str, write: Callable[[Path], None]) -> None:
        """Have `write` fill a folder, and publish it whole by a rename. Without room or permission nothing is kept."""
        try:
            self.root.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self.root, prefix=".new-") as temporary:
                folder = Path(temporary) / key
                folder.mkdir()
                write(folder)
                for path in folder.iterdir():
                    _fsync(path)
                folder.rename(self.root / key)
        except OSError as error:
            if not (self.root / key).is_dir():  # else another process was first, with the same contents
                logger.warning("%s cannot be written, so the model loads slowly every time: %s", self.root, error)

    def remove(self, key: str) -> None:
        shutil.rmtree(self.root / key, ignore_errors=True)


def fingerprint_of(path: Path, *versions: str) -> str:
    """Of a file's bytes and of the versions of what reads it: 32 hexadecimal digits."""
    digest = xxhash.xxh3_128("\n".join(versions).encode())
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _fsync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
