"""What `bench.ann.gpu` found, as Markdown, from the record that it keeps as JSON."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


def render(record: Mapping[str, Any]) -> str:
    """The whole page."""
    machine, data = record["machine"], record["dataset"]
    versions = ", ".join(f"{name} {number}" for name, number in record["versions"].items())
    lines = [
        f"# The index on {record['device']} and on the CPU",
        "",
        f"{data['vectors_count']:,} vectors of {data['dimension']} dimensions; {machine['logical_cpus']} logical CPUs, "
        f"{machine['cpu']}, {machine['memory_gib']} GiB; {versions}.",
    ]
    for kind in record["kinds"]:
        agreed = kind["agreement"]
        taken = kind["taken_bytes"]
        opened = "" if taken is None else f"; opening it took {taken / 2**30:.2f} GiB of all devices together"
        written = "the same bytes" if agreed["same_bytes"] else f"{agreed['same_entries']:.2%} of the bytes equal"
        lines += [
            "",
            f"## {kind['kind']}",
            "",
            f"{kind['index']}; on a GPU: {kind['planned']}{opened}.",
            "",
            f"With the CPU's template both write {written}. Of the candidates found on the CPU, "
            f"{agreed['same_candidates']:.2%} are found on the device too; the approximate scores of one differ by "
            f"{agreed['score_difference']:.1e} at most.",
            "",
            "| built on | training, s | adding, s |",
            "| --- | --- | --- |",
            *(f"| {side['device']} | {side['train_s']:.1f} | {side['add_s']:.1f} |" for side in kind["sides"]),
            "",
            "| searched on | trained on | lists | depth | recall@10 | p50, ms | p99, ms | batch/s | without rerank |",
            "| --- | --- | --- | --- | --- | --- | --- | --- | --- |",
            *map(_point, kind["points"]),
        ]
    return "\n".join(lines) + "\n"


def _point(point: Mapping[str, Any]) -> str:
    return (
        f"| {point['device']} | {point['template']} | {point['nprobe']} | {point['depth']} | {point['recall']:.4f} | "
        f"{point['p50_ms']:.2f} | {point['p99_ms']:.2f} | {point['batch_qps']:,.0f} | {point['index_qps']:,.0f} |"
    )
