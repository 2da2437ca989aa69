"""One shard's work list in, one shard out: a row for every attempt, the pictures of those that came, and counts."""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import uvloop

from laion_dask import params
from laion_dask.blocklists import known_content
from laion_dask.blocklists.known_index import Index
from laion_dask.download import earlier as compare
from laion_dask.download import known_gate, rounds, takeover, worklist
from laion_dask.download.attempt import Attempt
from laion_dask.download.body_checks import BodyChecks
from laion_dask.download.host_queue import HostQueue
from laion_dask.download.reorder_buffer import ReorderBuffer
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import shards
from laion_dask.web.archive import shard_archive
from laion_dask.web.archive.writer import keep_all
from laion_dask.web.fetch.budgets import SHARD
from laion_dask.web.fetch.exchange import asks_for
from laion_dask.web.fetch.fetcher import Fetcher, open_fetcher
from laion_dask.web.fetch.leases import LimitServerAddress
from laion_dask.web.fetch.outcome import Fetched, not_asked
from laion_dask.web.fetch.replay_address import ReplayAddress
from laion_dask.web.rights.decision import SILENT

_AHEAD: Final = 4  # running rows, in multiples of the connections: most may wait for a slot at their host
_BODY_BYTES: Final = 128 * 1024 * 1024  # bodies that wait to be decoded; above this, no row begins


