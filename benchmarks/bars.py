"""A measured figure and its bar in, what a benchmark's last line of JSON says of it out."""

from __future__ import annotations

from typing import Any


def at_most(name: str, value: float, bar: float) -> dict[str, Any]:
    """Return the entry of a figure that must not be above its bar; the value as it is judged."""
    return {"name": name, "value": round(value, 3), "bar": f"<= {bar:g}", "holds": value <= bar}
