"""What a build takes: memory at its peak, and the time of each stage, for inputs of different sizes.

    python -m bench.build --input corpus.jsonl.gz --sizes 100000,1000000 --encoder wordllama-256 --out results/

Each size is built by a process of its own, from the first so many lines of the input, as one plain file. Then the
encoder is timed alone, on the same passages in batches of the same size.
"""

from __future__ import annotations

import argparse
import gzip
import json
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from contextlib import closing
from itertools import chain, islice
from pathlib import Path
from typing import Any

from bench.ann.machine import describe_machine

_SAMPLE = 20_000
"""Passages that the encoder is timed on, alone, at most."""
_BATCH = 512
_TIMES, _ENOUGH_S = 3, 60.0
"""The encoder alone is timed so often, or until that has taken so long."""


def measure(source: Path, encoder: str) -> dict[str, Any]:
    """Build from `source`, in this process; peaks are of its resident memory, in bytes."""
    from datastore.build import build
    from datastore.config import load_config
    from datastore.tasks.log import read_log
    from datastore.tasks.progress import BuildProgress

    peaks: dict[str, int] = {}

    def watch(step: BuildProgress) -> None:
        resident = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1]) * resource.getpagesize()
        peaks[step.stage] = max(peaks.get(step.stage, 0), resident)

    with tempfile.TemporaryDirectory(dir=source.parent) as folder:
        store = Path(folder) / "store"
        settings: dict[str, dict[str, Any]] = {"encoder": {"name": encoder}, "index": {"tune_queries": 0}}
        started = time.monotonic()
        manifest = build([str(source)], store, load_config(None, settings), watch)
        seconds = time.monotonic() - started
        assert manifest.log is not None
        events = read_log(store / manifest.log.path)
        peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
        encoder_alone = _encoder_alone(store, encoder)
    return {
        "passages": manifest.passages,
        "segments": len(manifest.segments),
        "tasks": events[0]["tasks"],
        "index": manifest.index.kind,
        "seconds": seconds,
        "stages": {event["stage"]: event["seconds"] for event in events if event["event"] == "stage done"},
        "resident": peaks,
        "peak": peak,
        "encoder_alone": encoder_alone,
    }


def _encoder_alone(store: Path, name: str) -> float:
    """Passages a second of the encoder, over the first of the store; the median, where it was timed more than once."""
    from datastore.config import EncoderConfig
    from datastore.encoders.registry import open_encoder
    from datastore.store.reader import StoreReader

    encoder = open_encoder(EncoderConfig(name=name))
    with closing(StoreReader(store)) as reader:
        passages = chain.from_iterable(segment.passages.scan() for segment in reader.segments)
        texts = [passage.indexed_text for _, passage in islice(passages, _SAMPLE)]
    encoder.encode_passages(texts[:_BATCH])
    taken: list[float] = []
    while len(taken) < _TIMES and sum(taken) < _ENOUGH_S:
        started = time.monotonic()
        for start in range(0, len(texts), _BATCH):
            encoder.encode_passages(texts[start : start + _BATCH])
        taken.append(time.monotonic() - started)
    return len(texts) / statistics.median(taken)


def _cut(source: Path, lines: int, target: Path) -> None:
    with gzip.open(source, "rb") if source.suffix == ".gz" else source.open("rb") as whole, target.open("wb") as part:
        part.writelines(islice(whole, lines))


def _markdown(results: list[dict[str, Any]], command: str) -> str:
    mib = 1 << 20
    stages = list(dict.fromkeys(stage for result in results for stage in result["stages"]))
    rows = []
    for result in results:
        encoding = result["passages"] / result["encoder_alone"]
        rows.append(
            f"| {result['passages']:,} | {result['tasks']} / {result['segments']} | {result['index']} | "
            f"{result['peak'] / mib:,.0f} | {result['resident'].get('passages', 0) / mib:,.0f} | "
            f"{result['seconds']:.1f} | "
            + " | ".join(f"{result['stages'].get(stage, 0.0):.1f}" for stage in stages)
            + f" | {result['passages'] / result['seconds']:,.0f} | {result['encoder_alone']:,.0f} | "
            f"{encoding / result['seconds']:.0%} | {encoding / result['stages']['passages']:.0%} |"
        )
    return (
        f"# What a build takes\n\n`{command}`\n\n{_machine()}\n\n"
        "Peaks are of the process, Java's heap and mapped vectors included, MiB; times are in seconds. The encoder's "
        "share is the time that it takes alone for as many passages, of that of the build; its rate is that of the "
        "stage that writes passages, as a share of its own.\n\n"
        "| passages | tasks / segments | index | peak | peak while passages are written | seconds | "
        + " | ".join(stages)
        + " | passages/s | encoder alone/s | encoder's share | encoder's rate |\n"
        + "| ---: " * (10 + len(stages))
        + "|\n"
        + "\n".join(rows)
        + "\n"
    )


def _machine() -> str:
    return ", ".join(f"{name} {value}" for name, value in describe_machine().items())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--input", type=Path, required=True)
    parser.add_argument("--sizes", default="100000,1000000")
    parser.add_argument("--encoder", default="wordllama-256")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--one", action="store_true", help="measure the input as it is, and print one JSON object")
    arguments = parser.parse_args()
    if arguments.one:
        sys.stdout.write(json.dumps(measure(arguments.input, arguments.encoder)) + "\n")
        return
    arguments.out.mkdir(parents=True, exist_ok=True)
    results = []
    folder = Path(tempfile.mkdtemp(dir=arguments.out))
    try:
        for size in map(int, arguments.sizes.split(",")):
            part = folder / "corpus.jsonl"
            _cut(arguments.input, size, part)
            ran = subprocess.run(  # noqa: S603 - ourselves
                [
                    *(sys.executable, "-m", "bench.build", "--one", "--input", str(part)),
                    *("--encoder", arguments.encoder, "--out", str(folder)),
                ],
                capture_output=True,
                text=True,
                check=True,
            )
            results.append(json.loads(ran.stdout))
            (arguments.out / "build.json").write_text(json.dumps(results, indent=1) + "\n", encoding="utf-8")
    finally:
        shutil.rmtree(folder)
    options = f"--sizes {arguments.sizes} --encoder {arguments.encoder}"
    command = f"python -m bench.build --input {arguments.input.name} {options} --out {arguments.out}"
    (arguments.out / "build.md").write_text(_markdown(results, command), encoding="utf-8")


if __name__ == "__main__":
    main()
