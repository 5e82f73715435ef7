"""The planner's constants: each has a value, a unit, and where it comes from."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import cache
from importlib.resources import files
from typing import Literal

Basis = Literal["measured", "published", "assumed", "given"]


@dataclass(frozen=True, slots=True)
class Constant:
    """A number that a plan rests on."""

    name: str
    value: float
    unit: str
    basis: Basis
    """`measured` by this project, `published` by others, `assumed` where nothing was measured, `given` by an option."""
    source: str


@cache
def _table() -> Mapping[str, Constant]:
    tree = tomllib.loads(files("datastore.plan").joinpath("constants.toml").read_text(encoding="utf-8"))
    return {name: Constant(name, **fields) for name, fields in tree.items()}


class Constants:
    """The table, with what options put in its place; it notes which constants a plan has used."""

    def __init__(self, given: Mapping[str, float | None] | None = None) -> None:
        self._table = dict(_table())
        self._used: dict[str, None] = {}
        for name, value in (given or {}).items():
            if value is not None:
                self._table[name] = replace(self._table[name], value=value, basis="given", source="an option")

    def __getitem__(self, name: str) -> float:
        self._used[name] = None
        return self._table[name].value

    def used(self) -> list[Constant]:
        """In the order of the table."""
        return [constant for name, constant in self._table.items() if name in self._used]

    def all(self) -> Iterable[Constant]:
        return self._table.values()
