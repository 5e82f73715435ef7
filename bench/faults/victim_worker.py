"""A process that a victim has started: `python -m bench.faults.victim_worker -m MODULE ARGUMENTS…`, with its orders."""

from __future__ import annotations

import runpy
import sys

from bench.faults.steps import follow, passed_on

if __name__ == "__main__":
    _, _, module, *arguments = sys.argv
    sys.argv = [module, *arguments]
    follow(passed_on())
    runpy.run_module(module, run_name="__main__", alter_sys=True)
