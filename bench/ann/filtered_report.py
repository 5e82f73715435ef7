"""Figures of filtered search as Markdown."""

from __future__ import annotations

from bench.ann.filtered import CasePoint
from bench.ann.filtered_results import FilteredResults

_NOTES = """\
One query at a time, milliseconds; recall@{k} against exact search among the survivors, ties allowed for. *New*: while
the shard has not been asked for the filter often; *known*: when it has, and may keep codes of the survivors. *First* is
the first query with the filter, its bitmap at hand; *preparing* the one that made the codes. *Against none* is the
known p50 over that of the search without a filter. `uniform` is spread over all passages; `region` leaves those most
like one of them, and is asked for by queries from anywhere and by queries from there (near)."""

_GROUPED = """\
Queries in random order over {filters} filters, on one thread, microseconds a query: one at a time, and grouped by
filter. Alone: one at a time, filters new. Known: codes of the survivors at hand. What a grouped search counts and
encodes for new filters is in its time. Both factors are against one at a time with new filters."""


_WAYS = """\
Recall@10 and p50 in milliseconds, one query at a time, exact scores included. The house scores all where few survive,
keeps codes for filters that are asked for often where not too many do, and otherwise reads the nearest lists until they
have covered so many codes of survivors; `codes` are those that a search without filter reads, `share` is what
survives."""


def render_filtered(results: FilteredResults) -> str:
    dataset, machine, asked = results.dataset, results.machine, results.asked
    plain = next(point for point in results.cases if point.case.where is None)
    lines = [
        f"# Filtered search at {dataset['vectors_count']:,} vectors of {dataset['dimension']} dimensions",
        "",
        f"Made by `{results.command}` at {results.created}.",
        "",
        f"- machine: {machine['cpu']} ({machine['simd']}), {machine['logical_cpus']} logical processors, "
        f"{machine['memory_gib']} GiB; other processes took {results.others_share:.0%} of the time",
        f"- index: {results.index}; k {asked.k}, probes {asked.nprobe or 'by default'}, candidate depth "
        f"{asked.candidate_depth or 'by default'}",
        "",
        "## Recall and latency",
        "",
        *_NOTES.format(k=asked.k).splitlines(),
        "",
        _row("filter", "survivors", "queries", "new recall", "p50", "p99", "known recall", "p50", "p99")[:-2]
        + " | against none | first | preparing |",
        _row("---", *["---:"] * 11),
        *(_case(point, plain) for point in results.cases),
        "",
        "## From a filter's text to its bitmap",
        "",
        "Milliseconds: parsing alone; then over the columns with their pages dropped, with them in memory, and kept.",
        "",
        _row("filter", "survivors", "parse", "cold", "first", "kept"),
        _row("---", *["---:"] * 5),
    ]
    for point in results.predicates:
        times = (f"{value:.3f}" for value in (point.parse_ms, point.cold_ms, point.first_ms, point.kept_ms))
        lines.append(_row(f"`{point.where}`", f"{point.survivors:,}", *times))
    lines += ["", "## Grouped by filter", ""]
    lines += _GROUPED.format(filters=results.grouped[0].filters if results.grouped else 0).splitlines()
    head = ("selectivity", "queries", "alone", "grouped", "factor", "alone, known", "grouped, known", "factor")
    lines += ["", _row(*head), _row(*["---:"] * len(head))]
    for mine in results.grouped:
        lines.append(
            _row(
                f"{mine.share:.1%}",
                f"{mine.queries:,}",
                f"{mine.alone_us:,.0f}",
                f"{mine.grouped_us:,.0f}",
                f"{mine.alone_us / mine.grouped_us:.1f}",
                f"{mine.alone_known_us:,.0f}",
                f"{mine.grouped_known_us:,.0f}",
                f"{mine.alone_us / mine.grouped_known_us:.1f}",
            )
        )
    lines += ["", *_ways(results)]
    return "\n".join(lines) + "\n"


def _ways(results: FilteredResults) -> list[str]:
    """A row for each way, a column for each filter."""
    filters = list(dict.fromkeys(point.case.where for point in results.ways))
    cells = {(point.way, point.case.where): f"{point.recall:.3f}, {point.p50:.2f}" for point in results.ways}
    head = [f"`{where}`" for where in filters]
    rows = [
        _row(way, *(cells.get((way, where), "-") for where in filters))
        for way in dict.fromkeys(point.way for point in results.ways)
    ]
    return [
        "## The ways compared",
        "",
        *_WAYS.splitlines(),
        "",
        _row("way", *head),
        _row(*["---"] * (1 + len(head))),
        *rows,
    ]


def _case(point: CasePoint, plain: CasePoint) -> str:
    case = point.case
    name = "none" if case.where is None else f"`{case.where}`" + (", near" if case.near else "")
    return _row(
        name,
        f"{case.survivors:,}",
        f"{point.queries:,}",
        f"{point.new_recall:.4f}",
        f"{point.new_p50:.3f}",
        f"{point.new_p99:.3f}",
        f"{point.known_recall:.4f}",
        f"{point.known_p50:.3f}",
        f"{point.known_p99:.3f}",
        f"{point.known_p50 / plain.known_p50:.2f}",
        f"{point.first_ms:.1f}",
        f"{point.preparing_ms:.0f}" if point.preparing_ms else "-",
    )


def _row(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"
