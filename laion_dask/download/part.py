"""One shard's work list in, one shard out: a row for every attempt, the pictures of those that came, and counts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq
import uvloop

from laion_dask import params
from laion_dask.blocklists import known_content
from laion_dask.blocklists.known_index import Index
from laion_dask.download import earlier, known_gate, rounds, worklist
from laion_dask.download.host_queue import HostQueue
from laion_dask.download.reorder_buffer import ReorderBuffer
from laion_dask.images import decoders, hashes, prepare
from laion_dask.images.blur import Box
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
from laion_dask.web.rights.decision import SILENT, Policy

Hashes = Mapping[hashes.Digest, str]
Judged = tuple[Fetched, prepare.Prepared, Hashes]
Judge = Callable[[Fetched, earlier.Before | None, Sequence[Box]], Judged]

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
) -> dict[str, Any]:
    """Download one work list (Parquet) into `out`: `<name>.tar`, `<name>_stats.json`, `<name>.parquet`.

    The work list is that of the catalog (`schema.WORK`), or one of any table (`worklist.cut`). `name` is the number of
    the shard, and `shard_rows` the size of full ones: keys consist of both (`shards.key`). `workers` is the number of
    processes that download at the same time: they share the limits for each host through `limit_server`, which only a
    single worker does not need. `archive` is the index of recorded exchanges (source archive). With `before`, the
    folder of an earlier round of the shard, only the rows that failed for now there are tried, as round
    `round_number`; `rounds.settle` joins them. Addresses on one of `lists` are not requested, other listed images
    neither decoded nor written; their rows have the names of the lists and nothing of the image.

    `tries/` and `later/` beside the shard are not part of a version, see `rounds`. Returns the images' ledger, the
    bytes received, the number of hosts, how many rows failed for now, and the slowest hosts.
    """
    table = pq.read_table(work)
    columns = worklist.image_columns(table.schema)
    places = rounds.read_later(before, name) if before is not None else range(table.num_rows)
    rows = table.take(pa.array(places, pa.int64())).to_pylist()
    compared: Mapping[str, earlier.Before] = {}
    if settings.verify is not None:
        compared = earlier.with_pictures(earlier.earlier(Path(settings.verify), name, {row["uid"] for row in rows}))
    gate = known_gate.KnownContentGate(lists)
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
        ReorderBuffer(out) as spool,
        shards.ShardWriter(out, name, columns) as writer,
    ):
        shard = _Shard(settings, name, rows, places, round_number, spool, writer, shard_rows, recording, compared, gate)
        through = gate.through(recording.wrap)
        opening = open_fetcher(
            settings, replay=replay, user_agent=user_agent, workers=workers, limit_server=limit_server, through=through
        )
        try:
            uvloop.run(shard.run(opening, cores=max(1, (os.cpu_count() or 1) // workers)))
        except BaseExceptionGroup as group:
            # Rows run in parallel; a full disk or a bug fails many of them, and the first error is enough.
            raise group.exceptions[0] from None
    tries = rounds.write_tries(out, name, shard.tries)
    rounds.write_later(out, name, shard.later)
    counts = rounds.count(shard.ended, shard.later)
    Ledger.from_dict(counts["images"]).check(f"download {name}", expected=len(rows))
    return counts | {"slow": rounds.slowest(tries)}


class _Shard:
    """The state of one download: waiting, running and finished rows."""

    def __init__(
        self,
        settings: params.Download,
        name: str,
        rows: list[dict[str, Any]],
        places: Sequence[int],
        round_number: int,
        spool: ReorderBuffer,
        writer: shards.ShardWriter,
        shard_rows: int,
        recording: shard_archive.Archive,
        compared: Mapping[str, earlier.Before],
        gate: known_gate.KnownContentGate,
    ) -> None:
        self._settings = settings
        self._name = name
        self._rows = rows
        self._places = places
        self._round = round_number
        self._spool = spool
        self._writer = writer
        self._shard_rows = shard_rows
        self._archive = recording
        self._compared = compared
        self._gate = gate
        self._listed = gate.rows([row["url"] for row in rows])
        # Each row without a valid address gets its own host, so that its failures do not affect others.
        self._queue = HostQueue([row["host"] or f"? {place}" for place, row in enumerate(rows)], settings)
        self._active = 0
        self._body_bytes = 0
        self._changed = asyncio.Event()
        self._left: dict[str, str] = {}
        self._over = False
        self.later: list[int] = []
        self.tries: list[dict[str, Any]] = []
        self.ended: list[dict[str, Any]] = []

    async def run(self, opening: AbstractAsyncContextManager[Fetcher], cores: int) -> None:
        """Fetch all rows; a row that may not begin yet does not delay others."""
        judge = partial(_judge, _decoders(self._settings, cores), self._settings, Policy.of(self._settings), self._gate)
        with ThreadPoolExecutor(cores, thread_name_prefix="decode") as pool:
            async with opening as fetcher, asyncio.TaskGroup() as tasks:
                if self._settings.source == "web":
                    asyncio.get_running_loop().call_later(self._settings.shard_budget_s, self._stop, fetcher)
                while not self._queue.done:
                    self._changed.clear()
                    while (given_up := self._queue.give_up()) is not None:
                        self._give_up(given_up)
                    while self._has_room() and (row := self._queue.start()) is not None:
                        self._active += 1
                        tasks.create_task(self._fetch(row, fetcher, pool, judge))
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

    def _give_up(self, row: int) -> None:
        work = self._rows[row]
        asks_for("row", work["uid"], self._round)
        reason = SHARD if self._over else self._left.get(work["host"], "host_failing")
        fetched = not_asked(work["url"], reason)
        self._archive.record_outcome(work["url"], fetched.reason, fetched.message)
        self._end(row, *_undecoded(fetched))

    async def _fetch(self, row: int, fetcher: Fetcher, pool: ThreadPoolExecutor, judge: Judge) -> None:
        work = self._rows[row]
        asks_for("row", work["uid"], self._round)
        if fault := work.get(worklist.FAULT):
            fetched = Fetched("bad_row", fault, work["url"], SILENT)
        elif row in self._listed:
            fetched = Fetched(known_content.LISTED_ADDRESS, self._listed[row], work["url"], SILENT)
        elif (concluded := self._archive.recorded_outcome(work["url"])) is not None:
            fetched = not_asked(work["url"], concluded.failure)
        else:
            fetched = await fetcher.fetch(work["url"])
            self._archive.record_outcome(work["url"], fetched.reason, fetched.message)
        if fetched.left:
            self._left[work["host"]] = fetched.left
        self._queue.end(row, failed=fetched.host_failed, paused=fetched.host_paused or bool(fetched.left))
        self._changed.set()
        judged: Judged = _undecoded(fetched)
        if fetched.reason == KEEP:
            self._body_bytes += len(fetched.body)
            loop = asyncio.get_running_loop()
            before, boxes = self._compared.get(work["uid"]), work.get(worklist.BOXES) or ()
            judged = await loop.run_in_executor(pool, judge, fetched, before, boxes)
            self._body_bytes -= len(fetched.body)
        self._active -= 1
        self._changed.set()
        self._end(row, *judged)

    def _end(self, row: int, fetched: Fetched, prepared: prepare.Prepared, digests: Hashes) -> None:
        """Add a finished row to the reorder buffer, and write the rows that are ready."""
        work, place = self._rows[row], self._places[row]
        key = shards.key(self._name, place, self._shard_rows)
        asks_for("row", work["uid"], self._round)
        self._archive.end_row(listed=prepared.reason in known_content.LISTED)
        tried = {"key": key, "host": work["host"], "round": self._round, "reason": prepared.reason}
        for number, one in enumerate(fetched.tries if prepared.reason not in known_content.LISTED else (), start=1):
            ended = {"outcome": one.reason, "http_status": one.status, "seconds": one.seconds}
            self.tries.append({**tried, "attempt": number, **ended})
        if fetched.later:
            self.later.append(place)
        written = known_gate.row(attempt(key, work, fetched, prepared, digests))
        self._spool.put(row, written, prepared.picture, prepared.extension)
        for done, picture, extension in self._spool.ready():
            self._writer.add(done, picture, extension)
            self.ended.append(done)


def _undecoded(fetched: Fetched) -> Judged:
    return fetched, prepare.Prepared(fetched.reason, fetched.message), {}


def _decoders(settings: params.Download, count: int) -> decoders.Decoders:
    rules = prepare.Rules(
        mode=settings.resize,
        side_px=settings.side_px,
        max_pixels=settings.max_pixels,
        smaller=settings.smaller,
        encode=settings.encode,
        quality=settings.quality,
        pdq=settings.pdq,
    )
    memory_bytes = settings.decode_memory_mb * 1_000_000
    return decoders.kept(
        rules,
        Policy.of(settings),
        count=count,
        timeout_s=settings.decode_timeout_s,
        memory_bytes=memory_bytes,
    )


def _judge(
    ready: decoders.Decoders,
    settings: params.Download,
    policy: Policy,
    gate: known_gate.KnownContentGate,
    fetched: Fetched,
    before: earlier.Before | None,
    boxes: Sequence[Box],
) -> Judged:
    """Check a body against lists and its embedded opt-outs, and decode it in a process with limits.

    For a refused image only the hashes are kept.
    """
    if (stopped := gate.body(fetched.body)) is not None:
        return replace(fetched, reason=stopped.reason), stopped, {}
    digests = hashes.digests(fetched.body, settings.hashes)
    rights, prepared = ready.look(fetched.body, boxes, fetched.server_date)
    decision = policy.strictest([fetched.decision, rights])
    if policy.binds(decision):
        return replace(fetched, decision=decision, reason=decision.signal), prepared, digests
    prepared = gate.picture(prepared)
    if prepared.reason in known_content.LISTED:
        return replace(fetched, reason=prepared.reason), prepared, {}
    if before is not None and prepared.reason == KEEP:
        prepared = _verified(prepared, digests.get("sha256"), before, settings.changed)
    return replace(fetched, decision=decision), prepared, digests


def _verified(
    prepared: prepare.Prepared, sha256: str | None, before: earlier.Before, mode: earlier.Mode
) -> prepare.Prepared:
    """Refuse a picture that differs from the pair's picture in an earlier version; its hashes stay in the row."""
    now = (prepared.pdq or hashes.pdq_as_stored(prepared.picture).hex) if sha256 != before.sha256 else None
    message = earlier.refusal(earlier.compare(before, sha256, now), mode)
    if message is None:
        return prepared
    return replace(prepared, reason=earlier.CHANGED_BYTES, message=message, picture=b"", width=0, height=0)


