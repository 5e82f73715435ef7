"""The Java machine as a guest in a Python process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from datastore.bm25.jvm import HEAP_VARIABLE, calls, java_class

if TYPE_CHECKING:
    from tests.datastore.bm25.conftest import MakeIndex

BUILD_AND_SEARCH = """
import tempfile
from pathlib import Path
from datastore.bm25.index import Bm25Index, Bm25Writer

folder = Path(tempfile.mkdtemp(), "bm25")
with Bm25Writer(folder) as writer:
    writer.add(["red fox", "blue hen"])
index = Bm25Index([folder], "english")
assert index.search("fox", 5)[0].tolist() == [0]
"""


def _python(
    code: str, environment: Mapping[str, str] | None = None, timeout: float = 60
) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env={**os.environ, **(environment or {})},
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
    )


def test_it_prints_nothing() -> None:
    done = _python(BUILD_AND_SEARCH)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_it_leaves_no_files_behind() -> None:
    done = _python(BUILD_AND_SEARCH + "import os\nprint(os.getpid())\n")
    assert done.returncode == 0
    # Where Java puts its socket and its counters, whatever TMPDIR says.
    process = done.stdout.strip()
    assert not [
        path
        for path in (*Path("/tmp").glob(".java_pid*"), *Path("/tmp").glob("hsperfdata_*/*"))
        if path.name in (f".java_pid{process}", process)
    ]


def test_paths_beyond_ascii() -> None:
    code = BUILD_AND_SEARCH.replace('"bm25")', '"größe 東京")')
    assert _python(code, {"LC_ALL": "", "LANG": ""}).returncode == 0
    assert "FailedPrecondition: BM25 index" in _python(code, {"LC_ALL": "POSIX"}).stderr


def test_short_lived_threads_leave_nothing_behind(make_index: MakeIndex) -> None:
    index = make_index(["red fox"])
    with calls("the test"):
        java_threads = java_class("java.lang.management.ManagementFactory").getThreadMXBean()
        before = int(java_threads.getThreadCount())
    for _ in range(500):
        thread = threading.Thread(target=index.search, args=("fox", 1))
        thread.start()
        thread.join()
    with calls("the test"):
        assert int(java_threads.getThreadCount()) <= before + 20


def test_a_forked_child_is_refused(make_index: MakeIndex) -> None:
    index = make_index(["red fox"])
    reader, writer = os.pipe()
    with ThreadPoolExecutor(4) as pool:  # the child drops what these threads keep
        assert len(list(pool.map(lambda _: index.search("fox", 1), range(20)))) == 20
        child = os.fork()
        if child == 0:  # no assertion, no cleanup of pytest here
            try:
                index.search("fox", 1)
            except BaseException as error:
                os.write(writer, f"{type(error).__name__}: {error}".encode())
            os._exit(0)
    os.close(writer)
    assert os.waitpid(child, 0)[1] == 0
    with os.fdopen(reader) as message:
        assert message.read().startswith("FailedPrecondition: process ")


def test_interrupts_reach_python() -> None:
    code = BUILD_AND_SEARCH + "\nprint('ready', flush=True)\nwhile True:\n    index.search('fox', 5)\n"
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    try:
        _, trace = process.communicate(timeout=60)
    finally:
        process.kill()
    assert trace.rstrip().endswith("KeyboardInterrupt")


def test_a_process_ends_while_threads_search() -> None:
    code = BUILD_AND_SEARCH + (
        "\nimport threading, time\n"
        "from datastore.errors import Unavailable\n"
        "def forever():\n"
        "    try:\n        while True:\n            index.search('fox hen', 5)\n"
        "    except Unavailable:\n        pass\n"
        "for _ in range(4):\n    threading.Thread(target=forever, daemon=True).start()\n"
        "time.sleep(0.3)\n"
    )
    done = _python(code, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_it_lives_beside_faiss_and_torch() -> None:
    code = (
        "import faiss, numpy as np, torch\n" + BUILD_AND_SEARCH + "\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "vectors = np.random.default_rng(0).random((500, 32), np.float32)\n"
        "flat = faiss.IndexFlatIP(32)\n"
        "flat.add(vectors)\n"
        "def work(i):\n"
        "    rows = flat.search(vectors[i : i + 1], 3)[1]\n"
        "    product = torch.from_numpy(vectors) @ torch.from_numpy(vectors[i])\n"
        "    return len(rows[0]), tuple(product.shape), index.search('hen', 2)[0].tolist()\n"
        "with ThreadPoolExecutor(4) as pool:\n"
        "    assert set(map(str, pool.map(work, range(200)))) == {str((3, (500,), [1]))}\n"
    )
    done = _python(code, timeout=120)
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("value", ["many", "-1", "64", "1e3", "99999999999"])
def test_a_wrong_heap_is_refused(value: str) -> None:
    done = _python(BUILD_AND_SEARCH, {HEAP_VARIABLE: value})
    assert done.returncode == 1
    assert f"InvalidArgument: {HEAP_VARIABLE} is '{value}'" in done.stderr


def test_the_heap_is_what_was_asked_for() -> None:
    code = BUILD_AND_SEARCH + (
        "from datastore.bm25.jvm import calls, java_class\n"
        "with calls('the test'):\n    print(java_class('java.lang.Runtime').getRuntime().maxMemory() >> 20)\n"
    )
    assert 400 < int(_python(code, {HEAP_VARIABLE: "512"}).stdout) <= 512
    assert 0 < int(_python(code, {HEAP_VARIABLE: ""}).stdout) <= 1024
