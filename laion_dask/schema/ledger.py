"""Count what a stage saw, kept and dropped by reason, and check that the counts add up.

A ledger whose sides differ is a bug and fails the stage.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from laion_dask.schema.reasons import KEEP, REASON_STAGE


class LedgerError(Exception):
    """Counts do not add up: rows vanished, appeared, or were dropped for a reason that is not on the list."""


@dataclass(slots=True)
class Ledger:
    """Rows seen, kept, and dropped by reason, of one stage and one kind of row."""

    seen: int = 0
    kept: int = 0
    dropped: Counter[str] = field(default_factory=Counter)

    def keep(self, rows: int = 1) -> None:
        """Count rows that go on."""
        self.seen += rows
        self.kept += rows

    def drop(self, reason: str, rows: int = 1) -> None:
        """Count rows that end here; `LedgerError` if the reason is not on the closed list."""
        if reason not in REASON_STAGE:
            message = f"unknown reason {reason!r}: add it to REASONS in laion_dask/schema/reasons.py with its meaning"
            raise LedgerError(message)
        self.seen += rows
        self.dropped[reason] += rows

    def add(self, verdicts: Iterable[str]) -> None:
        """Count verdicts, `keep` or a reason each."""
        for verdict, rows in Counter(verdicts).items():
            if verdict == KEEP:
                self.keep(rows)
            else:
                self.drop(verdict, rows)

    def check(self, where: str, *, expected: int | None = None, reasons: Collection[str] | None = None) -> None:
        """Raise `LedgerError` unless kept + dropped = seen (= expected, when the stage before says how many came).

        With `reasons`, others than these are refused as well.
        """
        unknown = sorted(self.dropped.keys() - set(reasons)) if reasons is not None else []
        if unknown:
            message = f"{where}: unknown reasons {unknown}: add them to REASONS in laion_dask/schema/reasons.py"
            raise LedgerError(message)
        ends = self.kept + self.dropped.total()
        if ends != self.seen:
            message = f"{where}: {self.seen:,} rows seen, but {self.kept:,} kept + {self.dropped.total():,} dropped"
            raise LedgerError(message)
        if expected is not None and expected != self.seen:
            message = f"{where}: {expected:,} rows came from the stage before, {self.seen:,} were seen here"
            raise LedgerError(message)

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON: seen, kept, dropped by reason in the order of the closed list."""
        order = {reason: place for place, reason in enumerate(REASON_STAGE)}
        dropped = {
            reason: self.dropped[reason] for reason in sorted(self.dropped, key=lambda name: (order.get(name, 0), name))
        }
        return {"seen": self.seen, "kept": self.kept, "dropped": dropped}

    @classmethod
    def from_dict(cls, counts: Mapping[str, Any]) -> Ledger:
        """Read what `as_dict` wrote."""
        return cls(int(counts["seen"]), int(counts["kept"]), Counter(counts["dropped"]))

    @classmethod
    def total(cls, ledgers: Iterable[Mapping[str, Any]]) -> Ledger:
        """Add up the ledgers of parts."""
        sum_ = cls()
        for counts in ledgers:
            sum_.seen += counts["seen"]
            sum_.kept += counts["kept"]
            sum_.dropped.update(counts["dropped"])
        return sum_