def attempt(
    key: str,
    work: Mapping[str, Any],
    fetched: Fetched,
    prepared: prepare.Prepared,
    digests: Hashes,
) -> dict[str, Any]:
    """Build the row of one attempt, with all columns of the work list; the table's schema selects its own.

    Unknown values, such as sizes and hashes, are null.
    """
    status = shards.SUCCESS
    if fetched.reason == KEEP and not worklist.as_expected(fetched.body, work.get(worklist.EXPECTED_HASH)):
        # As with img2dataset's verify_hash, other bytes are a failed download.
        fetched = replace(fetched, reason="hash_mismatch", message="hash mismatch")
        prepared = replace(prepared, reason=fetched.reason, message=fetched.message)
    if prepared.reason != KEEP:
        status = shards.FAILED_TO_RESIZE if fetched.reason == KEEP else shards.FAILED_TO_DOWNLOAD
    row = {
        "key": key,
        "uid": work["uid"],
        "url": work["url"],
        "caption": work["text"],
        "status": status,
        "error_message": prepared.message,
        "reason": prepared.reason,
        "http_status": fetched.status,
        "server_date": fetched.server_date,
        "final_url": fetched.final_url,
        "content_type": fetched.content_type,
        "rights": fetched.decision.rights,
        "rights_signal": fetched.decision.signal,
        "rights_evidence": fetched.decision.evidence,
        "rights_source": fetched.decision.source,
        "rights_time": fetched.decision.time,
        "format": prepared.format,
        "animated": prepared.animated if prepared.reason == KEEP else None,
        "bytes": len(fetched.body),
        "md5": digests.get("md5"),
        "sha1": digests.get("sha1"),
        "sha256": digests.get("sha256"),
        "pdq": prepared.pdq,
        "pdq_quality": prepared.pdq_quality,
        "original_width": prepared.original_width or None,
        "original_height": prepared.original_height or None,
        "width": prepared.width or None,
        "height": prepared.height or None,
    }
    return {**work, **row}
