"""Answer the requests of a download from the recorded exchanges of an archive."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Final

from laion_dask.web.archive.archived import read
from laion_dask.web.archive.warc_exchange import Exchange
from laion_dask.web.fetch import budgets, exchange, guard
from laion_dask.web.fetch.exchange import Ask, ExchangeLimits, Reply
from laion_dask.web.warc import cdxj
from laion_dask.web.warc.cdxj import Entry

NOT_REQUESTED: Final = frozenset({"host_failing", budgets.HOST, budgets.SHARD})
"""Reasons of rows that were not requested because of how other rows fared; a rerun cannot derive them, so archives
record them."""

ROW: Final = "row "
"""How the asker of a row's requests begins; see `exchange.asks_for`."""

NOT_ARCHIVED: Final = Reply(failure="not_archived", message="the archive has no answer to this")


class ArchiveReader:
    """Answers from an archive: each asker gets the answers that it got when they were recorded, in the same order.

    An asker that the archive does not have (another work list, another crawler's WARC) gets another asker's answers.
    """

    def __init__(self, index: cdxj.CdxjIndex, name: str) -> None:
        self._index = index
        self._warc = f"{name}.warc.gz"
        self._requests: Counter[tuple[str, str]] = Counter()
        self._of_rows: dict[str, list[tuple[Path, int]]] = {}
        self.used: dict[tuple[Path, int], Entry] = {}
        """The exchanges that were used, by file and offset."""

    def wrap(self, ask: Ask) -> Ask:
        """Return the archive's answers in place of the web's."""
        del ask
        return self.ask

    async def ask(self, target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]) -> Reply:
        """Answer as `exchange.Ask` does; the failure is `not_archived` where the archive has no answer."""
        asker = exchange.ASKER.get()
        entries = self._entries(target.href, asker)
        if not entries:
            return NOT_ARCHIVED
        place = self._requests[asker, target.href]
        self._requests[asker, target.href] += 1
        entry = entries[min(place, len(entries) - 1)]
        self._use(asker, entry)
        recorded = read(entry, limits.max_bytes)
        return replace(answer(recorded, limits, wanted), date=recorded.date)

    def adopt(self, entries: Sequence[Entry]) -> None:
        """Do nothing: a download from an archive asks the archive for every row."""

    def record_outcome(self, url: str, reason: str, message: str | None) -> None:
        """Do nothing: the archive has the outcome already."""

    def recorded_outcome(self, url: str) -> Reply | None:
        """Return the outcome of the running task's row where it was not requested; None where it was."""
        target = guard.parse(url)
        asker = exchange.ASKER.get()
        entries = self._index.find(target.href) if target is not None else []
        for entry in entries:
            if (entry.asker, entry.status) == (asker, 0) and entry.path.name == self._warc:
                reply = read(entry).reply
                if reply.failure in NOT_REQUESTED:
                    self._use(asker, entry)
                    return reply
        return None

    def end_row(self, *, listed: bool) -> None:
        """End the running task's row; the exchanges of known content are not used again."""
        for place in self._of_rows.pop(exchange.ASKER.get(), []):
            if listed:
                self.used.pop(place, None)

    def _use(self, asker: str, entry: Entry) -> None:
        self.used[entry.path, entry.offset] = entry
        if asker.startswith(ROW):
            self._of_rows.setdefault(asker, []).append((entry.path, entry.offset))

    def _entries(self, url: str, asker: str) -> list[Entry]:
        """Return the exchanges of one asker with a URL: this asker's if there are any, and this shard's file first."""
        entries = self._index.find(url)
        own = [entry for entry in entries if entry.asker == asker]
        groups: dict[tuple[bool, str, str], list[Entry]] = {}
        for entry in own or entries:
            groups.setdefault((entry.path.name != self._warc, str(entry.path), entry.asker), []).append(entry)
        return sorted(groups[min(groups)], key=lambda entry: entry.place) if groups else []


def answer(recorded: Exchange, limits: ExchangeLimits, wanted: Callable[[Reply], bool]) -> Reply:
    """Answer as the web did, within the given limits; a body that was not read when it was recorded is missing."""
    head, reply = recorded.head, recorded.reply
    if head is None:
        return reply
    is_wanted = wanted(head)
    if not is_wanted and not (recorded.reply.failure and not recorded.read):
        return head
    if not reply.failure and (not recorded.read or recorded.withheld):
        return replace(NOT_ARCHIVED, status=head.status, headers=head.headers)
    if len(reply.body) > limits.max_bytes:
        if limits.cut:
            return replace(reply, body=reply.body[: limits.max_bytes])
        message = f"more than {limits.max_bytes} bytes"
        return Reply(head.status, head.headers, failure="too_large", message=message)
    return reply
