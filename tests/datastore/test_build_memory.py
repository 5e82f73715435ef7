"""A build's memory does not grow with its input."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

_BUILD = """
import json, sys
from pathlib import Path
from datastore.build import build
from datastore.config import load_config

half, peaks = int(sys.argv[3]), [0, 0]

def watch(step):
    resident = int(Path("/proc/self/statm").read_text().split()[1]) * 4096
    second = step.documents > half
    peaks[second] = max(peaks[second], resident)

settings = {"encoder": {"name": "hashing"}, "segment": {"passages": 1000}}
build([sys.argv[1]], Path(sys.argv[2]), load_config(None, settings), watch)
print(json.dumps(peaks))
"""
DOCUMENTS = 8_000
NOTE_BYTES = 16_000
ALLOWED_BYTES = 40 << 20
"""Of growth over the second half of the input, which has 64 MB."""
# A Java heap that is all in use from the start, whose own slow filling would hide what is looked for.
_JAVA = {"JAVA_TOOL_OPTIONS": "-XX:+AlwaysPreTouch -Xms256m", "PERGAMON_JVM_HEAP_MB": "256"}


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="resident memory is read from /proc")
def test_memory_does_not_grow_with_the_input(tmp_path: Path) -> None:
    noise = random.Random(0)
    with (tmp_path / "items.jsonl").open("w") as lines:
        for i in range(DOCUMENTS):
            words = " ".join(f"w{noise.randrange(5000)}" for _ in range(12))
            note = noise.randbytes(NOTE_BYTES // 2).hex()
            lines.write(json.dumps({"_id": f"d{i}", "text": words, "note": note}) + "\n")
    ran = subprocess.run(
        [sys.executable, "-c", _BUILD, str(tmp_path / "items.jsonl"), str(tmp_path / "store"), str(DOCUMENTS // 2)],
        env=os.environ | _JAVA,
        capture_output=True,
        text=True,
        check=True,
    )
    first, second = json.loads(ran.stdout)
    assert second - first < ALLOWED_BYTES, f"{first >> 20} MiB in the first half, {second >> 20} MiB in the second"
