"""Read and check removals.csv; addresses and hosts are written as the stage extract writes them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
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
# A host as a crawl can show it: letters of other scripts are in punycode by then.
_NAME: Final = re.compile(r"[a-z0-9_-]+(?:\.[a-z0-9_-]+)*")
# What stands behind it is a comment, another column or another address, and the whole would match nothing.
_BLANK: Final = re.compile(r"\s")
_TWO: Final = re.compile(r"[,;|](?:https?|ftps?):/", re.IGNORECASE)
_ANY: Final = UrlRules(schemes=("http", "https", "ftp", "ftps"))


class RemovalsError(Exception):
    """The ledger of removals is not what it should be; the message names line, value and remedy."""


@dataclass(frozen=True, slots=True)
class Removal:
    """One line of the ledger of removals: what is taken out, and why."""

    kind: str
    value: str
    reason: str
    date: str = ""
    """Of the request, ISO 8601; empty: before all others."""
    source: str = ""
    """Who asked, or what found it; of a person only a salted hash (`removal_requests.pseudonym`)."""


def read(path: Path, *, known_as: Path | None = None) -> list[Removal]:
    """Read and check `removals.csv`; `RemovalsError` names line, value and remedy.

    `known_as` is the name that messages give the file, where it is a copy of another one.
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


def until(removals: Iterable[Removal], day: date | None) -> list[Removal]:
    """Return the removals up to a day, that day included; all where it is None."""
    return [removal for removal in removals if day is None or removal.date <= day.isoformat()]


def after(removals: Iterable[Removal], day: date | None) -> list[Removal]:
    """Return what `until` leaves, and all that name a picture: its hashes are not known before the download."""
    return [
        removal
        for removal in removals
        if removal.kind in OF_PICTURES or (day is not None and removal.date > day.isoformat())
    ]


def remedy(kind: str, value: str) -> str:
    """Say how a line should be, empty where it is good: a value of another form would match nothing, in silence."""
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
        return "an address without blanks and hidden characters; those that belong to it are escaped, such as %20"
    return "one address in each line" if _TWO.search(value) else ""


def _remedy_of_domain(value: str) -> str:
    name = normal("domain", value)
    if re.search(r"[/:*@\s]", value) or not _NAME.fullmatch(name):
        return "the bare name, such as takedown.example; its subdomains are taken out too"
    if not hostnames.registrable_domain(name) and not name.replace(".", "").isdigit():
        return "it is a public suffix: everybody's names below it would go. Name the domain that somebody registered"
    return ""


@lru_cache(maxsize=256)
def _resolved(value: str) -> Address | str:
    """Return what `resolve` says; cached, as each line is checked first and then normalised."""
    return resolve(value, "", _ANY)


def normal(kind: str, value: str) -> str:
    """Write a value as extraction writes it, whatever form the request had."""
    if kind not in {"url", "domain"}:
        return value.lower()
    name = value.lower().strip(".")
    written = f"https://{name}/" if kind == "domain" else value
    # Whatever can be written so may be taken out, also what the rules of extraction refuse today.
    address = _resolved(written)
    if kind == "domain":
        return address.host if isinstance(address, Address) else name
    return address.url if isinstance(address, Address) else value
