"""Every way in which a trace may stand in a file as bytes, beside the escapes that `trace_fold` undoes."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterator
from enum import Enum
from typing import Final

from laion_dask import address_key
from laion_dask.trace_fold import fold

LONGEST: Final = 4096
"""Bytes of a trace that are looked for: no two addresses or texts of a crawl have so much in common by chance."""
MIN_TEXT: Final = 8
"""Shorter texts are no traces: many pages have them."""
SAMPLE_BYTES: Final = 33
"""Out of the middle of a picture: whole groups of three in base64, however it is shifted."""
_TELLING_BYTES: Final = 20
_TELLING_DIGEST: Final = 8
_ADDRESS: Final = re.compile(r"(?:[A-Za-z][A-Za-z0-9+.-]*:)?//(?:[^/?#]*@)?([^/?#]*)([^#]*)", re.DOTALL)
_PORT: Final = re.compile(r":(?:80|443)?$")
_ENDS_OF_HOST: Final = ("", ".", ":80", ":443")


class Kind(Enum):
    """What a pattern is a trace of, which decides what may stand beside it."""

    ADDRESS = "an address"
    SITE = "an address "
    """Of a host without a path: the beginning of every other address there."""
    DOMAIN = "an address on a removed domain"
    TEXT = "a text"
    WORD = "a text "
    """One that stands in other texts too: it counts where it stands alone."""
    DIGEST = "a digest"
    BODY = "a part of a picture"


def of_address(url: str) -> Iterator[tuple[bytes, Kind]]:
    """Yield the address without scheme and user, in all spellings that mean the same."""
    places: dict[tuple[str, str], None] = {}
    for spelling in (url, *address_key.spellings(url)):
        found = _ADDRESS.match(spelling)
        if found is None:
            yield from ((form, Kind.ADDRESS) for form in encodings(spelling))
        else:
            places[_PORT.sub("", found[1]).rstrip("."), found[2].removesuffix("?")] = None
    for host, rest in places:
        if rest in {"", "/"}:
            yield from ((form, Kind.SITE) for form in encodings(host))
        else:
            yield from ((form, Kind.ADDRESS) for end in _ENDS_OF_HOST for form in encodings(f"{host}{end}{rest}"))


def of_text(text: str) -> Iterator[tuple[bytes, Kind]]:
    """Yield a caption in the encodings that files of this field have."""
    kind = Kind.TEXT if _is_telling(text) else Kind.WORD
    yield from ((form, kind) for form in encodings(text.strip()))


def of_digest(digest: str) -> Iterator[tuple[bytes, Kind]]:
    """Yield a digest in hex; as bytes and in base64 too, unless files have such bytes by chance, as zeros."""
    plain = bytes.fromhex(digest)
    if len(set(plain)) == 1 and plain[0] in {0, 255}:
        return
    packed = (plain, base64.b64encode(plain).rstrip(b"=")) if len(set(plain)) >= _TELLING_DIGEST else ()
    for form in (digest.lower().encode(), digest.upper().encode(), *packed):
        yield form, Kind.DIGEST
        yield fold(form), Kind.DIGEST


def of_body(sample: str) -> Iterator[tuple[bytes, Kind]]:
    """Yield a sample of a picture's bytes, plain and in base64 at each of its three shifts."""
    plain = bytes.fromhex(sample)
    yield plain, Kind.BODY
    for shift in range(3):
        form = base64.b64encode(plain[shift : shift + SAMPLE_BYTES - 3])
        yield form, Kind.BODY
        yield fold(form), Kind.BODY


def sample_of(picture: bytes) -> str:
    """Return the bytes by which a picture is found inside other files, hex; empty where they are too much alike."""
    places = (len(picture) * part // 8 for part in (4, 5, 3, 6))
    samples = [picture[place : place + SAMPLE_BYTES] for place in places]
    best = max(samples, key=lambda sample: len(set(sample)))
    return best.hex() if len(best) == SAMPLE_BYTES and len(set(best)) >= _TELLING_BYTES else ""


def encodings(value: str) -> Iterator[bytes]:
    """Yield a value in UTF-8, Latin-1 and UTF-16, the latter without zero bytes, and folded."""
    plain = value.encode("utf-8", "surrogatepass")[:LONGEST]
    yield plain
    yield fold(plain)
    if not value.isascii():
        wide = [value.encode(name, "surrogatepass") for name in ("utf-16-le", "utf-16-be")]
        yield from (form.replace(b"\0", b"")[:LONGEST] for form in wide)
        narrow = value.encode("latin-1", "ignore")
        if len(narrow) == len(value):
            yield narrow[:LONGEST]


def _is_telling(text: str) -> bool:
    """Tell whether a text stands nowhere by chance: three words, two long ones, or signs of another script."""
    words, other = len(text.split()), sum(not character.isascii() for character in text)
    return words + other // 2 >= 3 or (words == 2 and len(text) >= 2 * MIN_TEXT)
