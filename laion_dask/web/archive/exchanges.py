"""Exchanges of a shard in, `<shard>.warc.gz` and its index `<shard>.cdxj` out; and answers out of such files again.

Both stand where the web stands (`exchange.Ask`), so the rest of a download does not know of them. An archive holds all
that its shard was told, robots.txt of its hosts included, and so needs no other shard.
"""

from __future__ import annotations

import threading
import time
from collections import Counter, OrderedDict
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Final, Protocol, Self

from laion_dask import params
from laion_dask.web.archive import warc_exchange
from laion_dask.web.archive.archived import copied, read
from laion_dask.web.archive.warc_exchange import Exchange
from laion_dask.web.fetch import budgets, exchange, guard
from laion_dask.web.fetch.exchange import Ask, Limits, Reply
from laion_dask.web.fetch.host_rules import CACHE_S
from laion_dask.web.warc import cdxj, recorded
from laion_dask.web.warc.cdxj import Entry

KeepBody = Callable[[Reply], bool]
"""Whether the body of a reply may be written to disk: the place where known unlawful content is kept out."""

UNASKED: Final = frozenset({"host_failing", budgets.HOST, budgets.SHARD})
"""Reasons that come from how other rows fared at the time, which nobody can repeat: they are written themselves."""

NOT_ARCHIVED: Final = Reply(failure="not_archived", message="the archive has no answer to this")
_HOST: Final = "host "
_ROW: Final = "row "
_REMEMBERED_BYTES: Final = 64 * 1024 * 1024


def keep_all(_: Reply) -> bool:
    """Write every body."""
    return True


class Keeper:
    """A context manager that writes what goes through: `with Keeper(out, name, agent) as keeper: keeper.through(ask)`.

    Records of a row go to disk when it has `ended`, others as they come; when the block ends without an error they are
    put into the order of their URLs. Memory holds the places of the shard's exchanges, those of rows under way,
    and the files of hosts that other shards may need (64 MiB).
    """

    def __init__(self, out: Path, name: str, user_agent: str, keep_body: KeepBody = keep_all) -> None:
        self._out = out
        self._name = name
        self._user_agent = user_agent
        self._keep_body = keep_body
        self._spool = out / f"{name}.spool"
        self._stream = self._spool.open("wb")
        self._places: Counter[tuple[str, str]] = Counter()
        self._entries: list[Entry] = []
        self._waiting: dict[str, list[Exchange]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for asker in list(self._waiting):
                self._write_row(asker)
        self._stream.close()
        if kind is None:
            write(self._out, self._name, self._entries)
        self._spool.unlink()

    def through(self, ask: Ask, scope: object = None) -> Ask:
        """Return a way to the same answers that writes each one; `scope` tells ways of one process apart."""

        async def kept(target: guard.Target, limits: Limits, wanted: Callable[[Reply], bool]) -> Reply:
            asker = exchange.ASKER.get()
            remembered = (scope, asker.rpartition(" ")[0], target.href)
            known = _REMEMBERED.get(remembered) if asker.startswith(_HOST) else None
            if known is not None:
                # Asked for by an earlier shard of this process: nobody is asked twice, and this archive is whole.
                self._keep(replace(known, asker=asker))
                return answer(known, limits, wanted)
            date = warc_exchange.now()
            head: Reply | None = None
            read = False

            def seen(reply: Reply) -> bool:
                nonlocal head, read
                head, read = reply, wanted(reply)
                return read

            reply = await ask(target, limits, seen)
            # What is replayed was answered when it was recorded: the time of this run is no part of it.
            found = Exchange(target.href, asker, reply.date or date, head, reply, read=read)
            self._keep(found)
            if asker.startswith(_HOST) and not reply.failure and not reply.retry:
                _REMEMBERED.put(remembered, found)
            return reply

        return kept

    def conclude(self, url: str, reason: str, message: str | None) -> None:
        """Write how the running task's row ended where no answer shows it; a row that was answered needs none.

        What a row was told before it was left is not written: a rebuild asks for nothing of it.
        """
        target = guard.parse(url)
        if reason in UNASKED and target is not None:
            self._waiting.pop(exchange.ASKER.get(), None)
            reply = Reply(failure=reason, message=message or "")
            self._keep(Exchange(target.href, exchange.ASKER.get(), warc_exchange.now(), None, reply))

    def ended(self, *, listed: bool) -> None:
        """Write what the running task's row was told; of known content nothing, its address included."""
        if listed:
            self._waiting.pop(exchange.ASKER.get(), None)
        else:
            self._write_row(exchange.ASKER.get())

    def _write_row(self, asker: str) -> None:
        for found in self._waiting.pop(asker, []):
            self._write(found)

    def _keep(self, found: Exchange) -> None:
        # Whether a row may be written is known when its picture is.
        if found.asker.startswith(_ROW):
            self._waiting.setdefault(found.asker, []).append(found)
        else:
            self._write(found)

    def _write(self, found: Exchange) -> None:
        if found.reply.body and not self._keep_body(found.reply):
            found = replace(found, reply=replace(found.reply, body=b""), withheld=True)
        place = self._places[found.asker, found.url]
        self._places[found.asker, found.url] += 1
        member = warc_exchange.write(found, place, self._user_agent)
        head = found.head or Reply()
        entry = Entry(
            url=found.url,
            asker=found.asker,
            place=place,
            date=found.date,
            status=head.status,
            mime=recorded.media_type(head.header("content-type")),
            digest=member.digest,
            block=member.block,
            path=self._spool,
            offset=self._stream.tell(),
            length=len(member.record),
            span=len(member.record) + len(member.request),
        )
        self._stream.write(member.record + member.request)
        self._entries.append(entry)


def write(out: Path, name: str, entries: list[Entry]) -> None:
    """Copy exchanges from where they lie into `<name>.warc.gz`, sorted by URL, and write `<name>.cdxj`."""
    filename = f"{name}.warc.gz"
    ordered = sorted(entries, key=lambda entry: (cdxj.key(entry.url), entry.url, entry.asker, entry.place))
    lines = []
    with (out / filename).open("wb") as stream:
        stream.write(warc_exchange.warcinfo(filename, _iso(min((cdxj.digits(e.date) for e in ordered), default=""))))
        for path, group in groupby(ordered, key=lambda entry: entry.path):
            with path.open("rb") as source:
                for entry in group:
                    written, records = copied(entry, source)
                    lines.append(replace(written, offset=stream.tell()).line(filename))
                    stream.write(records)
    cdxj.write(sorted(lines), out / f"{name}.cdxj")


def join(out: Path, name: str, folders: Sequence[Path]) -> None:
    """Join the archives of a shard's rounds into one, where it has any."""
    indexes = [folder / f"{name}.cdxj" for folder in folders]
    if all(index.is_file() for index in indexes):
        lines = ((line, index.parent) for index in indexes for line in index.read_bytes().splitlines())
        write(out, name, [cdxj.parse(line, folder) for line, folder in lines])


def _iso(digits: str) -> str:
    if not digits:
        return "1970-01-01T00:00:00Z"
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[8:10]}:{digits[10:12]}:{digits[12:14]}Z"


