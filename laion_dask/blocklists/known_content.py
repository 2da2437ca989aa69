"""Look up bodies, pictures and addresses in lists of known content, and blank the rows that are on one."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_dask.blocklists.known_index import URL_KINDS, WIDTHS, Bools, Bytes, Index
from laion_dask.storage.uids import to_bytes
from laion_dask.web.urls import address_key

LISTED_HASH: Final = "listed_hash"
LISTED_ADDRESS: Final = "listed_address"
LISTED: Final = frozenset({LISTED_HASH, LISTED_ADDRESS})
"""Reasons of a download whose row is blanked but for the names of the lists: see `blank`."""

_KEPT: Final = frozenset(
    {"key", "uid", "split", "language", "status", "error_message", "reason", "listed_by", "rights"}
)
_NULL: Final = frozenset({"md5", "sha1", "sha256", "pdq", "format", "server_date", "rights_time"})
_ZERO: Final = frozenset({"bytes", "http_status"})

_DIGESTS: Final = {"md5": hashlib.md5, "sha1": hashlib.sha1, "sha256": hashlib.sha256}
_BODY_KINDS: Final = ("md5", "sha1", "sha256")


def of_body(lists: Sequence[Index], body: bytes) -> tuple[str, ...]:
    """Return the names of lists with the md5, sha1 or sha256 of a body."""
    return tuple(
        entry.name for entry in lists if entry.kind in _BODY_KINDS and entry.find(_digests(entry.kind, [body]))[0]
    )


def of_picture(lists: Sequence[Index], pdq: str | None, quality: int | None) -> tuple[str, ...]:
    """Return the names of lists with a picture near this PDQ (64 hex digits) of at least the list's quality."""
    if pdq is None or quality is None:
        return ()
    value = np.frombuffer(bytes.fromhex(pdq), np.uint8)[None]
    return tuple(
        entry.name for entry in lists if entry.kind == "pdq" and quality >= entry.quality and entry.find(value)[0]
    )


def of_urls(lists: Sequence[Index], urls: Sequence[str]) -> dict[str, Bools]:
    """Return for each list of addresses a mask of the `urls` that it contains in any spelling."""
    found = {entry.name: np.zeros(len(urls), bool) for entry in lists if entry.kind in URL_KINDS}
    if not found or not len(urls):
        return found
    spelled = [address_key.spellings(url) for url in urls]
    forms = [form.encode(errors="surrogatepass") for some in spelled for form in some]
    rows = np.repeat(np.arange(len(urls)), [len(some) for some in spelled])
    for digest in sorted({URL_KINDS[entry.kind] for entry in lists if entry.kind in URL_KINDS}):
        values = _digests(digest, forms)
        for entry in lists:
            if URL_KINDS.get(entry.kind) == digest:
                found[entry.name][rows[entry.find(values)]] = True
    return found


def of_rows(lists: Sequence[Index], images: pa.Table) -> dict[str, Bools]:
    """Return for each list of images a mask of its rows in `images`, which has the columns of `columns(lists)`."""
    found = {}
    for entry in lists:
        if entry.kind in URL_KINDS:
            continue
        texts = images[entry.kind]
        comparable = pc.is_valid(texts)
        if entry.kind == "pdq":
            comparable = pc.and_(
                comparable, pc.fill_null(pc.greater_equal(images["pdq_quality"], entry.quality), False)
            )
        rows = np.flatnonzero(comparable.to_numpy())
        mask = np.zeros(images.num_rows, bool)
        mask[rows] = entry.find(to_bytes(texts.filter(comparable), WIDTHS[entry.kind]))
        found[entry.name] = mask
    return found


def columns(lists: Sequence[Index]) -> list[str]:
    """Return the columns of a shard's images table that `of_rows` reads."""
    kinds = {entry.kind for entry in lists} - URL_KINDS.keys()
    return sorted(kinds | ({"pdq_quality"} if "pdq" in kinds else set()))


def any_of(found: Mapping[str, Bools], rows: int) -> Bools:
    """Return a mask of the rows that are on at least one list."""
    listed: Bools = np.any([np.zeros(rows, bool), *found.values()], axis=0)
    return listed


def count(found: Mapping[str, Bools], which: Bools) -> dict[str, int]:
    """Count for each list its rows among `which`."""
    return {name: int((mask & which).sum()) for name, mask in found.items()}


def total(lists: Iterable[Index], counts: Iterable[Mapping[str, int]]) -> dict[str, int]:
    """Add up counts by list; a list without a match has 0."""
    sums = Counter({entry.name: 0 for entry in lists})
    for found in counts:
        sums.update(found)
    return dict(sums)


def _digests(kind: str, contents: Sequence[bytes]) -> Bytes:
    # hashlib.new would take twice as long for an address.
    digest = _DIGESTS[kind]
    joined = b"".join([digest(content, usedforsecurity=False).digest() for content in contents])
    return np.frombuffer(joined, np.uint8).reshape(len(contents), -1)


# Blanking of listed rows


def message_for(names: Sequence[str]) -> str:
    """Return the error message of a row that these lists have: their names, nothing of the row."""
    return f"known content, list {', '.join(names)}"


def blank(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return the row of a listed pair with only uid, status and lists, and nothing that identifies the image.

    Address, text, page and position in the crawl become empty, digests and numbers null, the size of the body 0.
    """
    return {name: value if name in _KEPT else _blank(name, value) for name, value in row.items()}


def _blank(name: str, value: object) -> str | int | None:
    if name in _ZERO:
        return 0
    return "" if isinstance(value, str) and name not in _NULL else None
