r"""Bring bytes that were escaped (JSON, HTML, URLs, CSV) or written as UTF-16 into the one form that is searched.

The same text is written in many ways: `\/` and `\u00e9` in JSON, `&amp;` in HTML, `%C3%A9` in queries, with a zero
byte beside each letter in UTF-16, with each quote twice in CSV and SQL, in base64 that is broken into lines. `fold`
undoes these, nested ones too. Traces are folded by the same function, so that both sides have the same form even if a
value itself contains what looks like an escape.
"""

from __future__ import annotations

import html
import re
from typing import Final

_ROUNDS: Final = 4
"""Levels of nested escapes that are undone: HTML in JSON in a query has three."""
# Each begins with one plain character: Python finds that a hundred times as fast.
_BACKSLASH: Final = re.compile(
    rb"\\(?:u[0-9a-fA-F]{4}(?:\\u[0-9a-fA-F]{4})*|u\{[0-9a-fA-F]{1,6}\}|U[0-9a-fA-F]{8}"
    rb"|x[0-9a-fA-F]{2}(?:\\x[0-9a-fA-F]{2})*|[0-3][0-7]{2}(?:\\[0-3][0-7]{2})*|[/\"'\\nrt])"
)
_ENTITY: Final = re.compile(rb"&(?:#[0-9]{1,7};?|#[xX][0-9a-fA-F]{1,6};?|[A-Za-z][A-Za-z0-9]{1,31};)")
_PERCENT: Final = re.compile(rb"%[0-9a-fA-F]{2}(?:%[0-9a-fA-F]{2})*")
_CAPITALS_IN_HOST: Final = re.compile(rb"//[a-z0-9.@:_-]*[A-Z][A-Za-z0-9.@:_-]*")
# Base64 is broken into lines of 60 to 76 characters in mails, notebooks and keys.
_BROKEN: Final = re.compile(
    rb"\n(?:(?<=[A-Za-z0-9+/]{60}\n)|(?<=[A-Za-z0-9_-]{60}\n))(?=[A-Za-z0-9+/_-])(?!https?:)", re.IGNORECASE
)
_PLAIN: Final = {b"n": b"\n", b"r": b"\r", b"t": b"\t"}
# Forms encode a space as a plus sign.
_BLANKS: Final = bytes.maketrans(b"+\t", b"  ")


def fold(block: bytes) -> bytes:
    """Return the block without zero bytes and escapes, with equal blanks, single quotes and hosts in lower case."""
    text = block.replace(b"\0", b"") if b"\0" in block else block
    for _ in range(_ROUNDS):
        before = text
        if b"\\" in text:
            text = _BACKSLASH.sub(_without_backslash, text)
        if b"&" in text:
            text = _ENTITY.sub(_without_entity, text)
        if b"%" in text:
            text = _PERCENT.sub(_without_percent, text)
        if text == before:
            break
    text = text.replace(b"\r\n", b"\n")
    for quote in (b'"', b"'"):
        # CSV and SQL write a quote inside of a value twice.
        while quote * 2 in text:
            text = text.replace(quote * 2, quote)
    if b"\n" in text:
        text = _BROKEN.sub(b"", text)
    if b"//" in text:
        text = _CAPITALS_IN_HOST.sub(_lower, text)
    return text.translate(_BLANKS)


def _without_backslash(found: re.Match[bytes]) -> bytes:
    escape = found[0]
    kind = escape[1:2]
    if escape[1:3] == b"u{":
        return _letter(int(escape[3:-1], 16), escape)
    if kind == b"u":
        return bytes.fromhex(escape.replace(b"\\u", b"").decode()).decode("utf-16-be", "replace").encode()
    if kind == b"U":
        return _letter(int(escape[2:].decode(), 16), escape)
    if kind == b"x":
        return _utf_8(bytes.fromhex(escape.replace(b"\\x", b"").decode()))
    if kind.isdigit():
        return _utf_8(bytes(int(number, 8) for number in escape[1:].split(b"\\")))
    return _PLAIN.get(kind, kind)


def _letter(number: int, escape: bytes) -> bytes:
    return chr(number).encode("utf-8", "replace") if number < 0x110000 else escape


def _utf_8(plain: bytes) -> bytes:
    try:
        plain.decode()
    except UnicodeDecodeError:
        return plain.decode("latin-1").encode()
    return plain


def _without_entity(found: re.Match[bytes]) -> bytes:
    return html.unescape(found[0].decode()).encode("utf-8", "replace")


def _without_percent(found: re.Match[bytes]) -> bytes:
    return bytes.fromhex(found[0].replace(b"%", b"").decode())


def _lower(found: re.Match[bytes]) -> bytes:
    return found[0].lower()
