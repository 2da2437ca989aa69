"""Compose a progress line that fits the terminal: shorten and drop its fields by rank; times in minutes and hours."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final, Protocol

from laion_dask.storage.durations import duration

GAP: Final = "  "
_CUT: Final = "\N{HORIZONTAL ELLIPSIS}"


@dataclass(frozen=True, slots=True)
class Field:
    """One field of a line: its text from the longest form to the shortest, and its rank."""

    rank: int
    """0 is never dropped; of the others, those with the lowest rank are shown where there is room."""
    forms: Sequence[str]

    @classmethod
    def of(cls, rank: int, *forms: str) -> Field:
        """Return a field with these forms, the longest first."""
        return cls(rank, forms)


@dataclass(frozen=True, slots=True)
class ProgressState:
    """The progress of a stage, in numbers."""

    stage: str
    unit: str
    parts: int
    ready: int
    """Finished parts, including those of earlier runs."""
    rows: int
    """Rows of the parts that this run has finished."""
    seconds: float
    """Since the parts were started."""
    left_s: float | None
    """An estimate; None before the first part is finished."""
    oldest: tuple[str, float] | None
    """Name of the part that has run longest on a worker, and its seconds so far."""
    shares: str
    """See `Progress.shares`."""


class ProgressLine(Protocol):
    """Composes the progress line; it may add up counts of finished parts."""

    def add(self, counts: Mapping[str, Any], seconds: float) -> None:
        """Add the counts of a part that finished `seconds` after the parts were started."""

    def fields(self, state: ProgressState) -> list[Field]:
        """Return the fields of the line, in order."""


class RowLine:
    """The line of most stages: parts, rows per second, time shares, time left, the oldest part."""

    def add(self, counts: Mapping[str, Any], seconds: float) -> None:
        """Ignore the counts."""

    def fields(self, state: ProgressState) -> list[Field]:
        """Return the fields of the line, in order."""
        found = [parts_field(state)]
        if state.rows:
            rate = f"{state.rows / state.seconds:,.0f}"
            found.append(Field.of(2, f"{state.rows:,} {state.unit}, {rate}/s", f"{rate} {state.unit}/s", f"{rate}/s"))
        if state.shares:
            found.append(Field.of(4, state.shares))
        return [*found, *left_field(state), *oldest_field(state)]


def parts_field(state: ProgressState, what: str = "parts") -> Field:
    """Return the field with the stage and its finished parts, which every line begins with."""
    done = f"{state.ready}/{state.parts}"
    return Field.of(0, f"{state.stage:<9}  {done} {what}", f"{state.stage} {done}")


def left_field(state: ProgressState) -> list[Field]:
    """Return the field with the time left, or nothing before there is an estimate."""
    return [] if state.left_s is None else [Field.of(1, f"{duration(state.left_s)} left")]


def oldest_field(state: ProgressState) -> list[Field]:
    """Return the field with the part that has run longest, or nothing while none is known to run."""
    if state.oldest is None:
        return []
    name, seconds = state.oldest
    return [Field.of(3, f"oldest {name} {duration(seconds)}", f"oldest {duration(seconds)}")]


def fit(fields: Sequence[Field], width: int | None, size: Callable[[str], int] = len) -> str:
    """Join the fields into a line of at most `width` columns; None: all of them. `size` measures columns.

    As many fields as fit in their shortest form are taken by rank; then they get longer forms, by rank too.
    """
    if width is None:
        return GAP.join(one.forms[0] for one in fields)
    chosen: dict[int, int] = {}
    by_rank = sorted(range(len(fields)), key=lambda place: fields[place].rank)

    def joined(forms: Mapping[int, int]) -> str:
        return GAP.join(fields[place].forms[forms[place]] for place in sorted(forms))

    for place in by_rank:
        shortest = chosen | {place: len(fields[place].forms) - 1}
        if fields[place].rank == 0 or size(joined(shortest)) <= width:
            chosen = shortest
    for place in (place for place in by_rank if place in chosen):
        longest = (form for form in range(chosen[place]) if size(joined(chosen | {place: form})) <= width)
        chosen[place] = next(longest, chosen[place])
    line = joined(chosen)
    if size(line) <= width:
        return line
    while line and size(line + _CUT) > width:
        line = line[:-1]
    return line + _CUT
