"""removals.csv in, checked removals out: what is taken out, written as extraction writes URLs and hosts."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import Final

from laion_dask.urls import Address, UrlRules, resolve

KINDS: Final = ("url", "domain", "uid", "md5", "sha256", "pdq")
OF_PICTURES: Final = ("md5", "sha256", "pdq")
COLUMNS: Final = ("kind", "value", "reason", "date", "source")
_HEX_DIGITS: Final = {"uid": 32, "md5": 32, "sha256": 64, "pdq": 64}
_DAY: Final = re.compile(r"\d{4}-(0[1-9]|1[0-2])-(0[1-9]|[12]\d|3[01])")
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


def read(path: Path) -> list[Removal]:
    """Read and check `removals.csv`; `RemovalsError` names line, value and remedy."""
    if not path.is_file():
        message = f"{path} is missing. Remedy: make it with the header line {','.join(COLUMNS)}"
        raise RemovalsError(message)
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != COLUMNS:
            message = f"{path}: the header is {reader.fieldnames}. Remedy: {','.join(COLUMNS)}"
            raise RemovalsError(message)
        removals = []
        for row in reader:
            value, day = (row["value"] or "").strip(), (row["date"] or "").strip()
            told = remedy(row["kind"], value)
            if told:
                message = f"{path}:{reader.line_num}: kind {row['kind']!r} with value {value!r}. Remedy: {told}"
                raise RemovalsError(message)
            if day and not _DAY.fullmatch(day):
                message = f"{path}:{reader.line_num}: date {day!r}. Remedy: year, month and day, such as 2026-03-31"
                raise RemovalsError(message)
            kind, why, who = row["kind"], row["reason"] or "", row["source"] or ""
            removals.append(Removal(kind, normal(kind, value), why, day, who))
    return removals


def until(removals: Iterable[Removal], day: date | None) -> list[Removal]:
    """Return the removals up to a day, that day included; all where it is None."""
    return [removal for removal in removals if day is None or removal.date <= day.isoformat()]


def after(removals: Iterable[Removal], day: date | None) -> list[Removal]:
    """Return what `until` leaves, and all that name a picture: before the download nobody knows whose it is."""
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
    if kind == "domain" and re.search(r"[/:*@\s]", value):
        return "the bare name, such as takedown.example; its subdomains are taken out too"
    if kind == "url" and "://" not in value:
        return "an absolute address, such as https://a.example/b.jpg"
    return ""


def normal(kind: str, value: str) -> str:
    """Write a value as extraction writes it, whatever form the request had."""
    if kind not in {"url", "domain"}:
        return value.lower()
    name = value.lower().strip(".")
    written = f"https://{name}/" if kind == "domain" else value
    # Whatever can be written so may be taken out, also what the rules of extraction refuse today.
    address = resolve(written, "", _ANY)
    if kind == "domain":
        return address.host if isinstance(address, Address) else name
    return address.url if isinstance(address, Address) else value
