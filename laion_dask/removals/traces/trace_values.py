"""The values by which removed pairs are known, and the kept values that contain one of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Traces:
    """What must not be found any more."""

    uids: frozenset[str] = frozenset()
    urls: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()
    """md5, sha256 and pdq of images as they came, hex."""
    pictures: frozenset[str] = frozenset()
    """sha256 of images as they are stored, hex."""
    bodies: frozenset[str] = frozenset()
    """A few bytes out of the middle of each of these pictures, hex: they find the picture inside other files."""
    domains: frozenset[str] = frozenset()
    """Hosts of the ledger: an address on one of them, or below it, is a trace whatever its path is."""
    kept: frozenset[str] = frozenset()
    """Values of pairs that stay in which one of the above stands: such a value as a whole is no trace."""
    made: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    """What is derived from the values once and used for every file: the search, the values as columns."""

    def __or__(self, other: Traces) -> Traces:
        """Return what either of two is known by."""
        return Traces(**{name: getattr(self, name) | getattr(other, name) for name in NAMES})


NAMES = tuple(one.name for one in fields(Traces) if one.init)
"""The sets of values that make up a `Traces`."""
