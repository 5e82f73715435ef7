"""How `pergamon tune` and `pergamon info` show an operating curve."""

from __future__ import annotations

from rich.table import Table

from datastore.ann.operating_curve import OperatingCurve

_LEAST_SHOWN = 0.5
_SOURCES = {"passages": "stored vectors", "queries": "real queries"}


def curve_table(curve: OperatingCurve, passages: int) -> Table:
    """What each recall takes, of a datastore that has `passages` now."""
    table = Table(title="operating curve", title_justify="left")
    for column in ("k", "recall", "lists", "candidate depth", "codes in them", "ms"):
        table.add_column(column, justify="right")
    for part in curve.curves:
        for point in part.points:
            if point.assured >= _LEAST_SHOWN or point is part.points[-1]:
                table.add_row(
                    str(part.k),
                    f"{point.recall:.4f} ± {point.recall_error:.4f}",
                    f"{point.nprobe:,}",
                    f"{point.candidate_depth:,}",
                    f"{point.codes:,}",
                    f"{point.milliseconds:.2f}",
                )
        table.add_section()
    table.caption = described(curve, passages)
    table.caption_justify = "left"
    return table


def described(curve: OperatingCurve, passages: int) -> str:
    """What a curve was measured over, and whether the datastore is still that."""
    over = f"{curve.measured_passages:,}"
    if curve.measured_passages < curve.passages:
        over += f" of {curve.passages:,} passages, so an estimate"
    else:
        over += " passages"
    text = (
        f"by {curve.queries:,} {_SOURCES[curve.source]} (seed {curve.seed}) over {over}, generation {curve.generation}"
    )
    if curve.passages != passages:
        text += f"; there are {passages:,} now: run pergamon tune again"
    return text
