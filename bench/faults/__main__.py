"""`python -m bench.faults`: what becomes of a datastore when processes die and bytes change."""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

from bench.faults import report
from bench.faults.flips import Flip, Probe, flip_everywhere
from bench.faults.kills import Campaign
from bench.faults.operations import OPERATIONS
from bench.faults.state import COMMON, record
from bench.faults.storage import Obstacles
from datastore.build import build
from datastore.config import load_config
from datastore.documents import PassageName
from datastore.keeping.deletion import delete

_INDEXES: dict[str, dict[str, object]] = {
    "flat": {},
    "ivf-pq4": {"nlist": 8},
    "ivf-rabitq": {"nlist": 8},
    "ivf-pq": {"nlist": 8, "pq_m": 16},
}


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.faults", description=__doc__)
    parser.add_argument("--kills", type=int, default=500, help="processes to kill")
    parser.add_argument("--minutes", type=float, default=1e9, help="after which no other operation is killed")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--operations", default=",".join(OPERATIONS), help="beside build, with a comma between them")
    parser.add_argument(
        "--flips", choices=_INDEXES, action="append", default=[], help="change bits of such a datastore"
    )
    parser.add_argument("--obstacles", action="store_true", help="full disks, read-only folders, second writers")
    parser.add_argument("--state", type=Path, help="a JSON file that runs are added to")
    parser.add_argument("--report", type=Path, help="a Markdown file to write")
    options = parser.parse_args()
    found = report.load(options.state) if options.state else report.Record()
    with tempfile.TemporaryDirectory(prefix="pergamon-faults-") as name:
        folder = Path(name)
        folder.chmod(0o755)  # one operation is run as nobody
        operations = tuple(filter(None, options.operations.split(",")))
        if options.kills:
            campaign = Campaign(folder, seed=options.seed, operations=operations, earlier=found.kills)
            found.add(campaign.run(options.kills, 60 * options.minutes))
        for kind in options.flips:
            found.flips[kind] = _flips(folder / kind, kind)
        if options.obstacles:
            (folder / "obstacles").mkdir()
            found.refusals = Obstacles(folder / "obstacles").run(operations)
    if options.state:
        report.save(found, options.state)
    text = report.markdown(found)
    if options.report:
        options.report.write_text(text)
    print(text)  # noqa: T201


def _flips(folder: Path, kind: str) -> list[Flip]:
    """Of a datastore with deletions, in two segments."""
    folder.mkdir()
    (folder / "items.jsonl").write_text("".join(record(number, 1) for number in range(600)) + "no JSON\n")
    index = {"kind": kind, **_INDEXES[kind]}
    sections: dict[str, dict[str, Any]] = {
        "encoder": {"name": "hashing"},
        "segment": {"passages": 300},
        "clean": {"duplicates": {"exact": True}},
    }
    config = load_config(None, {**sections, "index": index})
    build([str(folder / "items.jsonl")], folder / "store", config)
    delete(folder / "store", document_ids=["d3", "d400"])
    probe = Probe((f"{COMMON} document7", "cedar fjord"), (PassageName("d5", 0), PassageName("d599", 0)), "year > 1950")
    return list(flip_everywhere(folder / "store", probe, more=6))


if __name__ == "__main__":
    main()
