"""A replaced manifest is noticed, once."""

from __future__ import annotations

import os
from pathlib import Path

from datastore.store.durable import replace_file
from datastore.store.watch import ManifestWatch


def test_it_notices_each_change_once(tmp_path: Path) -> None:
    path = tmp_path / "manifest.json"
    replace_file(path, b"one")
    watch = ManifestWatch(tmp_path)
    assert not watch.changed()
    times = path.stat()
    replace_file(path, b"two")  # of the same size
    os.utime(path, ns=(times.st_atime_ns, times.st_mtime_ns))  # and, by a coarse clock, of the same time
    assert watch.changed()
    assert not watch.changed()
    path.unlink()
    assert watch.changed()
    assert not watch.changed()
    replace_file(path, b"two")
    assert watch.changed()
