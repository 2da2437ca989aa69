"""Find and read the answers that WARC files hold: which record answers for an address, and what it says.

A `response` is answered as recorded, a `resource` as a plain 200, a `revisit` with the body of the record that it
refers to. Every other record is counted with the reason why it is left out, so that what a file holds adds up.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import ada_url

from laion_dask.web.warc import codings, http_message, warc_files
from laion_dask.web.warc.warc_files import WarcFile, WarcRecord

FIELD: Final = "Laion-Dask-Exchange"
"""Field of records of this project's archives: who asked and how it ended, as JSON (see `warc_exchange`)."""

# RFC 9110 7.6.1, and the lengths that whoever serves an answer writes itself.
_NOT_REPLAYED: Final = frozenset(
    (
        "connection",
        "content-length",
        "keep-alive",
        "proxy-authenticate",
        "proxy-authorization",
        "te",
        "trailer",
        "transfer-encoding",
        "upgrade",
        # A page of the web must not be able to speak for the server that replays it.
        "laion-dask-replay",
        "laion-dask-replay-date",
    )
)
# What Common Crawl and this project's archives put before headers that no longer describe the body as stored.
_OF_THE_WIRE: Final = "x-crawler-"
_SEGMENT: Final = "warc-segment-number"
_NOT_MODIFIED: Final = "server-not-modified"
_ANSWERS: Final = frozenset({"response", "resource", "revisit"})
_OTHERS: Final = frozenset({"warcinfo", "request", "metadata", "conversion", "continuation"})
# A revisit may refer to a revisit; a longer chain is a loop.
_MAX_CHAIN: Final = 8


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where the record of an answer begins; `payload` is where that with its body does, if it is another one."""

    path: Path
    offset: int
    payload: RecordPlace | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """An answer as recorded: the body without chunks, in its Content-Encoding."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    cut: bool = False
    """There was a body, and it was not recorded in full."""
    date: str = ""
    """WARC-Date of the record."""


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """An http or https address that a record answers for; `media` is its media type, as indexes have it."""

    url: str
    place: RecordPlace
    record: WarcRecord
    status: int
    media: str

    @property
    def busy(self) -> bool:
        """An archive of this project says that it was asked again."""
        return bool(told(self.record)["reply"].get("retry"))


def told(record: WarcRecord) -> dict[str, Any]:
    """Return what an archive of this project says of an exchange; of any other record, that its body was read."""
    return _said(record) or {"reply": {}, "read": True}


def is_ours(record: WarcRecord) -> bool:
    """Whether a record is one of this project's archives."""
    return bool(_said(record))


def _said(record: WarcRecord) -> dict[str, Any]:
    text = record.get(FIELD.lower())
    if not text:
        return {}
    try:
        said = json.loads(text)
    except ValueError:
        return {}
    return said if isinstance(said, dict) and isinstance(said.get("reply"), dict) else {}


def normal(url: str) -> str | None:
    """Normalise an http or https URL by WHATWG rules, without what no client sends: the fragment and a user's name.

    WARC 1.0 has angle brackets around it.
    """
    try:
        parsed = ada_url.URL(url.strip().removeprefix("<").removesuffix(">"))
    except ValueError:
        return None
    if parsed.protocol not in {"http:", "https:"}:
        return None
    parsed.hash = parsed.username = parsed.password = ""
    return parsed.href


def media_type(content_type: str | None) -> str:
    """Return the media type of a Content-Type header, `unk` where there is none, as indexes have it."""
    return (content_type or "").partition(";")[0].strip().lower() or "unk"


