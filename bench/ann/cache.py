"""The page cache of an index, emptied, for cold measurements. Needs no rights beyond owning the files."""

from __future__ import annotations

import ctypes
import os
from pathlib import Path

_MADV_PAGEOUT = 21  # Linux 5.4


def drop_page_cache(folder: Path) -> None:
    """Have the kernel forget the pages of every file in `folder`, those that this process has mapped included."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    _page_out({str(path.resolve()) for path in paths})
    for path in paths:
        descriptor = os.open(path, os.O_RDONLY)
        try:
            os.fsync(descriptor)  # a dirty page would stay
            os.posix_fadvise(descriptor, 0, 0, os.POSIX_FADV_DONTNEED)
        finally:
            os.close(descriptor)


def fill_page_cache(folder: Path) -> None:
    """Read every file of `folder` once, so that what fits is cached."""
    for path in folder.rglob("*"):
        if path.is_file():
            with path.open("rb", buffering=0) as file:
                while file.read(1 << 22):
                    pass


def _page_out(paths: set[str]) -> None:
    """Take mapped pages out of this process: as long as a page is mapped, the kernel keeps it in its cache."""
    library = ctypes.CDLL(None, use_errno=True)
    for line in Path("/proc/self/maps").read_text(encoding="utf-8", errors="replace").splitlines():
        fields = line.split(maxsplit=5)
        if len(fields) == 6 and fields[5] in paths:
            start, end = (int(part, 16) for part in fields[0].split("-"))
            library.madvise(ctypes.c_void_p(start), ctypes.c_size_t(end - start), _MADV_PAGEOUT)


def cached_bytes(path: Path) -> int:
    """Bytes of a file that are in the page cache."""
    size = path.stat().st_size
    if not size:
        return 0
    library = ctypes.CDLL(None, use_errno=True)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *[ctypes.c_int] * 3, ctypes.c_long]
    page = os.sysconf("SC_PAGE_SIZE")
    pages = (ctypes.c_ubyte * -(-size // page))()
    with path.open("rb") as file:
        address = library.mmap(None, size, 0, 1, file.fileno(), 0)
    try:
        if library.mincore(ctypes.c_void_p(address), ctypes.c_size_t(size), pages):
            raise OSError(ctypes.get_errno(), "mincore")
    finally:
        library.munmap(ctypes.c_void_p(address), ctypes.c_size_t(size))
    return page * sum(value & 1 for value in pages)
