"""The values that identify removed pairs, and the kept values that contain one of them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any


@dataclass(frozen=True)
class Traces:
    """Values that must not be in any file after a purge."""

    uids: frozenset[str] = frozenset()
    urls: frozenset[str] = frozenset()
    texts: frozenset[str] = frozenset()
    digests: frozenset[str] = frozenset()
    """md5, sha256 and pdq of images as received, hex."""
    pictures: frozenset[str] = frozenset()
    """sha256 of images as they are stored, hex."""
    bodies: frozenset[str] = frozenset()
    """A few bytes from the middle of each of these pictures, hex, to find it inside other files."""
    domains: frozenset[str] = frozenset()
    """Domains of the ledger: any address on one of them or a subdomain is a trace."""
    kept: frozenset[str] = frozenset()
    """Values of kept pairs that contain one of the above: a trace inside such a value does not count."""
    made: dict[str, Any] = field(default_factory=dict, init=False, compare=False, repr=False)
    """Objects that are built from the values once and used for every file, such as the search."""

    def __or__(self, other: Traces) -> Traces:
        """Return the union of each set."""
        return Traces(**{name: getattr(self, name) | getattr(other, name) for name in NAMES})


NAMES = tuple(one.name for one in fields(Traces) if one.init)
"""The sets of values that make up a `Traces`."""
