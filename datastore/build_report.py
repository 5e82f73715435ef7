"""A report on a build, for people: Markdown and HTML, with plots of what went in and what came out."""

from __future__ import annotations

import html
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from datastore.errors import InvalidArgument
from datastore.quantities import human_bytes
from datastore.sources.rejects import Reason
from datastore.store.manifest import Manifest
from datastore.store.reader import StoreReader
from datastore.tasks.log import read_log

_SAMPLE = 10_000
_MOST_BARS = 20
_DUPLICATES: tuple[Reason, ...] = ("duplicate id", "exact duplicate", "near duplicate")
_BAR, _GAP, _LABEL, _WIDTH = 18, 4, 200, 420

Bars = Sequence[tuple[str, float]]


def make_report_folder(folder: Path) -> None:
    """So that a report that cannot be written is said before a build, and not after it.

    Raises:
        InvalidArgument: it cannot be made, or not be written to.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise _unwritable(folder, error.strerror) from None
    if not os.access(folder, os.W_OK):
        raise _unwritable(folder, "permission denied")


def write_report(store: Path, folder: Path) -> None:
    """Write `report.md`, `report.html` and the plots that they show, as SVG, into `folder`.

    Raises:
        InvalidArgument: they cannot be written there.
    """
    reader = StoreReader(store)
    try:
        manifest = reader.manifest
        plots = {
            "lengths": ("Passages by their words", _lengths(reader)),
            "sources": ("Passages by source", _most(_sources(reader))),
            "duplicates": ("Documents kept, and left out as duplicates", _duplicates(manifest)),
            "rejects": ("Records left out, by reason", _most(manifest.rejects.by_reason)),
            "stages": ("Seconds of each stage", _stages(store, manifest)),
        }
    finally:
        reader.close()
    facts = _facts(manifest)
    shown = {name: plot for name, plot in plots.items() if plot[1]}
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for name, (title, bars) in shown.items():
            (folder / f"{name}.svg").write_text(_svg(title, bars), encoding="utf-8")
        (folder / "report.md").write_text(_markdown(store, facts, shown), encoding="utf-8")
        (folder / "report.html").write_text(_html(store, facts, shown), encoding="utf-8")
    except OSError as error:
        raise _unwritable(folder, error.strerror) from None


def _unwritable(folder: Path, reason: str | None) -> InvalidArgument:
    return InvalidArgument(
        f"the report cannot be written to {folder}: {reason}",
        mend="choose a folder that can be written to",
        field="report",
    )


def _facts(manifest: Manifest) -> list[tuple[str, str]]:
    segments = manifest.segments
    passages = max(manifest.passages, 1)
    tokens = sum(segment.tokens for segment in segments)
    truncated = sum(segment.truncated_passages for segment in segments)
    size = sum(file.bytes for file in manifest.files())
    masked = ", ".join(f"{kind} {count:,}" for kind, count in manifest.masked.items())
    return [
        ("documents", f"{manifest.documents:,}"),
        ("passages", f"{manifest.passages:,} in {len(segments)} segments"),
        ("words", f"{sum(segment.words for segment in segments):,}"),
        ("tokens", f"{tokens:,}, {tokens / passages:.1f} in a passage"),
        ("passages longer than the encoder reads", f"{truncated:,} ({truncated / passages:.2%})"),
        ("records left out", f"{manifest.rejects.total:,}"),
        *([("personal data masked", masked)] if masked else []),
        ("encoder", f"{manifest.encoder.name}, {manifest.encoder.dimension} dimensions"),
        ("index", f"{manifest.index.describe()}: {manifest.index.reason}"),
        ("size", f"{human_bytes(size)}, {size / passages:,.0f} bytes a passage"),
        ("created", f"{manifest.created}, generation {manifest.generation}, by {manifest.writer}"),
    ]


def _lengths(reader: StoreReader) -> Bars:
    """Of a sample of at most 10,000 passages, spread evenly."""
    total = sum(segment.vectors.rows for segment in reader.segments)
    step = max(1, -(-total // _SAMPLE))
    lengths: list[int] = []
    for segment in reader.segments:
        rows = list(range(0, segment.vectors.rows, step))
        lengths += [len(passage.text.split()) for passage in segment.passages.get(rows)]
    if not lengths:
        return []
    edges = np.unique(np.linspace(0, max(lengths) + 1, 17).astype(int))
    counts, _ = np.histogram(lengths, edges)
    return [(f"{low} to {high - 1}", float(n * step)) for low, high, n in zip(edges, edges[1:], counts, strict=False)]


def _sources(reader: StoreReader) -> Counter[str]:
    counts: Counter[str] = Counter()
    for segment in reader.segments:
        for found in segment.columns.table.column("source").value_counts().to_pylist():
            counts[found["values"] or "(none)"] += found["counts"]
    return counts


def _duplicates(manifest: Manifest) -> Bars:
    counts = manifest.rejects.by_reason
    left_out = [(reason, float(counts[reason])) for reason in _DUPLICATES if reason in counts]
    return [("kept", float(manifest.documents)), *left_out] if left_out else []


def _stages(store: Path, manifest: Manifest) -> Bars:
    if manifest.log is None:
        return []
    seconds: dict[str, float] = {}
    for event in read_log(store / manifest.log.path):
        if event["event"] == "stage done":
            seconds[event["stage"]] = seconds.get(event["stage"], 0.0) + event["seconds"]
    return list(seconds.items())


def _most(counts: Mapping[str, int]) -> Bars:
    ranked = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    bars = [(name, float(count)) for name, count in ranked[:_MOST_BARS]]
    if rest := sum(count for _, count in ranked[_MOST_BARS:]):
        bars.append((f"{len(ranked) - _MOST_BARS} others", float(rest)))
    return bars


def _number(value: float) -> str:
    return f"{value:,.0f}" if value >= 10 or value == int(value) else f"{value:.2f}"


def _svg(title: str, bars: Bars) -> str:
    """Horizontal bars, each with its label and its number."""
    highest = max(value for _, value in bars) or 1
    lines = []
    for number, (label, value) in enumerate(bars):
        y = 34 + number * (_BAR + _GAP)
        width = _WIDTH * value / highest
        short = label if len(label) <= 28 else label[:27] + "…"
        lines.append(
            f'<text x="{_LABEL - 8}" y="{y + 13}" text-anchor="end">{html.escape(short)}</text>'
            f'<rect x="{_LABEL}" y="{y}" width="{width:.1f}" height="{_BAR}" fill="#3b6ea5"/>'
            f'<text x="{_LABEL + width + 6:.1f}" y="{y + 13}">{_number(value)}</text>'
        )
    height = 34 + len(bars) * (_BAR + _GAP) + 6
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LABEL + _WIDTH + 100}" height="{height}" '
        f'font-family="sans-serif" font-size="12"><rect width="100%" height="100%" fill="white"/>'
        f'<text x="8" y="20" font-size="14" font-weight="bold">{html.escape(title)}</text>{"".join(lines)}</svg>\n'
    )


def _markdown(store: Path, facts: Sequence[tuple[str, str]], plots: Mapping[str, tuple[str, Bars]]) -> str:
    parts = [
        f"# Build of {store.name}",
        "| | |\n| --- | --- |\n" + "\n".join(f"| {a} | {_cell(b)} |" for a, b in facts),
    ]
    for name, (title, bars) in plots.items():
        rows = "\n".join(f"| {_cell(label)} | {_number(value)} |" for label, value in bars)
        parts.append(f"## {title}\n\n![{title}]({name}.svg)\n\n| | |\n| --- | ---: |\n{rows}")
    return "\n\n".join(parts) + "\n"


def _cell(text: str) -> str:
    return " ".join(text.replace("|", "\\|").split())


def _html(store: Path, facts: Sequence[tuple[str, str]], plots: Mapping[str, tuple[str, Bars]]) -> str:
    title = html.escape(f"Build of {store.name}")
    rows = "".join(f"<tr><th align='left'>{html.escape(a)}</th><td>{html.escape(b)}</td></tr>" for a, b in facts)
    drawn = "".join(f"<p>{_svg(heading, bars)}</p>" for heading, bars in plots.values())
    return (
        f"<!DOCTYPE html><html lang='en'><head><meta charset='utf-8'><title>{title}</title></head>"
        f"<body style='font-family: sans-serif'><h1>{title}</h1><table>{rows}</table>{drawn}</body></html>\n"
    )
