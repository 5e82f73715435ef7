"""Noticing that a store has another manifest than before."""

from __future__ import annotations

from pathlib import Path

from datastore.store.manifest import MANIFEST_NAME


class ManifestWatch:
    """Looks at the manifest's place in the file system, not into it; for one thread."""

    def __init__(self, store: Path) -> None:
        self._path = store / MANIFEST_NAME
        self._seen = self._look()

    def changed(self) -> bool:
        """Whether the manifest is another than at the call before, or, at first, than when this was made."""
        before, self._seen = self._seen, self._look()
        return self._seen != before

    def _look(self) -> tuple[int, ...] | None:
        try:
            status = self._path.stat()
        except OSError:
            return None
        # A manifest is replaced, never written into; an inode's number may come again, and so may a time.
        return status.st_dev, status.st_ino, status.st_mtime_ns, status.st_size
