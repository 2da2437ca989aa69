"""Record what a download requests and gets: `<shard>.warc.gz`, and its index `<shard>.cdxj`.

The archive of a shard holds every answer that the shard used, robots.txt of its hosts among them, so that it needs no
other archive.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from itertools import groupby
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from laion_dask.web.archive import warc_exchange
from laion_dask.web.archive.archived import copied
from laion_dask.web.archive.reader import NOT_REQUESTED, ROW, answer
from laion_dask.web.archive.warc_exchange import Exchange
from laion_dask.web.fetch import exchange, guard
from laion_dask.web.fetch.cache import SharedCache
from laion_dask.web.fetch.exchange import Ask, ExchangeLimits, Reply
from laion_dask.web.fetch.host_rules import CACHE_S
from laion_dask.web.warc import cdxj, recorded
from laion_dask.web.warc.cdxj import Entry

KeepBody = Callable[[Reply], bool]
"""Whether the body of a reply may be written to disk; this keeps known unlawful content out of archives."""

_HOST: Final = "host "
_CACHED_BYTES: Final = 64 * 1024 * 1024


def keep_all(_: Reply) -> bool:
    """Write every body."""
    return True


class ArchiveWriter:
    """A context manager that records exchanges: `with ArchiveWriter(out, name, agent) as writer: writer.wrap(ask)`.

    The records of a row go to disk when the row ends (`end_row`), all others at once, into one temporary file; when the
    block ends without an error, they are sorted by URL. Memory holds an index entry for each exchange of the shard, the
    exchanges of rows under way, and the files of hosts that other shards may need (64 MiB). `scope` separates the
    networks of one process.
    """

    def __init__(
        self, out: Path, name: str, user_agent: str, keep_body: KeepBody = keep_all, *, scope: object = None
    ) -> None:
        self._out = out
        self._name = name
        self._user_agent = user_agent
        self._keep_body = keep_body
        self._scope = scope
        self._unsorted = out / f"{name}.spool"
        self._stream = self._unsorted.open("wb")
        self._places: Counter[tuple[str, str]] = Counter()
        self._entries: list[Entry] = []
        self._of_rows: dict[str, list[Exchange]] = {}

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if kind is None:
            for asker in list(self._of_rows):
                self._write_row(asker)
        self._stream.close()
        if kind is None:
            write(self._out, self._name, self._entries)
        self._unsorted.unlink()

    def adopt(self, entries: Sequence[Entry]) -> None:
        """Add exchanges of other archives, whose records are copied at the end."""
        for entry in entries:
            self._entries.append(entry)
            following = max(self._places[entry.asker, entry.url], entry.place + 1)
            self._places[entry.asker, entry.url] = following

    def wrap(self, ask: Ask) -> Ask:
        """Return `ask` with each exchange recorded."""

        async def recording(target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]) -> Reply:
            asker = exchange.ASKER.get()
            key = (self._scope, asker.rpartition(" ")[0], target.href)
            cached = _HOST_FILES.get(key) if asker.startswith(_HOST) else None
            if cached is not None:
                # An earlier shard of this process requested it: no second request, and this archive is complete too.
                self._add(replace(cached, asker=asker))
                return answer(cached, limits, wanted)
            date = warc_exchange.now()
            head: Reply | None = None
            read = False

            def on_head(reply: Reply) -> bool:
                nonlocal head, read
                head, read = reply, wanted(reply)
                return read

            reply = await ask(target, limits, on_head)
            # A replayed answer keeps the time at which it was recorded.
            exchanged = Exchange(target.href, asker, reply.date or date, head, reply, read=read)
            self._add(exchanged)
            if asker.startswith(_HOST) and not reply.failure and not reply.retry:
                _HOST_FILES.put(key, exchanged)
            return reply

        return recording

    def record_outcome(self, url: str, reason: str, message: str | None) -> None:
        """Record the outcome of the running task's row where it is one of NOT_REQUESTED; answers show all others.

        Exchanges of the row before that outcome are dropped, because a rebuild requests none of them.
        """
        target = guard.parse(url)
        if reason in NOT_REQUESTED and target is not None:
            self._of_rows.pop(exchange.ASKER.get(), None)
            reply = Reply(failure=reason, message=message or "")
            self._add(Exchange(target.href, exchange.ASKER.get(), warc_exchange.now(), None, reply))

    def recorded_outcome(self, url: str) -> None:
        """Return None: the row is still to be requested."""

    def end_row(self, *, listed: bool) -> None:
        """Write the exchanges of the running task's row; of known content nothing, not even its address."""
        if listed:
            self._of_rows.pop(exchange.ASKER.get(), None)
        else:
            self._write_row(exchange.ASKER.get())

    def _write_row(self, asker: str) -> None:
        for exchanged in self._of_rows.pop(asker, []):
            self._write(exchanged)

    def _add(self, exchanged: Exchange) -> None:
        # Whether a row may be written is known when its picture has been compared with the lists.
        if exchanged.asker.startswith(ROW):
            self._of_rows.setdefault(exchanged.asker, []).append(exchanged)
        else:
            self._write(exchanged)

    def _write(self, exchanged: Exchange) -> None:
        if exchanged.reply.body and not self._keep_body(exchanged.reply):
            exchanged = replace(exchanged, reply=replace(exchanged.reply, body=b""), withheld=True)
        place = self._places[exchanged.asker, exchanged.url]
        self._places[exchanged.asker, exchanged.url] += 1
        member = warc_exchange.write(exchanged, place, self._user_agent)
        head = exchanged.head or Reply()
        entry = Entry(
            url=exchanged.url,
            asker=exchanged.asker,
            place=place,
            date=exchanged.date,
            status=head.status,
            mime=recorded.media_type(head.header("content-type")),
            digest=member.digest,
            block=member.block,
            path=self._unsorted,
            offset=self._stream.tell(),
            length=len(member.record),
            span=len(member.record) + len(member.request),
        )
        self._stream.write(member.record + member.request)
        self._entries.append(entry)


def write(out: Path, name: str, entries: list[Entry]) -> None:
    """Copy exchanges from their files into `<name>.warc.gz`, sorted by URL, and write `<name>.cdxj`."""
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
    """Join the archives of a shard's rounds into one, where all rounds have one."""
    indexes = [folder / f"{name}.cdxj" for folder in folders]
    if all(index.is_file() for index in indexes):
        lines = ((line, index.parent) for index in indexes for line in index.read_bytes().splitlines())
        write(out, name, [cdxj.parse(line, folder) for line, folder in lines])


def _iso(digits: str) -> str:
    if not digits:
        return "1970-01-01T00:00:00Z"
    return f"{digits[:4]}-{digits[4:6]}-{digits[6:8]}T{digits[8:10]}:{digits[10:12]}:{digits[12:14]}Z"


def _size(exchanged: Exchange) -> int:
    # An exchange with a few headers was measured to take 2 to 3 KB of memory.
    return len(exchanged.reply.body) + 3_000


_HOST_FILES: Final[SharedCache[tuple[object, str, str], Exchange]] = SharedCache(_CACHED_BYTES, CACHE_S, _size)
"""Files with the rules of hosts, for all shards that this process downloads."""
