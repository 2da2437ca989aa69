"""Every form that a trace may have in a file, besides the escapes that `trace_fold` undoes."""

from __future__ import annotations

import base64
import contextlib
import re
import unicodedata
import uuid
from collections.abc import Iterator
from enum import Enum
from typing import Final

from laion_dask.removals.traces.trace_fold import fold
from laion_dask.web.urls import address_key

LONGEST: Final = 4096
"""Bytes of a trace that are searched for: no two addresses or texts of a crawl share so many by chance."""
MIN_TEXT: Final = 8
"""Characters; shorter texts do not count as traces, since many pages have them."""
SAMPLE_BYTES: Final = 33
"""From the middle of a picture: whole groups of three for base64 at any shift."""
_TELLING_BYTES: Final = 20
_TELLING_DIGEST: Final = 8
_UUID_BYTES: Final = 16
_ADDRESS: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#]*@)?([^/?#]*)([^#]*)", re.DOTALL)
_PORT: Final = re.compile(r":(?:80|443)?$")
_ENDS_OF_HOST: Final = ("", ".", ":80", ":443")


class Kind(Enum):
    """The kind of a trace, which decides what may be next to a match."""

    ADDRESS = "an address"
    SITE = "an address "
    """A host without a path: the beginning of every other address there."""
    DOMAIN = "an address on a removed domain"
    TEXT = "a text"
    WORD = "a text "
    """One that other texts contain too: it counts only if it stands alone."""
    DIGEST = "a digest"
    BODY = "a part of a picture"


def of_address(url: str) -> Iterator[tuple[bytes, Kind]]:
    """Yield the address without scheme and user, in all equivalent spellings."""
    places: dict[tuple[str, str], None] = {}
    for spelling in (url, *address_key.spellings(url)):
        parts = _ADDRESS.match(spelling)
        if parts is None:
            yield from ((form, Kind.ADDRESS) for form in encodings(spelling))
        else:
            places[_PORT.sub("", parts[1]).rstrip("."), parts[2].removesuffix("?")] = None
    for host, rest in places:
        if rest in {"", "/"}:
            yield from ((form, Kind.SITE) for form in encodings(host))
        else:
            yield from ((form, Kind.ADDRESS) for end in _ENDS_OF_HOST for form in encodings(f"{host}{end}{rest}"))


def of_text(text: str) -> Iterator[tuple[bytes, Kind]]:
    """Yield a caption in the encodings of `encodings`."""
    kind = Kind.TEXT if _is_telling(text) else Kind.WORD
    yield from ((form, kind) for form in encodings(text.strip()))


def of_digest(digest: str) -> Iterator[tuple[bytes, Kind]]:
    """Yield a digest in hex, and as bytes and base64 unless files may have these by chance, such as zeros."""
    plain = bytes.fromhex(digest)
    if len(set(plain)) == 1 and plain[0] in {0, 255}:
        return
    packed = (plain, *_in_base64(plain)) if len(set(plain)) >= _TELLING_DIGEST else ()
    # PostgreSQL writes 16 bytes as a UUID.
    dashed = (str(uuid.UUID(digest)), str(uuid.UUID(digest)).upper()) if len(plain) == _UUID_BYTES else ()
    for form in (digest.lower().encode(), digest.upper().encode(), *(one.encode() for one in dashed), *packed):
        yield form, Kind.DIGEST
        yield fold(form), Kind.DIGEST


def of_body(sample: str) -> Iterator[tuple[bytes, Kind]]:
    """Yield a sample of a picture's bytes, plain, in hex, and in base64 at each of its three shifts."""
    plain = bytes.fromhex(sample)
    yield plain, Kind.BODY
    yield from ((form.encode(), Kind.BODY) for form in (sample.lower(), sample.upper()))
    for shift in range(3):
        for form in _in_base64(plain[shift : shift + SAMPLE_BYTES - 3]):
            yield form, Kind.BODY
            yield fold(form), Kind.BODY


def _in_base64(plain: bytes) -> tuple[bytes, bytes]:
    """Return both alphabets of base64, without padding."""
    return base64.b64encode(plain).rstrip(b"="), base64.urlsafe_b64encode(plain).rstrip(b"=")


def sample_of(picture: bytes) -> str:
    """Return bytes that find a picture inside other files, hex; empty if they vary too little."""
    places = (len(picture) * part // 8 for part in (4, 5, 3, 6))
    samples = [picture[place : place + SAMPLE_BYTES] for place in places]
    best = max(samples, key=lambda sample: len(set(sample)))
    return best.hex() if len(best) == SAMPLE_BYTES and len(set(best)) >= _TELLING_BYTES else ""


def encodings(value: str) -> Iterator[bytes]:
    """Yield a value in UTF-8, Latin-1, Windows-1252 and UTF-16, the latter without zero bytes, and folded."""
    plain = value.encode("utf-8", "surrogatepass")[:LONGEST]
    yield plain
    yield fold(plain)
    if not value.isascii():
        wide = [value.encode(name, "surrogatepass") for name in ("utf-16-le", "utf-16-be")]
        others = [form.replace(b"\0", b"") for form in wide]
        # Some file systems and programs decompose or compose accented letters.
        others += [unicodedata.normalize(form, value).encode("utf-8", "surrogatepass") for form in ("NFC", "NFD")]
        # Windows-1252, where the value has no other characters.
        with contextlib.suppress(UnicodeEncodeError):
            others.append(value.encode("cp1252"))
        narrow = value.encode("latin-1", "ignore")
        others += [narrow] if len(narrow) == len(value) else []
        for form in others:
            yield form[:LONGEST]
            yield fold(form[:LONGEST])


def _is_telling(text: str) -> bool:
    """Tell whether a text is too long to occur by chance: three words, two long ones, or other scripts."""
    words, other = len(text.split()), sum(not character.isascii() for character in text)
    return words + other // 2 >= 3 or (words == 2 and len(text) >= 2 * MIN_TEXT)
