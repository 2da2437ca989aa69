"""Read a table of URLs in JSON lines: each line is an object and is parsed on its own.

Texts are unchanged. In a text column a number, true or false becomes text as written; a list or an object is a fault,
and so is an address that is not a text. null is a missing value.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Any, BinaryIO, Final

import msgspec

from laion_dask.download.url_rows import BLANK, SURROGATES, Sheet, TableRow, numbered

# The first rows are read with all of their keys, for error messages.
_LOOKED_AT: Final = 20
_MOST_SHOWN: Final = 60
_INT64: Final = 2**63
# Characters that JSON escapes, or that UTF-8 cannot encode.
_ESCAPED: Final = re.compile('[\\\\"\x00-\x1f\ud800-\udfff]')
_NONE: Final = msgspec.Raw()
_NOT_STRICT: Final = (ValueError, RecursionError)


class _Written(str):
    """A number, as written."""

    __slots__ = ()


class _Object(list[tuple[str, Any]]):
    """An object: its names and values, possibly with repeated names."""


def _refuse(word: str) -> float:
    raise ValueError(f"{word} is no JSON")


_CAREFUL: Final = json.JSONDecoder(
    object_pairs_hook=_Object, parse_int=_Written, parse_float=_Written, parse_constant=_refuse
)


def rows(stream: BinaryIO, sheet: Sheet) -> Iterator[TableRow]:
    """Yield a row for each line that is not blank."""
    quickly = _quick_reader(sheet)
    for count, (number, line) in enumerate(numbered(stream, sheet)):
        if not isinstance(line, bytes):
            yield line
        elif count >= _LOOKED_AT and (values := quickly(line)) is not None:
            yield TableRow(values, size=len(line))
        else:
            yield _carefully(number, line, sheet)


def _quick_reader(sheet: Sheet) -> Callable[[bytes], Sequence[str | None] | None]:
    """Return a function that parses a line whose text columns are texts or null; it returns None for other lines."""
    names, typed = sheet.wanted.names, _typed(sheet)
    if any(_ESCAPED.search(name) for name in names):
        return lambda _: None  # such a name has several spellings, which only the careful reader handles
    own = [f"c{place}" for place in range(len(names))]
    fields = [
        (mine, msgspec.Raw, _NONE) if name in typed else (mine, str | None, None)
        for mine, name in zip(own, names, strict=True)
    ]
    line_type = msgspec.defstruct("Line", fields, rename=dict(zip(own, names, strict=True)), gc=False)
    decode, as_tuple = msgspec.json.Decoder(line_type).decode, msgspec.structs.astuple
    marks = [json.dumps(name, ensure_ascii=False).encode() for name in names]
    types = [(place, name) for place, name in enumerate(names) if name in typed]

    def read_line(line: bytes) -> Sequence[str | None] | None:
        # A repeated or escaped key needs the careful reader.
        if b"\\u" in line:
            return None
        for mark in marks:
            if line.count(mark) > 1:
                return None
        try:
            values = as_tuple(decode(line))
            if not types:
                return values
            converted = list(values)
            for place, name in types:
                converted[place] = _value(name, _read(bytes(converted[place])), sheet)
        except _NOT_STRICT:
            return None
        return converted

    return read_line


def _read(raw: bytes) -> object:
    """Parse one value that is valid JSON; empty means null."""
    if not raw:
        return None
    text = raw.decode()
    return _Written(text) if text[0] in "-0123456789" else _CAREFUL.decode(text)


def _typed(sheet: Sheet) -> frozenset[str]:
    return frozenset(sheet.wanted.typed) - {*sheet.wanted.urls, *sheet.wanted.texts}


def _carefully(number: int, line: bytes, sheet: Sheet) -> TableRow:
    try:
        parsed = _CAREFUL.decode(line.decode().strip(BLANK))
    except UnicodeDecodeError:
        return sheet.bad(number, "the line is no UTF-8")
    except (ValueError, RecursionError) as error:
        return sheet.bad(number, f"no JSON: {error}")
    if not isinstance(parsed, _Object):
        is_list = isinstance(parsed, list)
        return sheet.bad(number, "a list, not an object (jq -c '.[]' makes lines of it)" if is_list else "no object")
    values: dict[str, Any] = {}
    for name, value in parsed:
        if name in values and name in sheet.wanted.names:
            return sheet.bad(number, f"the key {name!r} stands twice")
        values[name] = value
        sheet.see(_clean(name))
    texts: list[str | None] = []
    faults: dict[int, str] = {}
    typed = _typed(sheet)
    for place, name in enumerate(sheet.wanted.names):
        value = values.get(name)
        if name in typed:
            texts.append(_value(name, value, sheet))
            continue
        if isinstance(value, list) or (name in sheet.wanted.urls and (isinstance(value, bool | _Written))):
            faults[place] = sheet.fault(number, f"{name!r} is no text, but {_as_json(value)[:_MOST_SHOWN]}")
            value = None
        texts.append(_text(value))
    return TableRow(texts, None, faults, len(line))


def _value(name: str, value: object, sheet: Sheet) -> str | None:
    """Return a value of a typed column as text, and record its type."""
    if value is not None:
        sheet.kinds.setdefault(name, set()).add(_kind(value))
    return _as_json(value) if isinstance(value, list) else _text(value)


def _kind(value: object) -> str:
    if isinstance(value, bool):
        return "BOOLEAN"
    if not isinstance(value, _Written):
        return "VARCHAR"
    if value.lstrip("-").isdigit():
        return "BIGINT" if len(value) < 20 and -_INT64 <= int(value) < _INT64 else "VARCHAR"
    return "DOUBLE" if math.isfinite(float(value)) else "VARCHAR"


def type_of(kinds: Collection[str]) -> str:
    """Return the common type of values of these types; VARCHAR if there is none."""
    if kinds and set(kinds) <= {"BIGINT", "DOUBLE"}:
        return "DOUBLE" if "DOUBLE" in kinds else "BIGINT"
    return "BOOLEAN" if set(kinds) == {"BOOLEAN"} else "VARCHAR"


def _text(value: object) -> str | None:
    if isinstance(value, bool):
        return "true" if value else "false"
    return None if value is None else _clean(str(value))


def _clean(value: str) -> str:
    return value if value.isascii() else SURROGATES.sub("\ufffd", value)


def _as_json(value: object) -> str:
    """Write a parsed value as JSON, with numbers as in the input."""
    if isinstance(value, _Object):
        return "{" + ", ".join(f"{json.dumps(name)}: {_as_json(one)}" for name, one in value) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(_as_json, value)) + "]"
    return str(value) if isinstance(value, _Written) else json.dumps(value, ensure_ascii=True)
