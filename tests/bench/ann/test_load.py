from __future__ import annotations

import os
import subprocess
import sys
import time

from bench.ann.load import OtherLoad

SPIN = """
import os
os.sched_setaffinity(0, {int(os.environ["CORE"])})
print("spinning", flush=True)
while True: pass
"""


def test_another_process_on_the_same_processor_is_seen() -> None:
    before = os.sched_getaffinity(0)
    core = min(before)
    os.sched_setaffinity(0, {core})
    try:
        environment = {**os.environ, "CORE": str(core)}
        with subprocess.Popen([sys.executable, "-c", SPIN], env=environment, stdout=subprocess.PIPE) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == b"spinning\n"
            others = OtherLoad()
            time.sleep(0.5)
            idle_here = others.share()
            others = OtherLoad()
            end = time.process_time() + 0.2
            while time.process_time() < end:
                pass
            busy_here = others.share()
            other.kill()
    finally:
        os.sched_setaffinity(0, before)
    assert idle_here > 0.5
    assert 0.1 < busy_here < idle_here
