"""Read the values of a SQLite database, deleted ones in its pages included.

A search of the file's bytes finds values inside one page, used or free. Longer values continue in overflow pages, which
need not be adjacent: so SQLite reads the rows of tables, and for deleted rows the end of each page is joined to the
beginning of the next one of its chain (sqlite.org/fileformat.html, 1.6).
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from laion_dask.removals.traces import trace_formats

_LINES: Final = 1 << 20
_MIN_BLOB: Final = 64
_JOINT: Final = 4096
_LEAF_OF_TABLE: Final = 0x0D
_MAX_CELLS: Final = 1 << 15


@dataclass(frozen=True, slots=True)
class Blob:
    """A binary value, which may be a file of any kind."""

    blob: bytes


def contents(path: Path) -> Iterator[tuple[str, bytes | Blob]]:
    """Yield (place, values as lines or one binary value) of all tables, then the joints of page chains."""
    with path.open("rb") as file:
        head = file.read(100)
    # immutable: nothing is written, and a write-ahead log beside it is not replayed.
    uri = f"{path.absolute().as_uri()}?mode=ro&immutable=1"
    connection = sqlite3.connect(uri, uri=True)
    connection.text_factory = lambda text: text
    try:
        tables = connection.execute("select name, sql from sqlite_master where type = 'table'").fetchall()
        for name, sql in tables:
            if not (sql or b"").lower().startswith(b"create virtual"):
                yield from _rows(connection, name.decode())
    finally:
        connection.close()
    size = int.from_bytes(head[16:18], "big")
    yield from (("pages", joint) for joint in _joints(path, 65536 if size == 1 else size, head[20]))


def _rows(connection: sqlite3.Connection, table: str) -> Iterator[tuple[str, bytes | Blob]]:
    place, lines, held = f"table {table}", [], 0
    quoted = '"' + table.replace('"', '""') + '"'
    columns = [f'"{name}"' for _, name, *_ in _described(connection, quoted)]
    types = ", ".join(f"typeof({name})" for name in columns)
    for row in connection.execute(f"select {', '.join(columns)}, {types} from {quoted}"):
        values: tuple[Any, ...] = row
        for value, kind in zip(values[: len(columns)], values[len(columns) :], strict=True):
            if not isinstance(value, bytes):
                continue
            if kind == b"blob" and (len(value) >= _MIN_BLOB or trace_formats.kind_of(value, "")):
                yield place, Blob(value)
            else:
                lines.append(value)
                held += len(value)
        if held >= _LINES:
            yield place, b"\n".join(lines)
            lines, held = [], 0
    yield place, b"\n".join(lines)


def _described(connection: sqlite3.Connection, quoted: str) -> list[tuple[Any, ...]]:
    rows = connection.execute(f"pragma table_xinfo({quoted})").fetchall()
    return [(number, name.decode().replace('"', '""'), *rest) for number, name, *rest in rows]


def _joints(path: Path, size: int, reserved: int) -> Iterator[bytes]:
    """Yield, for each page that continues in another one, its end joined to the beginning of that one."""
    usable, pages = size - reserved, path.stat().st_size // size if size else 0
    with path.open("rb") as file:
        for number in range(1, pages + 1):
            file.seek((number - 1) * size)
            page = file.read(size)[:usable]
            following = int.from_bytes(page[:4], "big")
            ends = [(usable, following)] if 1 < following <= pages else []
            if page[:1] == bytes([_LEAF_OF_TABLE]):
                ends += [end for end in _ends_of_cells(page, usable) if 1 < end[1] <= pages]
            for end, following in ends:
                file.seek((following - 1) * size)
                yield page[max(0, end - _JOINT) : end] + file.read(size)[4:usable][:_JOINT]


def _ends_of_cells(page: bytes, usable: int) -> Iterator[tuple[int, int]]:
    """Yield where the local part of each long row ends in a leaf page, and its overflow page."""
    cells = min(int.from_bytes(page[3:5], "big"), _MAX_CELLS, (usable - 8) // 2)
    least = (usable - 12) * 32 // 255 - 23
    for place in range(cells):
        at = int.from_bytes(page[8 + 2 * place : 10 + 2 * place], "big")
        payload, begin = _number(page, at)
        _, begin = _number(page, begin)
        if payload <= usable - 35:
            continue
        local = least + (payload - least) % (usable - 4)
        end = begin + (local if local <= usable - 35 else least)
        if end + 4 <= usable:
            yield end, int.from_bytes(page[end : end + 4], "big")


def _number(page: bytes, at: int) -> tuple[int, int]:
    """Return a varint, and where it ends."""
    value = 0
    for place in range(at, min(at + 9, len(page))):
        byte = page[place]
        if place - at == 8:
            return value << 8 | byte, place + 1
        value = value << 7 | byte & 0x7F
        if byte < 0x80:
            return value, place + 1
    return value, at
