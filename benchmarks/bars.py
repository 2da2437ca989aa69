"""A measured figure and its bar in, what a benchmark's last line of JSON says of it out."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Bar:
    """What is measured, and what it must reach."""

    name: str
    value: float
    bar: float
    at_most: bool = False

    @property
    def holds(self) -> bool:
        """Say whether the value reaches the bar."""
        return self.value <= self.bar if self.at_most else self.value >= self.bar

    def as_dict(self) -> dict[str, Any]:
        """Return the bar as it stands in the last line."""
        sign = "<=" if self.at_most else ">="
        return {"name": self.name, "value": round(self.value, 3), "bar": f"{sign} {self.bar:g}", "holds": self.holds}
