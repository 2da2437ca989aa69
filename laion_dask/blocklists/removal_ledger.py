"""Read and check removals.csv; addresses and hosts are normalized as in the stage extract."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Final

from laion_dask.storage import printable, strict_rows
from laion_dask.web.urls import hostnames
from laion_dask.web.urls.resolver import Address, UrlRules, resolve

KINDS: Final = ("url", "domain", "uid", "md5", "sha256", "pdq")
OF_PICTURES: Final = ("md5", "sha256", "pdq")
COLUMNS: Final = ("kind", "value", "reason", "date", "source")
_HEX_DIGITS: Final = {"uid": 32, "md5": 32, "sha256": 64, "pdq": 64}
_DAY: Final = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
# A host as in a crawl, where letters of other scripts are in punycode.
_NAME: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
# After a blank there is a comment or another value, and the whole would match nothing.
_BLANK: Final = re.compile(r"\s")
_TWO: Final = re.compile(r"[,;|](?:https?|ftps?):/", re.IGNORECASE)
_ANY: Final = UrlRules(schemes=("http", "https", "ftp", "ftps"))


class RemovalsError(Exception):
    """The removal ledger is invalid; the message has line, value and remedy."""


@dataclass(frozen=True, slots=True)
class Removal:
    """One line of the removal ledger: what is removed, and why."""

    kind: str
    value: str
    reason: str
    date: str = ""
    """Date of the request, ISO 8601; empty counts as before all others."""
    source: str = ""
    """Who asked, or what found it; for a person only a salted hash (`removal_requests.pseudonym`)."""


def read(path: Path, *, known_as: Path | None = None) -> list[Removal]:
    """Read and check `removals.csv`; raises `RemovalsError`.

    `known_as` is the file's name in messages, if it is a copy of another file.
    """
    if not path.is_file():
        message = f"{path} is missing. Remedy: make it with the header line {','.join(COLUMNS)}"
        raise RemovalsError(message)
    name = known_as or path
    with path.open("rb") as stream:
        try:
            header, rows = strict_rows.table(stream, name)
            if tuple(header) != COLUMNS:
                message = f"{name}: the header is {header}. Remedy: {','.join(COLUMNS)}"
                raise RemovalsError(message)
            return [_removal(values, f"{name}:{number}") for number, values in rows]
        except strict_rows.RowsError as error:
            raise RemovalsError(str(error)) from None


def _removal(values: Sequence[str], where: str) -> Removal:
    kind, value, why, day, who = values
    kind, value, day = kind.strip(), value.strip(), day.strip()
    advice = remedy(kind, value)
    if advice:
        message = f"{where}: kind {kind!r} with value {value!r}. Remedy: {advice}"
        raise RemovalsError(message)
    if day and not _is_day(day):
        message = f"{where}: date {day!r}. Remedy: year, month and day, such as 2026-03-31"
        raise RemovalsError(message)
    return Removal(kind, normal(kind, value), why, day, who)


def _is_day(text: str) -> bool:
    if not _DAY.fullmatch(text):
        return False
    try:
        date.fromisoformat(text)
    except ValueError:
        return False
    return True


def remedy(kind: str, value: str) -> str:
    """Return what a line should have, empty for a valid one; an invalid value would silently match nothing."""
    digits = _HEX_DIGITS.get(kind)
    if kind not in KINDS or not value:
        return f"a value, and a kind out of {', '.join(KINDS)}"
    if digits and not re.fullmatch(f"[0-9a-fA-F]{{{digits}}}", value):
        return f"{digits} hex digits"
    if kind == "domain":
        return _remedy_of_domain(value)
    return _remedy_of_url(value) if kind == "url" else ""


def _remedy_of_url(value: str) -> str:
    if not ("://" in value and isinstance(_resolved(value), Address)):
        return "an absolute address, such as https://a.example/b.jpg"
    if _BLANK.search(value) or printable.line(value) != value:
        return "an address without blanks and hidden characters; escape those that belong to it, e.g. %20"
    return "one address in each line" if _TWO.search(value) else ""


def _remedy_of_domain(value: str) -> str:
    name = normal("domain", value)
    if re.search(r"[/:*@\s]", value) or not _NAME.fullmatch(name):
        return "the bare name, such as takedown.example; its subdomains are removed too"
    if not hostnames.registrable_domain(name) and not name.replace(".", "").isdigit():
        return "a registered domain; this is a public suffix, and all names below it would be removed"
    return ""


@lru_cache(maxsize=256)
def _resolved(value: str) -> Address | str:
    """Return the result of `resolve`; cached, as each line is first checked and then normalized."""
    return resolve(value, "", _ANY)


def normal(kind: str, value: str) -> str:
    """Normalize a value as extraction does, whatever form the request had."""
    if kind not in {"url", "domain"}:
        return value.lower()
    name = value.lower().strip(".")
    written = f"https://{name}/" if kind == "domain" else value
    # Also accept addresses that the current rules of extraction refuse: older versions may have them.
    address = _resolved(written)
    if kind == "domain":
        return address.host if isinstance(address, Address) else name
    return address.url if isinstance(address, Address) else value