@dataclass(slots=True)
class Survey:
    """What WARC files hold: read them all with `answers`, then `revisits` gives those that refer to others.

    `left_out` counts by reason, `answered` the records that answer for an address; together with records that hold no
    answer by their kind (`other`) they are all records.
    """

    scratch: Path
    """Folder for what has to be unpacked; made when it is needed."""
    left_out: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    other: Counter[str] = field(default_factory=Counter)
    _files: list[WarcFile] = field(default_factory=list)
    _revisits: list[tuple[str, WarcRecord]] = field(default_factory=list)

    def answers(self, path: Path) -> Iterator[AnswerRecord | WarcRecord]:
        """Yield what each record of a file answers; of what answers nothing, the record.

        Raises `WarcFileError` where the file cannot be read to its end.
        """
        file = WarcFile(path, self.scratch / str(len(self._files)))
        self._files.append(file)
        for record in file.records():
            found = self._answer(record)
            if found is not None:
                self.answered += 1
            yield record if found is None else found

    def _answer(self, record: WarcRecord) -> AnswerRecord | None:
        kind = record.kind
        if kind not in _ANSWERS:
            # What a stranger's file has there goes to the terminal, and each type is a line.
            self.other[kind if kind in _OTHERS else f"{'another' if kind else 'no'} type"] += 1
            return None
        url = normal(record.get("warc-target-uri"))
        if url is None:
            target = record.get("warc-target-uri")
            self.left_out["target is not an http address" if target else "no target"] += 1
            return None
        if kind == "revisit":
            self._revisits.append((url, record))
            return None
        found = _answer(url, record)
        if found is None:
            self.left_out["in segments" if record.get(_SEGMENT) else "not an HTTP answer"] += 1
        return found

    def revisits(self) -> Iterator[AnswerRecord]:
        """Yield the revisits whose body is in one of the files read so far; the others are left out."""
        if not self._revisits:
            return
        revisits, self._revisits = self._revisits, []
        chained = {_identity(record, "warc-record-id"): (url, record) for url, record in revisits}
        wanted = {key for url, record in revisits for key in _keys_wanted(url, record)}
        payloads = self._payloads(wanted)
        for url, record in revisits:
            found = _payload(url, record, payloads, chained)
            if found is None:
                self.left_out["revisit of a record that is in no file"] += 1
                continue
            self.answered += 1
            own = http_message.parse(record.head) if _NOT_MODIFIED not in record.get("warc-profile") else None
            place = RecordPlace(record.path, record.offset, found.place)
            status, media = (own.status, own.header("content-type")) if own else (found.status, found.media)
            yield AnswerRecord(url, place, record, status, media_type(media))

    def lines(self) -> list[str]:
        """Say what the records are: answered, left out by reason, and those that hold no answer by their type."""
        lines = [f"{self.answered:,} records are answered"]
        lines += [f"{count:,} left out: {reason}" for reason, count in sorted(self.left_out.items())]
        return [*lines, *(f"{count:,} without an answer: {kind}" for kind, count in sorted(self.other.items()))]

    def _payloads(self, wanted: set[str]) -> dict[str, AnswerRecord]:
        """Read all files once more for the records that revisits refer to: the first one for each key."""
        found: dict[str, AnswerRecord] = {}
        for file in self._files:
            for record in file.records():
                url = normal(record.get("warc-target-uri")) if record.kind in {"response", "resource"} else None
                answer = _answer(url, record) if url is not None else None
                if url is not None and answer is not None:
                    for key in _keys_offered(url, record, answer.status):
                        if key in wanted:
                            found.setdefault(key, answer)
        return found


def _answer(url: str, record: WarcRecord) -> AnswerRecord | None:
    place = RecordPlace(record.path, record.offset)
    if record.get(_SEGMENT):
        # The rest of its body is in other records.
        return None
    if record.kind == "resource":
        return AnswerRecord(url, place, record, 200, media_type(record.get("content-type")))
    message = http_message.parse(record.head)
    if message is None:
        # What this project's archives hold was an answer, whatever its status.
        status = http_message.status(record.head) if is_ours(record) else 0
        return AnswerRecord(url, place, record, status, media_type(None)) if status else None
    return AnswerRecord(url, place, record, message.status, media_type(message.header("content-type")))


def is_unanswered(record: WarcRecord) -> bool:
    """Whether an archive of this project says that no answer came at all."""
    return record.kind == "metadata" and is_ours(record)


