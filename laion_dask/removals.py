"""removals.csv in, checked removals out: what is taken out, written as extraction writes URLs and hosts."""

from __future__ import annotations

import csv
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from laion_dask.urls import Address, UrlRules, resolve

KINDS: Final = ("url", "domain", "uid", "md5", "sha256")
_COLUMNS: Final = ("kind", "value", "reason", "date", "source")
_HEX_DIGITS: Final = {"uid": 32, "md5": 32, "sha256": 64}
_ANY: Final = UrlRules(schemes=("http", "https", "ftp", "ftps"))


class RemovalsError(Exception):
    """The ledger of removals is not what it should be; the message names line, value and remedy."""


@dataclass(frozen=True, slots=True)
class Removal:
    """One line of the ledger of removals: what is taken out, and why."""

    kind: str
    value: str
    reason: str


def read(path: Path) -> list[Removal]:
    """Read and check `removals.csv`; `RemovalsError` names line, value and remedy."""
    if not path.is_file():
        message = f"{path} is missing. Remedy: make it with the header line {','.join(_COLUMNS)}"
        raise RemovalsError(message)
    with path.open(newline="", encoding="utf-8") as stream:
        reader = csv.DictReader(stream)
        if tuple(reader.fieldnames or ()) != _COLUMNS:
            message = f"{path}: the header is {reader.fieldnames}. Remedy: {','.join(_COLUMNS)}"
            raise RemovalsError(message)
        removals = []
        for row in reader:
            value = (row["value"] or "").strip()
            remedy = _remedy(row["kind"], value)
            if remedy:
                message = f"{path}:{reader.line_num}: kind {row['kind']!r} with value {value!r}. Remedy: {remedy}"
                raise RemovalsError(message)
            removals.append(Removal(row["kind"], _normal(row["kind"], value), row["reason"] or ""))
    return removals


def _remedy(kind: str, value: str) -> str:
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


def _normal(kind: str, value: str) -> str:
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
