"""Name the tables of shards by their numbers, and find them in the order of these.

Five digits count 100,000 shards, a billion pairs in shards of 10,000. Names of different lengths do not sort like their
numbers.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

_LEAST_DIGITS: Final = 5
_MOST_DIGITS: Final = 19


def name(number: int, count: int) -> str:
    """Return the name of a shard, its number with leading zeros.

    All `count` shards have names of one length, at least img2dataset's five digits: programs that sort names, and
    open_clip's ranges `{00000..99999}.tar`, then have them in the order of their numbers.
    """
    return f"{number:0{max(_LEAST_DIGITS, len(str(count - 1)))}d}"


def table(folder: Path, number: int) -> Path | None:
    """Return `<shard>.parquet` of a folder by the shard's number, however long its name is; None where it is not."""
    for digits in range(_LEAST_DIGITS, _MOST_DIGITS + 1):
        path = folder / f"{number:0{digits}d}.parquet"
        if path.is_file():
            return path
    return None


def tables(folder: Path) -> list[Path]:
    """Return the `<shard>.parquet` files of a folder in the order of the shards, without other tables."""
    return sorted((path for path in folder.glob("*.parquet") if path.stem.isdigit()), key=lambda path: int(path.stem))