def _keys_wanted(url: str, record: WarcRecord) -> list[str]:
    """Return what a revisit says of the record it refers to, the surest first (WARC 1.1, 6.7)."""
    identity, date = _identity(record, "warc-refers-to"), record.get("warc-refers-to-date")
    target = normal(record.get("warc-refers-to-target-uri")) or url
    digest = record.get("warc-payload-digest")
    keys = [f"id {identity}"] if identity else []
    keys += [f"at {target} {_digits(date)}"] if date else []
    keys += [f"payload {digest.lower()}"] if digest else []
    return [*keys, f"url {target}"]


def _keys_offered(url: str, record: WarcRecord, status: int) -> list[str]:
    digest = record.get("warc-payload-digest")
    keys = [f"id {_identity(record, 'warc-record-id')}", f"at {url} {_digits(record.get('warc-date'))}"]
    keys += [f"payload {digest.lower()}"] if digest else []
    return [*keys, f"url {url}"] if 200 <= status < 300 else keys


def _identity(record: WarcRecord, field: str) -> str:
    """Return the id in a field; some writers leave out its angle brackets in one of the two places."""
    return record.get(field).removeprefix("<").removesuffix(">")


def _digits(date: str) -> str:
    return "".join(character for character in date if character.isdigit())[:14]


def _payload(
    url: str, record: WarcRecord, payloads: dict[str, AnswerRecord], chained: dict[str, tuple[str, WarcRecord]]
) -> AnswerRecord | None:
    for _ in range(_MAX_CHAIN):
        found = next((payloads[key] for key in _keys_wanted(url, record) if key in payloads), None)
        following = chained.get(_identity(record, "warc-refers-to"))
        if found is not None or following is None:
            return found
        url, record = following
    return None


def read(place: RecordPlace) -> Recorded | None:
    """Read an answer from disk; None where the file does not hold what it held."""
    if place.payload is not None:
        return _revisited(place, place.payload)
    found = warc_files.read(place.path, place.offset)
    if found is None:
        return None
    record, block = found
    date = _clean(record.get("warc-date"))
    if record.kind == "resource":
        kind, cut = record.get("content-type"), bool(record.get("warc-truncated"))
        return Recorded(200, "OK", (("Content-Type", kind),) if kind else (), block, cut, date)
    message = http_message.parse(block)
    if message is None:
        return None
    about = told(record)
    lost = not about.get("read") or bool(about["reply"].get("failure")) or bool(about.get("withheld"))
    foreign = not is_ours(record)
    cut = lost or not message.whole or (foreign and bool(record.get("warc-truncated")))
    headers = _replayed(message.headers, message.body)
    return Recorded(message.status, _clean(message.reason), headers, message.body, message.status == 200 and cut, date)


def _revisited(place: RecordPlace, payload: RecordPlace) -> Recorded | None:
    """Read a revisit: its own headers, where it has any that count, over the body that it refers to."""
    found, body = warc_files.read(place.path, place.offset), read(payload)
    if found is None or body is None:
        return None
    record, block = found
    own = http_message.parse(block) if _NOT_MODIFIED not in record.get("warc-profile") else None
    date = _clean(record.get("warc-date"))
    if own is None:
        return replace(body, date=date)
    # How the body is coded is said where it is stored.
    headers = [header for header in _replayed(own.headers, b"") if header[0].lower() != "content-encoding"]
    headers += [header for header in body.headers if header[0].lower() == "content-encoding"]
    return Recorded(own.status, _clean(own.reason), tuple(headers), body.body, body.cut, date)


def _replayed(headers: Iterable[tuple[str, str]], body: bytes) -> tuple[tuple[str, str], ...]:
    """Return the headers that describe the answer as it is stored, not the connection."""
    headers = tuple(headers)
    kept = [
        (name, _clean(value))
        for name, value in headers
        if name.lower() not in _NOT_REPLAYED and not name.lower().startswith(_OF_THE_WIRE)
    ]
    named = codings.names(headers)
    left = codings.remaining(named, body)
    if named == left:
        return tuple(kept)
    rest = [header for header in kept if header[0].lower() != "content-encoding"]
    return (*rest, ("Content-Encoding", ", ".join(left))) if left else tuple(rest)


def _clean(value: str) -> str:
    return "".join(character for character in value if character.isprintable())
