"""Runs the command many times, each in a process of its own, without importing it anew each time.

Reads one JSON object a line (arguments, out, err: files to write), answers each with the exit status.
"""

from __future__ import annotations

import json
import os
import sys

import pergamon.cli


def main() -> None:
    for line in sys.stdin:
        job = json.loads(line)
        sys.stdout.flush()
        child = os.fork()
        if child == 0:
            sys.argv = ["pergamon", *job["arguments"]]
            for descriptor, path in ((0, os.devnull), (1, job["out"]), (2, job["err"])):
                os.dup2(os.open(path, os.O_RDWR | os.O_CREAT, 0o600), descriptor)
            pergamon.cli.main()
            return
        _, status = os.waitpid(child, 0)
        print(os.waitstatus_to_exitcode(status), flush=True)  # noqa: T201


if __name__ == "__main__":
    main()
