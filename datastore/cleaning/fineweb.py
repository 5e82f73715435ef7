"""FineWeb's rules on lines (Penedo et al. 2024, "The FineWeb Datasets", section 3.6). Blank lines do not count."""

from __future__ import annotations

from datastore.cleaning.repetition import duplicate_shares
from datastore.cleaning.settings import FineWebSettings
from datastore.sources.rejects import RefusedError

_MARKS = tuple(".!?…\"'”’»)。！？」』｡।॥؟۔։")
"""Ends of sentences and quotations, of several scripts."""


def check_fineweb(text: str, settings: FineWebSettings) -> None:
    """Raise RefusedError at the first rule that `text` breaks."""
    lines = [line for line in map(str.strip, text.splitlines()) if line]
    count = len(lines)
    punctuated = sum(line.endswith(_MARKS) for line in lines)
    if punctuated < settings.min_punctuated_lines * count:
        detail = (
            f"{punctuated} of {count} lines end in punctuation; wanted a share of {settings.min_punctuated_lines:g}"
        )
        raise RefusedError("unpunctuated lines", detail)
    short = sum(len(line) < settings.short_line_characters for line in lines)
    if short > settings.max_short_lines * count:
        limits = f"{settings.short_line_characters} characters; at most a share of {settings.max_short_lines:g} may"
        raise RefusedError("short lines", f"{short} of {count} lines have fewer than {limits}")
    _, repeated = duplicate_shares(lines)
    if repeated > settings.max_duplicate_line_characters:
        limit = settings.max_duplicate_line_characters
        detail = f"{repeated:.3f} of the characters are in lines that came before; at most {limit:g} may be"
        raise RefusedError("repeated lines", detail)
