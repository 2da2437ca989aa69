"""One shard's work list in, one shard out: a row for every attempt, the JPEGs of those that succeeded, and counts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask import archive as archives
from laion_dask import exchange, images, params, schema, shards, verify
from laion_dask.fetch import Fetched, Fetcher, open_fetcher
from laion_dask.replay import ReplayAddress
from laion_dask.rights import Decision
from laion_dask.verdict import KEEP, Ledger

Hashes = tuple[str | None, str | None]

_MAX_EVIDENCE_CHARS: Final = 1_000
_NO_HASHES: Final[Hashes] = (None, None)
_AHEAD: Final = 4  # rows, in multiples of the connections, that may be finished before an earlier one is


def download(
    out: Path,
    *,
    name: str,
    work: Path,
    settings: params.Download,
    replay: ReplayAddress | None,
    user_agent: str,
    workers: int,
    archive: Path | None = None,
) -> dict[str, Any]:
    """Download one work list (Parquet, `schema.WORK`) into `out`: `<name>.tar`, `<name>_stats.json`, `<name>.parquet`.

    `name` is the number of the shard in five digits; the key of a row is `name` and its place in four. `workers` is the
    number of processes that download at the same time: they share the limits for each host. `archive` is the index of
    the exchanges that stand in for the web (source archive). Returns the images' ledger, the bytes received and the
    number of hosts.
    """
    rows = schema.WORK.check(pq.read_table(work)).to_pylist()
    before: Mapping[str, verify.Before] = {}
    if settings.verify is not None:
        before = verify.with_pictures(verify.earlier(Path(settings.verify), name, {row["uid"] for row in rows}))
    shard = _Shard(settings, name, rows, workers, before)
    with (
        archives.open_way(out, name, settings, index=archive, user_agent=user_agent, scope=replay) as way,
        shards.ShardWriter(out, name) as writer,
    ):
        try:
            asyncio.run(shard.run(writer, replay=replay, user_agent=user_agent, way=way))
        except BaseExceptionGroup as group:
            # Rows run in parallel, but one full disk or one bug is one error: the first, as itself.
            raise group.exceptions[0] from None
    ledger = Ledger()
    ledger.add(shard.reasons)
    ledger.check(f"download {name}", expected=len(rows))
    return {"images": ledger.as_dict(), "bytes": shard.bytes, "hosts": len({row["host"] for row in rows})}


class _Shard:
    """The state of one download: the next row, finished rows that wait for an earlier one, what was counted."""

    def __init__(
        self,
        settings: params.Download,
        name: str,
        rows: list[dict[str, Any]],
        workers: int,
        before: Mapping[str, verify.Before],
    ) -> None:
        self._settings = settings
        self._name = name
        self._rows = rows
        self._workers = workers
        self._before = before
        self._todo = iter(range(len(rows)))
        self._waiting: dict[int, tuple[dict[str, Any], bytes]] = {}
        self._written = 0
        self._window = asyncio.Semaphore(_AHEAD * settings.connections)
        self.reasons: list[str] = []
        self.bytes = 0

    async def run(
        self, writer: shards.ShardWriter, *, replay: ReplayAddress | None, user_agent: str, way: archives.Way | None
    ) -> None:
        """Fetch all rows, as many at once as there are connections: each holds one body at most."""
        cores = max(1, (os.cpu_count() or 1) // self._workers)
        opening = open_fetcher(
            self._settings,
            replay=replay,
            user_agent=user_agent,
            workers=self._workers,
            through=way.through if way else None,
        )
        with ThreadPoolExecutor(cores, thread_name_prefix="decode") as pool:
            async with opening as fetcher, asyncio.TaskGroup() as tasks:
                for _ in range(min(self._settings.connections, len(self._rows))):
                    tasks.create_task(self._work(fetcher, pool, writer, way))

    async def _work(
        self, fetcher: Fetcher, pool: ThreadPoolExecutor, writer: shards.ShardWriter, way: archives.Way | None
    ) -> None:
        while True:
            # Rows are taken in order after the window opens, so the oldest unfinished row always runs.
            await self._window.acquire()
            place = next(self._todo, None)
            if place is None:
                self._window.release()
                return
            row = self._rows[place]
            exchange.ASKER.set(f"row {row['uid']}")
            known = way.concluded(row["url"]) if way is not None else None
            if known is not None:
                fetched = Fetched(known.failure, known.message, row["url"], Decision(), attempts=0)
            else:
                fetched = await fetcher.fetch(row["url"])
            if way is not None:
                way.conclude(row["url"], fetched.reason, fetched.message)
            prepared, hashes = images.Prepared(fetched.reason, fetched.message), _NO_HASHES
            if fetched.reason == KEEP:
                loop = asyncio.get_running_loop()
                prepare = partial(_prepare, fetched.body, self._settings, self._before.get(row["uid"]))
                prepared, hashes = await loop.run_in_executor(pool, prepare)
            key = f"{self._name}{place:04d}"
            self._waiting[place] = attempt(key, row, fetched, prepared, hashes), prepared.jpg
            self._write_ready(writer)

    def _write_ready(self, writer: shards.ShardWriter) -> None:
        while (ready := self._waiting.pop(self._written, None)) is not None:
            row, jpg = ready
            writer.add(row, jpg)
            self.reasons.append(row["reason"])
            self.bytes += row["bytes"]
            self._written += 1
            self._window.release()


def _prepare(body: bytes, settings: params.Download, before: verify.Before | None) -> tuple[images.Prepared, Hashes]:
    prepared = images.prepare(
        body,
        mode=settings.resize,
        side_px=settings.side_px,
        max_pixels=settings.max_pixels,
        jpeg_quality=settings.jpeg_quality,
    )
    hashes = images.digests(body)
    if before is not None and prepared.reason == KEEP:
        prepared = _verified(prepared, hashes[1], before, settings.changed)
    return prepared, hashes


def _verified(
    prepared: images.Prepared, sha256: str | None, before: verify.Before, mode: verify.Mode
) -> images.Prepared:
    """Refuse a picture that is not the one that an earlier version has of the pair; its hashes stay in the row."""
    now = verify.pdq(prepared.jpg) if sha256 != before.sha256 else None
    message = verify.refusal(verify.compare(before, sha256, now), mode)
    if message is None:
        return prepared
    return replace(prepared, reason=verify.CHANGED_BYTES, message=message, jpg=b"", width=0, height=0)


def attempt(
    key: str,
    work: Mapping[str, Any],
    fetched: Fetched,
    prepared: images.Prepared,
    hashes: Hashes,
) -> dict[str, Any]:
    """Build the row of `schema.IMAGES` of one attempt; what is not known is null, sizes and hashes among it."""
    status = shards.SUCCESS
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
        "attempts": fetched.attempts,
        "final_url": fetched.final_url,
        "content_type": fetched.content_type,
        "rights": fetched.decision.rights,
        "rights_signal": fetched.decision.signal,
        "rights_evidence": fetched.decision.evidence[:_MAX_EVIDENCE_CHARS],
        "format": prepared.format,
        "bytes": len(fetched.body),
        "md5": hashes[0],
        "sha256": hashes[1],
        "original_width": prepared.original_width or None,
        "original_height": prepared.original_height or None,
        "width": prepared.width or None,
        "height": prepared.height or None,
    }
    return {column: row[column] if column in row else work[column] for column in schema.IMAGES.names}