@dataclass(slots=True)
class _Remembered:
    """Files of hosts as they were answered, for all shards that a process downloads; a day at most, 64 MiB in all."""

    entries: OrderedDict[tuple[object, str, str], tuple[float, Exchange]] = field(default_factory=OrderedDict)
    bytes: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)

    def get(self, key: tuple[object, str, str]) -> Exchange | None:
        with self.lock:
            found = self.entries.get(key)
            return found[1] if found is not None and time.monotonic() - found[0] <= CACHE_S else None

    def put(self, key: tuple[object, str, str], found: Exchange) -> None:
        with self.lock:
            if key in self.entries:
                self.bytes -= _weight(self.entries.pop(key)[1])
            self.entries[key] = (time.monotonic(), found)
            self.bytes += _weight(found)
            while self.bytes > _REMEMBERED_BYTES:
                _, (_, oldest) = self.entries.popitem(last=False)
                self.bytes -= _weight(oldest)


def _weight(found: Exchange) -> int:
    # What an exchange of a few headers takes in memory was measured as 2 to 3 KB.
    return len(found.reply.body) + 3_000


_REMEMBERED: Final = _Remembered()


class Answers:
    """The way to the answers of an archive: each asker gets what it was answered, in the same order, and nobody waits.

    An asker that the archive does not know (another work list, another crawler's WARC) gets what another one was told.
    """

    def __init__(self, index: cdxj.Index, name: str) -> None:
        self._index = index
        self._warc = f"{name}.warc.gz"
        self._given: Counter[tuple[str, str]] = Counter()
        self.used: dict[tuple[Path, int], Entry] = {}
        self._of_rows: dict[str, list[tuple[Path, int]]] = {}

    async def __call__(self, target: guard.Target, limits: Limits, wanted: Callable[[Reply], bool]) -> Reply:
        """Answer as `exchange.Ask` does; the reason is `not_archived` where there is no answer."""
        asker = exchange.ASKER.get()
        entries = self._entries(target.href, asker)
        if not entries:
            return NOT_ARCHIVED
        place = self._given[asker, target.href]
        self._given[asker, target.href] += 1
        entry = entries[min(place, len(entries) - 1)]
        self._use(asker, entry)
        return answer(read(entry, limits.max_bytes), limits, wanted)

    def ended(self, *, listed: bool) -> None:
        """Forget which answers the running task's row was given; of known content they are not used again."""
        for place in self._of_rows.pop(exchange.ASKER.get(), []):
            if listed:
                self.used.pop(place, None)

    def _use(self, asker: str, entry: Entry) -> None:
        self.used[entry.path, entry.offset] = entry
        if asker.startswith(_ROW):
            self._of_rows.setdefault(asker, []).append((entry.path, entry.offset))

    def concluded(self, url: str) -> Reply | None:
        """Return how the running task's row ended without being asked; None where it was asked."""
        target = guard.parse(url)
        asker = exchange.ASKER.get()
        found = self._index.find(target.href) if target is not None else []
        mine = [entry for entry in found if (entry.asker, entry.status) == (asker, 0) and entry.path.name == self._warc]
        for entry in mine:
            reply = read(entry).reply
            if reply.failure in UNASKED:
                self._use(asker, entry)
                return reply
        return None

    def _entries(self, url: str, asker: str) -> list[Entry]:
        found = self._index.find(url)
        # What this asker was told; of several archives, that of this shard.
        mine = [entry for entry in found if entry.asker == asker]
        groups: dict[tuple[bool, str, str], list[Entry]] = {}
        for entry in mine or found:
            groups.setdefault((entry.path.name != self._warc, str(entry.path), entry.asker), []).append(entry)
        return sorted(groups[min(groups)], key=lambda entry: entry.place) if groups else []


