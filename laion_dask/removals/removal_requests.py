"""Check a removal request and append it to removals.csv: nothing twice, no public suffix, no personal data.

The ledger is public, and who asked is personal data. An address or number of a person becomes a salted hash: so two
requests of one person can be linked, and the person cannot be identified. The salt is the content of the file that
LAION_DASK_SALT_FILE names, outside of Git.
"""

from __future__ import annotations

import csv
import fcntl
import hashlib
import hmac
import io
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import date
from pathlib import Path
from typing import IO, Final

from laion_dask.blocklists import removal_ledger
from laion_dask.blocklists.removal_ledger import COLUMNS, KINDS, Removal
from laion_dask.storage import printable, sheets, strict_rows
from laion_dask.texts import personal
from laion_dask.web.urls import address_key

SALT_FILE: Final = "LAION_DASK_SALT_FILE"
PSEUDONYM: Final = "hmac-sha256:"
_MIN_SALT_BYTES: Final = 16
_MOST_NAMED: Final = 5
_SPACE: Final = 32  # characters below are controls


class RequestError(Exception):
    """A request cannot be added to the ledger; the message has the value and the remedy."""


@dataclass(frozen=True, slots=True)
class Request:
    """A removal request: values of one or several kinds, with reason and source."""

    wanted: Sequence[tuple[str, str]]
    """(kind, value) as requested."""
    reason: str
    source: str
    places: Sequence[str] = ()
    """Where each value came from, `file:line: `, or empty; no entries if unknown."""


def read_file(path: Path, kind: str | None) -> list[tuple[str, str]]:
    """Read the values of a file: CSV with the columns `kind` and `value` (others are ignored), or one value a line.

    Lines of the second form are of `kind`; blank ones and those that begin with `#` are skipped. `RequestError` names a
    line that cannot be read; `checked` validates the values.
    """
    return [(kind, value) for _, kind, value in numbered(path, kind)]


def numbered(path: Path, kind: str | None) -> list[tuple[int, str, str]]:
    """Return the same as `read_file`, with the line number before each value."""
    try:
        return list(_numbered(path, kind))
    except OSError as error:
        raise RequestError(f"{path} cannot be read ({error}). Remedy: a text file in UTF-8") from error
    except strict_rows.RowsError as error:
        raise RequestError(str(error)) from None


def _numbered(path: Path, kind: str | None) -> Iterator[tuple[int, str, str]]:
    """Yield line number, kind and value of each entry."""
    with path.open("rb") as stream:
        first = next(strict_rows.lines(stream, path), "")
    header = [name.strip() for name in first.split(",")]
    lowered = [name.strip("\"'").lower() for name in re.split(r"[,;\t]", first)]
    if {"kind", "value"} <= {name.strip() for name in lowered}:
        if not {"kind", "value"} <= set(header):
            raise RequestError(f"{path}:1: the header is {first!r}. Remedy: kind,value in lower case, with commas")
        with path.open("rb") as stream:
            names, rows = strict_rows.table(stream, path)
            of_kind, of_value = names.index("kind"), names.index("value")
            for number, values in rows:
                yield number, values[of_kind].strip(), values[of_value].strip()
    elif kind is None:
        raise RequestError(f"{path} has no columns kind and value. Remedy: name the kind: remove url --file {path}")
    else:
        for number, value in strict_rows.values(path):
            yield number, kind, value


def checked(request: Request, day: date) -> list[Removal]:
    """Return the lines for the ledger, with values as extraction writes them; `RequestError` names refused ones."""
    if not request.reason.strip():
        raise RequestError("a removal without a reason. Remedy: --reason, in a few words")
    if not request.source.strip():
        raise RequestError("a removal without a source. Remedy: --source, who asked or what found it")
    if holds_personal(request.reason):
        raise RequestError("the reason names a person (address or number): the ledger is public. Remedy: leave it out")
    for text in (request.reason, request.source):
        # A spreadsheet runs text that begins with these signs as a formula; a line break would begin another line.
        if sheets.is_run(text) or printable.line(text) != text or any(ord(character) < _SPACE for character in text):
            problem = "begins with =, +, - or @, or has a line break or a hidden character. Remedy: plain words"
            raise RequestError(f"{text!r} {problem}")
    source = pseudonym(request.source) if holds_personal(request.source) else request.source.strip()
    places = request.places or [""] * len(request.wanted)
    named = zip(places, request.wanted, strict=True)
    _refuse((f"{place}{kind} {value}", _refused(kind, value)) for place, (kind, value) in named)
    lines = [(kind, removal_ledger.normal(kind, value)) for kind, value in request.wanted]
    return [Removal(kind, value, request.reason.strip(), day.isoformat(), source) for kind, value in lines]


