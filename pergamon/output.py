"""What every command shares in what it shows: JSON on standard output, progress and notes on standard error."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import typer
from pydantic import TypeAdapter
from rich.console import Console
from rich.progress import (
    BarColumn,
    MofNCompleteColumn,
    Progress,
    ProgressColumn,
    SpinnerColumn,
    TextColumn,
    TimeElapsedColumn,
)

from datastore.quantities import human_bytes

__all__ = ["ERRORS", "human_bytes", "print_json", "progress_bar", "to_plain"]

ERRORS = Console(stderr=True)
"""For progress and notes."""


def to_plain(value: Any) -> Any:
    """A dataclass and all in it as dicts, lists and scalars."""
    return TypeAdapter(type(value)).dump_python(value, mode="json")


def print_json(value: Any) -> None:
    typer.echo(json.dumps(value, ensure_ascii=False, indent=2, default=_plain_number))


def _plain_number(value: Any) -> Any:
    if isinstance(value, np.generic):
        return value.item()
    raise TypeError(f"{type(value).__name__} has no JSON form")


def progress_bar(*columns: ProgressColumn) -> Progress:
    """A bar on standard error that goes when it is done; silent where standard error is not a terminal.

    Args:
        columns: shown after its own.
    """
    return Progress(
        SpinnerColumn(),
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        *columns,
        console=ERRORS,
        transient=True,
        disable=not ERRORS.is_terminal,
    )