def answer(found: Exchange, limits: Limits, wanted: Callable[[Reply], bool]) -> Reply:
    """Answer as the web did, within today's limits: what was not read then cannot be read now."""
    head, reply = found.head, found.reply
    if head is None:
        return reply
    asked = wanted(head)
    if not asked and not (found.reply.failure and not found.read):
        return head
    if not reply.failure and (not found.read or found.withheld):
        return replace(NOT_ARCHIVED, status=head.status, headers=head.headers)
    if len(reply.body) > limits.max_bytes:
        if limits.cut:
            return replace(reply, body=reply.body[: limits.max_bytes])
        message = f"more than {limits.max_bytes} bytes"
        return Reply(head.status, head.headers, failure="too_large", message=message)
    return reply


class Ended(Protocol):
    """Hears of the running task's row how it ended."""

    def __call__(self, *, listed: bool) -> None:
        """Know whether the row is known content."""
        ...


@dataclass(frozen=True, slots=True)
class Way:
    """What a download puts between itself and the web: `through` wraps the web, or takes its place, where there is one.

    Rows that are not asked at all because of others (`UNASKED`) are told to `conclude`, and known by `concluded`. When
    a row has `ended`, its task says whether it is known content, of which no archive may keep anything.
    """

    through: Callable[[Ask], Ask] | None
    conclude: Callable[[str, str, str | None], None]
    concluded: Callable[[str], Reply | None]
    ended: Ended


@contextmanager
def open_way(
    out: Path,
    name: str,
    settings: params.Download,
    *,
    index: Path | None,
    user_agent: str,
    scope: object,
    keep_body: KeepBody = keep_all,
) -> Iterator[Way]:
    """Open the way of one shard by `download.source` and `download.archive`.

    `index` is that of all archives, of source archive; with `download.archive` the exchanges that were used are written
    again. `scope` tells the networks of one process apart.
    """
    if settings.source == "archive":
        if index is None:
            raise cdxj.ArchiveError("source archive has no index: a bug of the caller")
        with cdxj.Index(index) as found:
            answers = Answers(found, name)
            yield Way(lambda _: answers, _said, answers.concluded, answers.ended)
        if settings.archive:
            write(out, name, list(answers.used.values()))
    elif settings.archive:
        with Keeper(out, name, user_agent, keep_body) as keeper:
            yield Way(lambda ask: keeper.through(ask, scope), keeper.conclude, _open, keeper.ended)
    else:
        yield Way(None, _said, _open, _unheard)


def _unheard(*, listed: bool) -> None:
    """Nothing is kept, so nothing has to be left out."""


def _said(_url: str, _reason: str, _message: str | None) -> None:
    """Say nothing: the archive says it already."""


def _open(_url: str) -> None:
    """Know nothing yet."""
