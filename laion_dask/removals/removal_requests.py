"""Check a removal request and append it to removals.csv: nothing twice, no public suffix, no personal data.

Who asked is a personal value. What looks like an address or a number of a person becomes a salted hash, so that two
requests of one person can be told to be of one, and nobody can be told from the ledger, which is public. The salt is
the content of the file that LAION_DASK_SALT_FILE names, outside of Git.
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
from laion_dask.extract import personal
from laion_dask.storage import printable, sheets, strict_rows
from laion_dask.web.urls import address_key

SALT_FILE: Final = "LAION_DASK_SALT_FILE"
PSEUDONYM: Final = "hmac-sha256:"
_MIN_SALT_BYTES: Final = 16
_TOLD: Final = 5
_SPACE: Final = 32  # characters before it are controls


class RequestError(Exception):
    """A request cannot be taken into the ledger; the message has the value and the remedy."""


@dataclass(frozen=True, slots=True)
class Request:
    """What is asked for: values of one or several kinds, with why and by whom."""

    wanted: Sequence[tuple[str, str]]
    """(kind, value) as asked for."""
    reason: str
    source: str
    places: Sequence[str] = ()
    """Where each stood, `file:line: ` or nothing; empty where nobody knows."""


def read_file(path: Path, kind: str | None) -> list[tuple[str, str]]:
    """Read the values of a file: CSV with the columns `kind` and `value` (others are left), or one value a line.

    Lines of the second form are of `kind`; blank ones and those that begin with `#` are left out. `RequestError` names
    a line that cannot be read; whether its value can be taken `checked` says.
    """
    return [(kind, value) for _, kind, value in numbered(path, kind)]


def numbered(path: Path, kind: str | None) -> list[tuple[int, str, str]]:
    """Return the same as `read_file`, each value behind the number of its line."""
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
    """Return the lines for the ledger, as extraction writes values; `RequestError` names what is refused."""
    if not request.reason.strip():
        raise RequestError("a removal without a reason. Remedy: --reason, in a few words")
    if not request.source.strip():
        raise RequestError("a removal without a source. Remedy: --source, who asked or what found it")
    if holds_personal(request.reason):
        raise RequestError("the reason names a person (address or number): the ledger is public. Remedy: leave it out")
    for text in (request.reason, request.source):
        # A ledger is opened in spreadsheets too, and they run what begins so; a line break would be another line.
        if sheets.is_run(text) or printable.line(text) != text or any(ord(character) < _SPACE for character in text):
            told = "begins with =, +, - or @, or has a line break or a hidden character. Remedy: plain words"
            raise RequestError(f"{text!r} {told}")
    source = pseudonym(request.source) if holds_personal(request.source) else request.source.strip()
    places = request.places or [""] * len(request.wanted)
    named = zip(places, request.wanted, strict=True)
    _refuse((f"{place}{kind} {value}", _refused(kind, value)) for place, (kind, value) in named)
    lines = [(kind, removal_ledger.normal(kind, value)) for kind, value in request.wanted]
    return [Removal(kind, value, request.reason.strip(), day.isoformat(), source) for kind, value in lines]


def _refuse(checked: Iterable[tuple[str, str]]) -> None:
    """Raise `RequestError` where any of (what, what is wrong with it) has the latter."""
    wrong = [f"{what}: {told}" for what, told in checked if told]
    if wrong:
        more = f", and {len(wrong) - _TOLD:,} more" if len(wrong) > _TOLD else ""
        raise RequestError(f"{len(wrong):,} refused: {'; '.join(wrong[:_TOLD])}{more}. Nothing was added")


def _refused(kind: str, value: str) -> str:
    if kind not in KINDS:
        return f"no such kind. Remedy: one of {', '.join(KINDS)}"
    if any(character in value for character in "\r\n\0"):
        return "a line break in a value. Remedy: one value a line"
    told = removal_ledger.remedy(kind, value)
    return f"Remedy: {told}" if told else ""


def split(ledger: Path, lines: Iterable[Removal]) -> tuple[list[Removal], list[Removal]]:
    """Return (new, known): lines that the ledger lacks, each once, and those that it has, or that came twice.

    An address is there in whatever spelling.
    """
    there = {_meant(line) for line in removal_ledger.read(ledger)}
    new: list[Removal] = []
    known: list[Removal] = []
    for line in lines:
        (known if _meant(line) in there else new).append(line)
        there.add(_meant(line))
    return new, known


def _meant(line: Removal) -> tuple[str, str]:
    return line.kind, address_key.key(line.value) if line.kind == "url" else line.value


def add(ledger: Path, lines: Sequence[Removal]) -> None:
    """Append lines to the ledger: all or none of them, and one writer at a time.

    The new ledger is read before it takes the place of the old one, and must have these lines after those that were
    there. Raises `RemovalsError` for a ledger that cannot be read, and `RequestError` where the lines are not in it.
    """
    path = ledger.resolve()
    with _locked(path) as stream:
        before = stream.read()
        there = removal_ledger.read(path, known_as=ledger)
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerows([getattr(line, name) for name in COLUMNS] for line in lines)
        joint = b"" if not before or before.endswith(b"\n") else b"\n"
        fresh = path.with_name(f".{path.name}.new")
        try:
            fresh.write_bytes(before + joint + text.getvalue().encode())
            fresh.chmod(path.stat().st_mode & 0o7777)
            _check(removal_ledger.read(fresh, known_as=ledger), [*there, *lines], ledger)
        except BaseException:
            fresh.unlink(missing_ok=True)
            raise
        # From here on the next writer may have the lock of the new file, and its own file under the other name.
        fresh.replace(path)


def _check(found: Sequence[Removal], expected: Sequence[Removal], ledger: Path) -> None:
    if found != expected:
        message = (
            f"{ledger} does not have the lines after they were added. Nothing was added. Remedy: see its last lines"
        )
        raise RequestError(message)


@contextmanager
def _locked(path: Path) -> Iterator[IO[bytes]]:
    """Open a ledger for this process alone; another one may put a new file in its place until it is ours."""
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
    """Return the salted hash that stands for a personal value; `RequestError` without a salt."""
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
    # Spelling must not make two persons of one.
    spelled = " ".join(value.casefold().split())
    return PSEUDONYM + hmac.new(salt, spelled.encode(), hashlib.sha256).hexdigest()
