"""`python -m bench.faults`: what becomes of a datastore when processes die and bytes change."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path

from bench.faults.kills import OPERATIONS, Campaign, save


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="processes to kill")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operations", default=",".join(OPERATIONS), help="beside build, with a comma between them")
    parser.add_argument("--results", type=Path, help="a JSON file to write")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="pergamon-faults-") as folder:
        operations = tuple(filter(None, options.operations.split(",")))
        results = Campaign(Path(folder), seed=options.seed, operations=operations).run(options.kills)
    if options.results is not None:
        save(results, options.results)
    killed = sum(kill.killed for kill in results.kills)
    moments = len({(kill.operation, kill.moment) for kill in results.kills if kill.killed})
    print(  # noqa: T201
        f"{killed} kills at {moments} kinds of moment, {results.answers} answers beside, {len(results.faults)} faults"
    )
    for fault in results.faults:
        print(fault)  # noqa: T201


if __name__ == "__main__":
    main()