def _refuse(checked: Iterable[tuple[str, str]]) -> None:
    """Raise `RequestError` if any of the pairs (value, problem) has a problem."""
    wrong = [f"{value}: {problem}" for value, problem in checked if problem]
    if wrong:
        more = f", and {len(wrong) - _MOST_NAMED:,} more" if len(wrong) > _MOST_NAMED else ""
        raise RequestError(f"{len(wrong):,} refused: {'; '.join(wrong[:_MOST_NAMED])}{more}. Nothing was added")


def _refused(kind: str, value: str) -> str:
    if kind not in KINDS:
        return f"no such kind. Remedy: one of {', '.join(KINDS)}"
    if any(character in value for character in "\r\n\0"):
        return "a line break in a value. Remedy: one value a line"
    remedy = removal_ledger.remedy(kind, value)
    return f"Remedy: {remedy}" if remedy else ""


def split(ledger: Path, lines: Iterable[Removal]) -> tuple[list[Removal], list[Removal]]:
    """Return (new, known): lines that the ledger lacks, each once, and those that it has or that are repeated.

    Spellings of one address count as the same.
    """
    present = {_identity(line) for line in removal_ledger.read(ledger)}
    new: list[Removal] = []
    known: list[Removal] = []
    for line in lines:
        (known if _identity(line) in present else new).append(line)
        present.add(_identity(line))
    return new, known


def _identity(line: Removal) -> tuple[str, str]:
    return line.kind, address_key.key(line.value) if line.kind == "url" else line.value


def add(ledger: Path, lines: Sequence[Removal]) -> None:
    """Append lines to the ledger: all or none of them, and one writer at a time.

    The new ledger is read back before it replaces the old one, and must have the old lines, then these. Raises
    `RemovalsError` for a ledger that cannot be read, and `RequestError` if the lines are not in it.
    """
    path = ledger.resolve()
    with _locked(path) as stream:
        original = stream.read()
        present = removal_ledger.read(path, known_as=ledger)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([getattr(line, name) for name in COLUMNS] for line in lines)
        joint = b"" if not original or original.endswith(b"\n") else b"\n"
        fresh = path.with_name(f".{path.name}.new")
        try:
            fresh.write_bytes(original + joint + text.getvalue().encode())
            fresh.chmod(path.stat().st_mode & 0o7777)
            _check(removal_ledger.read(fresh, known_as=ledger), [*present, *lines], ledger)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        # From here on the next writer may lock the new file and write its own temporary file.
        fresh.replace(path)


def _check(found: Sequence[Removal], expected: Sequence[Removal], ledger: Path) -> None:
    if found != expected:
        message = (
            f"{ledger} does not have the lines after they were added. Nothing was added. Remedy: see its last lines"
        )
        raise RequestError(message)


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Open a ledger with an exclusive lock; repeat if another process replaced the file meanwhile."""
    while True:
        with path.open("rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX)
            if os.fstat(stream.fileno()).st_ino == path.stat().st_ino:
                yield stream
                return


def holds_personal(text: str) -> bool:
    """Tell whether a text has an e-mail address, a telephone, card or account number."""
    return any(sum(counts) for counts in personal.count([text], [""]).values())


def pseudonym(value: str, environment: Mapping[str, str] = os.environ) -> str:
    """Return the salted hash of a personal value; `RequestError` without a salt."""
    name = environment.get(SALT_FILE)
    if not name:
        raise RequestError(
            "the source names a person, and the ledger is public. Remedy: a name such as `mail of 3 May`, or set "
            f"{SALT_FILE} to a file outside of the repository, made once with `openssl rand -hex 32`, and its salted "
            "hash is written"
        )
    try:
        salt = Path(name).read_bytes().strip()
    except OSError as error:
        raise RequestError(f"{SALT_FILE}: {error.strerror}. Remedy: the path of a file that can be read") from None
    if len(salt) < _MIN_SALT_BYTES:
        raise RequestError(f"{SALT_FILE}: fewer than {_MIN_SALT_BYTES} bytes. Remedy: `openssl rand -hex 32`")
    # Case and spaces must not make one person two.
    spelled = " ".join(value.casefold().split())
    return PSEUDONYM + hmac.new(salt, spelled.encode(), hashlib.sha256).hexdigest()
