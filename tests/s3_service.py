"""An S3-compatible service on loopback: rclone, which checks signatures, over a folder whose folders are the buckets.

It remembers listings: what is there when it starts, and what clients do, is all that it is sure to see.
"""

from __future__ import annotations

import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

KEY, SECRET = "loopback", "a-secret-of-the-tests"
_STARTED = re.compile(r"Starting s3 server on \[(http://127\.0\.0\.1:\d+)/\]")


@contextmanager
def running(root: Path) -> Iterator[dict[str, str]]:
    """What the environment of its clients has to say."""
    log = root.with_name(f"{root.name}.log")
    options = ["--auth-key", f"{KEY},{SECRET}", "--addr", "127.0.0.1:0", "--config", ""]
    command = [str(Path(sys.executable).parent / "rclone"), "serve", "s3", *options, str(root)]
    with log.open("wb") as stderr, subprocess.Popen(command, stdin=subprocess.DEVNULL, stderr=stderr) as process:
        try:
            while (started := _STARTED.search(log.read_text())) is None:
                assert process.poll() is None, log.read_text()
                time.sleep(0.01)
            yield {
                "AWS_ENDPOINT_URL": started[1],
                "AWS_ACCESS_KEY_ID": KEY,
                "AWS_SECRET_ACCESS_KEY": SECRET,
                "AWS_DEFAULT_REGION": "us-east-1",
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
            }
        finally:
            process.terminate()
