"""Find and read the answers in WARC files: which record answers for an address, and with what.

A `response` answers as recorded, a `resource` as a plain 200, a `revisit` with the body of the record that it refers
to. All other records are counted with the reason why they are left out, so that the counts add up.
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
"""Field of records in this project's archives: the asker and the outcome, as JSON (see `warc_exchange`)."""

# Headers of the connection (RFC 9110, 7.6.1), and lengths, which the server that answers sets itself.
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
        # A recorded answer must not be able to forge the marks of the replay server.
        "laion-dask-replay",
        "laion-dask-replay-date",
    )
)
# The prefix of Common Crawl and this project's archives for headers that do not describe the stored body.
_OF_THE_WIRE: Final = "x-crawler-"
_SEGMENT: Final = "warc-segment-number"
_NOT_MODIFIED: Final = "server-not-modified"
_ANSWERS: Final = frozenset({"response", "resource", "revisit"})
_OTHERS: Final = frozenset({"warcinfo", "request", "metadata", "conversion", "continuation"})
# A revisit may refer to a revisit; a longer chain is a loop.
_MAX_CHAIN: Final = 8


@dataclass(frozen=True, slots=True)
class RecordPlace:
    """Where the record of an answer begins; `payload`: where the record with its body begins, if it is another one."""

    path: Path
    offset: int
    payload: RecordPlace | None = None


@dataclass(frozen=True, slots=True)
class Recorded:
    """A recorded answer: its body without chunks, in its Content-Encoding."""

    status: int
    reason: str
    headers: tuple[tuple[str, str], ...]
    body: bytes
    cut: bool = False
    """The body was not recorded in full."""
    date: str = ""
    """WARC-Date of the record."""


@dataclass(frozen=True, slots=True)
class AnswerRecord:
    """A record that answers for an http or https address; `media` is its media type, as indexes have it."""

    url: str
    place: RecordPlace
    record: WarcRecord
    status: int
    media: str

    @property
    def busy(self) -> bool:
        """Whether, by an archive of this project, the client was to try again."""
        return bool(exchange_field(self.record)["reply"].get("retry"))


def exchange_field(record: WarcRecord) -> dict[str, Any]:
    """Return this project's field of a record, parsed; for other records, a field that says the body was read."""
    return _own_field(record) or {"reply": {}, "read": True}


def is_ours(record: WarcRecord) -> bool:
    """Whether a record is one of this project's archives."""
    return bool(_own_field(record))


def _own_field(record: WarcRecord) -> dict[str, Any]:
    text = record.get(FIELD.lower())
    if not text:
        return {}
    try:
        field = json.loads(text)
    except ValueError:
        return {}
    return field if isinstance(field, dict) and isinstance(field.get("reply"), dict) else {}


def normal_url(url: str) -> str | None:
    """Normalise an http or https URL by WHATWG rules, without fragment and credentials; None for any other.

    Angle brackets around it, as in WARC 1.0, are removed.
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
    """Reads WARC files and counts their records: call `answers` for each file, then `revisits`.

    `answered` counts the records that answer for an address, `left_out` those that cannot, by reason, and `other` the
    records whose type has no answers, by type; together they are all records.
    """

    scratch: Path
    """Folder for unpacked files; made when it is needed."""
    left_out: Counter[str] = field(default_factory=Counter)
    answered: int = 0
    other: Counter[str] = field(default_factory=Counter)
    _files: list[WarcFile] = field(default_factory=list)
    _revisits: list[tuple[str, WarcRecord]] = field(default_factory=list)

    def answers(self, path: Path) -> Iterator[AnswerRecord | WarcRecord]:
        """Yield an `AnswerRecord` for each record that answers, and any other record itself.

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
            # Unknown types are counted together: they are printed, a line each, and files may have any number.
            self.other[kind if kind in _OTHERS else f"{'another' if kind else 'no'} type"] += 1
            return None
        url = normal_url(record.get("warc-target-uri"))
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
        """Yield the revisits whose body is in one of the files read so far; the others count as left out."""
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
        """Return the counts as lines of text."""
        lines = [f"{self.answered:,} records are answered"]
        lines += [f"{count:,} left out: {reason}" for reason, count in sorted(self.left_out.items())]
        return [*lines, *(f"{count:,} without an answer: {kind}" for kind, count in sorted(self.other.items()))]

    def _payloads(self, wanted: set[str]) -> dict[str, AnswerRecord]:
        """Read all files again for the records to which revisits refer; return the first one for each key."""
        found: dict[str, AnswerRecord] = {}
        for file in self._files:
            for record in file.records():
                url = normal_url(record.get("warc-target-uri")) if record.kind in {"response", "resource"} else None
                answer = _answer(url, record) if url is not None else None
                if url is not None and answer is not None:
                    for key in _keys_offered(url, record, answer.status):
                        if key in wanted:
                            found.setdefault(key, answer)
        return found


def _answer(url: str, record: WarcRecord) -> AnswerRecord | None:
    place = RecordPlace(record.path, record.offset)
    if record.get(_SEGMENT):
        # Other records have the rest of its body.
        return None
    if record.kind == "resource":
        return AnswerRecord(url, place, record, 200, media_type(record.get("content-type")))
    message = http_message.parse(record.head)
    if message is None:
        # In this project's archives, interim statuses count as answers too.
        status = http_message.status(record.head) if is_ours(record) else 0
        return AnswerRecord(url, place, record, status, media_type(None)) if status else None
    return AnswerRecord(url, place, record, message.status, media_type(message.header("content-type")))


def is_unanswered(record: WarcRecord) -> bool:
    """Whether a record of this project says that no answer came at all."""
    return record.kind == "metadata" and is_ours(record)


def _keys_wanted(url: str, record: WarcRecord) -> list[str]:
    """Return keys of the record to which a revisit refers, the most reliable first (WARC 1.1, 6.7)."""
    identity, date = _identity(record, "warc-refers-to"), record.get("warc-refers-to-date")
    target = normal_url(record.get("warc-refers-to-target-uri")) or url
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
    """Return the record id in a field without angle brackets, which some writers omit in one of the two fields."""
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
    """Read an answer from disk; None where the file has changed."""
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
    about = exchange_field(record)
    lost = not about.get("read") or bool(about["reply"].get("failure")) or bool(about.get("withheld"))
    foreign = not is_ours(record)
    cut = lost or not message.whole or (foreign and bool(record.get("warc-truncated")))
    headers = _replayed(message.headers, message.body)
    return Recorded(message.status, _clean(message.reason), headers, message.body, message.status == 200 and cut, date)


def _revisited(place: RecordPlace, payload: RecordPlace) -> Recorded | None:
    """Read a revisit: its own headers, unless it stands for 304, with the body of the record it refers to."""
    found, body = warc_files.read(place.path, place.offset), read(payload)
    if found is None or body is None:
        return None
    record, block = found
    own = http_message.parse(block) if _NOT_MODIFIED not in record.get("warc-profile") else None
    date = _clean(record.get("warc-date"))
    if own is None:
        return replace(body, date=date)
    # The record with the body says how it is encoded.
    headers = [header for header in _replayed(own.headers, b"") if header[0].lower() != "content-encoding"]
    headers += [header for header in body.headers if header[0].lower() == "content-encoding"]
    return Recorded(own.status, _clean(own.reason), tuple(headers), body.body, body.cut, date)


def _replayed(headers: Iterable[tuple[str, str]], body: bytes) -> tuple[tuple[str, str], ...]:
    """Return the headers that describe the stored answer, without those of the connection."""
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
