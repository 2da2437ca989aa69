"""Say which pairs stand in which tables: in all, in a subset, or in a layout of pairs with a new text."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

import pyarrow as pa
import pyarrow.compute as pc

from laion_dask import params, schema
from laion_dask.release import layouts
from laion_dask.release.tables import kept

SUBSET_HIGH_RESOLUTION: Final = "high_resolution"
MAIN: Final = ""
"""Folder of the main table in a release."""
ALL: Final = "all"
"""The kind of the tables that have every kept pair."""


Rule = Callable[[pa.Table], pa.ChunkedArray]
"""Says for each row of a table whether it is in; null: it is not."""


@dataclass(frozen=True, slots=True)
class Kind:
    """Tables that have the same pairs, so that their files begin at the same ones."""

    name: str
    own: tuple[str, ...]
    """Of its tables, those with schema RELEASE, by their folders."""
    layouts: tuple[str, ...] = ()
    rule: Rule | None = None
    """Which pairs they have; None: every kept one."""
    text: str | None = None
    """The column with the new text that the rule asks for."""

    @property
    def tables(self) -> tuple[str, ...]:
        """Return the folders of all its tables."""
        return (*self.own, *self.layouts)

    def rows(self, pairs: pa.Table) -> pa.Table:
        """Return the pairs that its tables have."""
        if self._is_off(pairs):
            return pairs.slice(0, 0)
        return pairs if self.rule is None else pairs.filter(self.rule(pairs))

    def count(self, pairs: pa.Table) -> int:
        """Return how many pairs its tables have."""
        if self.rule is None or self._is_off(pairs):
            return int(pairs.num_rows) if self.rule is None else 0
        return int(pc.sum(self.rule(pairs)).as_py() or 0)

    def _is_off(self, pairs: pa.Table) -> bool:
        """Say whether the stage is switched off that writes the new text."""
        return self.text is not None and self.text not in pairs.column_names

    def columns(self, stored: Sequence[str]) -> list[str]:
        """Return those of the stored columns that its tables need."""
        if self.text is not None:
            return [name for name in stored if name != kept.SPLIT]
        if self.layouts:
            new = {name for names in layouts.NEW.values() for name in names}
            return [name for name in stored if name not in {kept.SPLIT, *new}]
        return [name for name in stored if name in schema.RELEASE.names]


def kinds(settings: params.Release) -> list[Kind]:
    """Return the kinds of all tables of a release, that of the main table first."""
    whole = tuple(name for name in settings.tables if name not in layouts.HAVING)
    found = [Kind(ALL, (MAIN,), whole)]
    found += [Kind(name, (name,), rule=rule) for name, rule in _subset_rules(settings).items()]
    for column in dict.fromkeys(layouts.HAVING.values()):
        names = tuple(name for name in settings.tables if layouts.HAVING.get(name) == column)
        if names:
            found.append(Kind(column, (), names, partial(_has, column), column))
    return found


def subsets(settings: params.Release) -> list[str]:
    """Name the subsets in order."""
    return list(_subset_rules(settings))


def _subset_rules(settings: params.Release) -> dict[str, Rule]:
    rules: dict[str, Rule] = {SUBSET_HIGH_RESOLUTION: partial(_is_large, settings.high_resolution_px)}
    return rules | {f"aesthetic_{level:g}": partial(_is_beautiful, level) for level in settings.aesthetic}


def _is_large(side: int, pairs: pa.Table) -> pa.ChunkedArray:
    return pc.and_(*(pc.greater_equal(pairs[name], side) for name in ("WIDTH", "HEIGHT")))


def _is_beautiful(level: float, pairs: pa.Table) -> pa.ChunkedArray:
    # In the column's precision, as in the filter, so that a score of 4.1 is at least 4.1.
    return pc.greater_equal(pairs["aesthetic"], pa.scalar(level, pa.float32()))


def _has(column: str, pairs: pa.Table) -> pa.ChunkedArray:
    return pc.is_valid(pairs[column])