def download(
    out: Path,
    *,
    name: str,
    work: Path,
    settings: params.Download,
    replay: ReplayAddress | None,
    user_agent: str,
    workers: int,
    shard_rows: int = 10_000,
    limit_server: LimitServerAddress | None = None,
    archive: Path | None = None,
    before: Path | None = None,
    round_number: int = 1,
    lists: Sequence[Index] = (),
    rules: str = "",
    earlier: Path | None = None,
) -> dict[str, Any]:
    """Download one work list (Parquet) into `out`: `<name>.tar`, `<name>_stats.json`, `<name>.parquet`.

    The work list is that of the catalog (`schema.WORK`), or one of any table (`worklist.cut`). `name` is the number of
    the shard, and `shard_rows` the size of full ones: keys consist of both (`shards.key`). `workers` is the number of
    processes that download at the same time: they share the limits for each host through `limit_server`, which only a
    single worker does not need. `archive` is the index of recorded exchanges (source archive). With `before`, the
    folder of an earlier round of the shard, only the rows that failed for now there are tried, as round
    `round_number`; `rounds.settle` joins them. Addresses on one of `lists` are not requested, other listed images
    neither decoded nor written; their rows have the names of the lists and nothing of the image.

    Rows that `earlier`, an index of `runner.takeover`, has are taken over and not requested; `rules` says by which
    rules later versions may take over the rows of this shard (`takeover.rules`).

    `tries/`, `later/` and `pictures/` beside the shard are not part of a version, see `rounds` and `ShardWriter`.
    Returns the images' ledger, the bytes received, the number of hosts, how many rows failed for now, the slowest
    hosts, and what was taken over.
    """
    table = pq.read_table(work)
    columns = worklist.image_columns(table.schema)
    places = rounds.read_later(before, name) if before is not None else range(table.num_rows)
    rows = table.take(pa.array(places, pa.int64())).to_pylist()
    in_shard = worklist.places(table)
    compared: Mapping[str, compare.Before] = {}
    if settings.verify is not None:
        compared = compare.with_pictures(compare.earlier(Path(settings.verify), name, {row["uid"] for row in rows}))
    gate = known_gate.KnownContentGate(lists)
    taken = takeover.find(
        earlier if before is None else None, name, rows, settings, gate.of_urls([row["url"] for row in rows])
    )
    with (
        shard_archive.open_archive(
            out,
            name,
            settings,
            index=archive,
            user_agent=user_agent,
            scope=replay,
            keep_body=gate.may_keep if lists else keep_all,
        ) as recording,
        ReorderBuffer(out) as reorder_buffer,
        shards.ShardWriter(out, name, columns, index=True) as writer,
    ):
        shard = _Shard(
            settings,
            _Rows(name, rows, places, in_shard, shard_rows, round_number, compared, taken),
            gate,
            recording,
            reorder_buffer,
            writer,
        )
        through = gate.through(recording.wrap)
        opening = open_fetcher(
            settings, replay=replay, user_agent=user_agent, workers=workers, limit_server=limit_server, through=through
        )
        try:
            if shard.has_work:
                uvloop.run(shard.run(opening, cores=max(1, (os.cpu_count() or 1) // workers)))
        except BaseExceptionGroup as group:
            # Rows run in parallel; a full disk or a bug fails many of them, and the first error is enough.
            raise group.exceptions[0] from None
    tries = rounds.write_tries(out, name, shard.tries)
    rounds.write_later(out, name, shard.later)
    counts = rounds.count(shard.ended, shard.later)
    Ledger.from_dict(counts["images"]).check(f"download {name}", expected=len(rows))
    beside = {takeover.TAKEN: shard.taken_over()}
    if before is None:
        beside[takeover.OFFERS] = takeover.offer(rules)
    return counts | {"slow": rounds.slowest(tries)} | beside


@dataclass(frozen=True)
class _Rows:
    """The rows of a shard that one round tries."""

    shard: str
    rows: list[dict[str, Any]]
    places: Sequence[int]
    """Where each row stands in the work list of the shard."""
    in_shard: Sequence[int]
    """The place in the shard of each row of the work list: removals leave gaps."""
    shard_rows: int
    round_number: int
    before: Mapping[str, compare.Before]
    """What the version of download.verify has of them, by uid."""
    taken: takeover.Takeover

    def key(self, row: int) -> str:
        return shards.key(self.shard, self.in_shard[self.places[row]], self.shard_rows)


class _Shard:
    """The state of one download: waiting, running and finished rows."""

    def __init__(
        self,
        settings: params.Download,
        work: _Rows,
        gate: known_gate.KnownContentGate,
        recording: shard_archive.Archive,
        reorder_buffer: ReorderBuffer,
        writer: shards.ShardWriter,
    ) -> None:
        self._settings = settings
        self._work = work
        self._rows = work.rows
        self._gate = gate
        self._archive = recording
        self._buffer = reorder_buffer
        self._writer = writer
        self._listed = gate.of_urls([row["url"] for row in work.rows])
        self._active = 0
        self._body_bytes = 0
        self._changed = asyncio.Event()
        self._left: dict[str, str] = {}
        self._over = False
        self.later: list[int] = []
        self.tries: list[dict[str, Any]] = []
        self.ended: list[dict[str, Any]] = []
        taken = self._take_over()
        self._todo = [place for place in range(len(work.rows)) if place not in taken]
        # Each row without a valid address gets its own host, so that its failures do not affect others.
        self._queue = HostQueue([work.rows[place]["host"] or f"? {place}" for place in self._todo], settings)

    @property
    def has_work(self) -> bool:
        """Whether any row is not taken over."""
        return bool(self._todo)

    def _take_over(self) -> set[int]:
        """Write the rows that are taken over, with their pictures and recorded exchanges; return their indices."""
        self._archive.adopt(self._work.taken.recorded() if self._settings.archive else [])
        taken = set()
        for place, row, picture, extension in self._work.taken.attempts(self._rows, self._work.key):
            self._put(place, row, picture, extension)
            taken.add(place)
        return taken

    def taken_over(self) -> dict[str, int]:
        """Count the rows that were requested and taken over, and what became of those that were requested again."""
        due = {self._work.key(place): reason for place, reason in self._work.taken.due.items()}
        again = Counter(
            takeover.outcome(due[row["key"]], row["reason"], KEEP) for row in self.ended if row["key"] in due
        )
        return takeover.counted(len(self._todo), len(self._rows) - len(self._todo)) | dict(sorted(again.items()))

    async def run(self, opening: AbstractAsyncContextManager[Fetcher], cores: int) -> None:
        """Fetch all rows; a row that may not begin yet does not delay others."""
        checks = BodyChecks.of(self._settings, self._gate, processes=cores)
        with ThreadPoolExecutor(cores, thread_name_prefix="decode") as pool:
            async with opening as fetcher, asyncio.TaskGroup() as tasks:
                if self._settings.source == "web":
                    asyncio.get_running_loop().call_later(self._settings.shard_budget_s, self._stop, fetcher)
                while not self._queue.done:
                    self._changed.clear()
                    while (given_up := self._queue.give_up()) is not None:
                        self._give_up(given_up)
                    while self._has_room() and (queued := self._queue.start()) is not None:
                        self._active += 1
                        tasks.create_task(self._fetch(queued, fetcher, pool, checks))
                    if self._active:
                        await self._changed.wait()

    def _has_room(self) -> bool:
        return self._active < _AHEAD * self._settings.connections and self._body_bytes <= _BODY_BYTES

    def _stop(self, fetcher: Fetcher) -> None:
        """Begin no further row and end all waits: the shard's time budget is spent."""
        self._over = True
        self._queue.leave()
        fetcher.end_waits()
        self._changed.set()

    def _give_up(self, queued: int) -> None:
        row = self._todo[queued]
        work = self._rows[row]
        asks_for("row", work["uid"], self._work.round_number)
        reason = SHARD if self._over else self._left.get(work["host"], "host_failing")
        fetched = not_asked(work["url"], reason)
        self._archive.record_outcome(work["url"], fetched.reason, fetched.message)
        self._end(row, Attempt.undecoded(fetched))

    async def _fetch(self, queued: int, fetcher: Fetcher, pool: ThreadPoolExecutor, checks: BodyChecks) -> None:
        row = self._todo[queued]
        work = self._rows[row]
        asks_for("row", work["uid"], self._work.round_number)
        fetched = await self._outcome(row, fetcher)
        if fetched.left:
            self._left[work["host"]] = fetched.left
        self._queue.end(queued, failed=fetched.host_failed, paused=fetched.host_paused or bool(fetched.left))
        self._changed.set()
        attempt = Attempt.undecoded(fetched, self._lists_of(row, fetched))
        if fetched.reason == KEEP:
            self._body_bytes += len(fetched.body)
            loop = asyncio.get_running_loop()
            before, boxes = self._work.before.get(work["uid"]), work.get(worklist.BOXES) or ()
            attempt = await loop.run_in_executor(pool, checks.check, fetched, before, boxes)
            self._body_bytes -= len(fetched.body)
        self._active -= 1
        self._changed.set()
        self._end(row, attempt)

    async def _outcome(self, row: int, fetcher: Fetcher) -> Fetched:
        """Ask for a row, if it has an address that may be asked for and the archive has not recorded the outcome."""
        work = self._rows[row]
        if fault := work.get(worklist.FAULT):
            return Fetched("bad_row", fault, work["url"], SILENT)
        if row in self._listed:
            return Fetched(known_content.LISTED_ADDRESS, None, work["url"], SILENT)
        if (concluded := self._archive.recorded_outcome(work["url"])) is not None:
            return not_asked(work["url"], concluded.failure)
        fetched = await fetcher.fetch(work["url"])
        self._archive.record_outcome(work["url"], fetched.reason, fetched.message)
        return fetched

    def _lists_of(self, row: int, fetched: Fetched) -> tuple[str, ...]:
        """Name the lists that have the address of the row, or that of its redirect, which was not requested."""
        if fetched.reason != known_content.LISTED_ADDRESS:
            return ()
        return self._listed.get(row) or self._gate.of_urls([fetched.final_url]).get(0, ())

    def _end(self, row: int, attempt: Attempt) -> None:
        """Add a finished row to the reorder buffer, and write the rows that are ready."""
        work, fetched, key = self._rows[row], attempt.fetched, self._work.key(row)
        asks_for("row", work["uid"], self._work.round_number)
        self._archive.end_row(listed=attempt.is_listed)
        if not attempt.is_listed:
            tried = {"key": key, "host": work["host"], "round": self._work.round_number}
            tried["reason"] = attempt.prepared.reason
            for number, one in enumerate(fetched.tries, start=1):
                ended = {"outcome": one.reason, "http_status": one.status, "seconds": one.seconds}
                self.tries.append({**tried, "attempt": number, **ended})
        if fetched.later:
            self.later.append(self._work.places[row])
        self._put(row, attempt.row(key, work), attempt.prepared.picture, attempt.prepared.extension)

    def _put(self, place: int, row: dict[str, Any], picture: bytes, extension: str) -> None:
        self._buffer.put(place, row, picture, extension)
        for done, picture_, extension_ in self._buffer.ready():
            self._writer.add(done, picture_, extension_)
            self.ended.append(done)
