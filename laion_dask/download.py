"""One shard's work list in, one shard out: a row for every attempt, the pictures of the successes, and counts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Collection, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask import hashes, images, params, shards, worklist
from laion_dask.decoders import Decoders
from laion_dask.fetch import Fetched, Fetcher, open_fetcher
from laion_dask.replay import ReplayAddress
from laion_dask.verdict import KEEP, Ledger

Hashes = dict[hashes.Digest, str]
Prepare = Callable[[bytes], tuple[images.Prepared, Hashes]]

_MAX_EVIDENCE_CHARS: Final = 1_000
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
    shard_rows: int = 10_000,
) -> dict[str, Any]:
    """Download one work list (Parquet) into `out`: `<name>.tar`, `<name>_stats.json`, `<name>.parquet`.

    The work list is that of the catalog (`schema.WORK`), or one of any table (`worklist.cut`). `name` is the number of
    the shard, and `shard_rows` the size of full ones: keys are made of both (`shards.key`). `workers` is the number of
    processes that download at the same time: they share the limits for each host. Returns the images' ledger, the bytes
    received and the number of hosts.
    """
    table = pq.read_table(work)
    columns, rows = worklist.image_columns(table.schema), table.to_pylist()
    shard = _Shard(settings, name, rows, workers, shard_rows)
    with shards.ShardWriter(out, name, columns) as writer:
        try:
            asyncio.run(shard.run(writer, replay=replay, user_agent=user_agent))
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
        self, settings: params.Download, name: str, rows: list[dict[str, Any]], workers: int, shard_rows: int
    ) -> None:
        self._settings = settings
        self._name = name
        self._rows = rows
        self._shard_rows = shard_rows
        self._workers = workers
        self._todo = iter(range(len(rows)))
        self._waiting: dict[int, tuple[dict[str, Any], images.Prepared]] = {}
        self._written = 0
        self._window = asyncio.Semaphore(_AHEAD * settings.connections)
        self.reasons: list[str] = []
        self.bytes = 0

    async def run(self, writer: shards.ShardWriter, *, replay: ReplayAddress | None, user_agent: str) -> None:
        """Fetch all rows, as many at once as there are connections: each holds one body at most."""
        cores = max(1, (os.cpu_count() or 1) // self._workers)
        opening = open_fetcher(self._settings, replay=replay, user_agent=user_agent, workers=self._workers)
        with _decoders(self._settings, cores) as decoders, ThreadPoolExecutor(cores, "decode") as pool:
            prepare = partial(_prepare, decoders, self._settings.hashes)
            async with opening as fetcher, asyncio.TaskGroup() as tasks:
                for _ in range(min(self._settings.connections, len(self._rows))):
                    tasks.create_task(self._work(fetcher, pool, prepare, writer))

    async def _work(
        self, fetcher: Fetcher, pool: ThreadPoolExecutor, prepare: Prepare, writer: shards.ShardWriter
    ) -> None:
        while True:
            # Rows are taken in order after the window opens, so the oldest unfinished row always runs.
            await self._window.acquire()
            place = next(self._todo, None)
            if place is None:
                self._window.release()
                return
            row = self._rows[place]
            fetched = await fetcher.fetch(row["url"])
            prepared, digests = images.Prepared(fetched.reason, fetched.message), Hashes()
            if fetched.reason == KEEP:
                prepared, digests = await asyncio.get_running_loop().run_in_executor(pool, prepare, fetched.body)
            key = shards.key(self._name, place, self._shard_rows)
            self._waiting[place] = attempt(key, row, fetched, prepared, digests), prepared
            self._write_ready(writer)

    def _write_ready(self, writer: shards.ShardWriter) -> None:
        while (ready := self._waiting.pop(self._written, None)) is not None:
            row, prepared = ready
            writer.add(row, prepared.picture, prepared.extension)
            self.reasons.append(row["reason"])
            self.bytes += row["bytes"]
            self._written += 1
            self._window.release()


def _decoders(settings: params.Download, count: int) -> Decoders:
    rules = images.Rules(
        mode=settings.resize,
        side_px=settings.side_px,
        max_pixels=settings.max_pixels,
        smaller=settings.smaller,
        encode=settings.encode,
        quality=settings.quality,
        pdq=settings.pdq,
    )
    memory_bytes = settings.decode_memory_mb * 1_000_000
    return Decoders(rules, count=count, timeout_s=settings.decode_timeout_s, memory_bytes=memory_bytes)


def _prepare(decoders: Decoders, kinds: Collection[hashes.Digest], body: bytes) -> tuple[images.Prepared, Hashes]:
    return decoders.prepare(body), hashes.digests(body, kinds)


def attempt(
    key: str,
    work: Mapping[str, Any],
    fetched: Fetched,
    prepared: images.Prepared,
    digests: Hashes,
) -> dict[str, Any]:
    """Build the row of one attempt: what is known of it, and all columns of the work list; a table takes its own.

    What is not known is null, sizes and hashes among it.
    """
    status = shards.SUCCESS
    if fetched.reason == KEEP and not worklist.as_expected(fetched.body, work.get(worklist.EXPECTED_HASH)):
        # As img2dataset's verify_hash: other bytes are a failed download, whatever they show.
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
        "attempts": fetched.attempts,
        "final_url": fetched.final_url,
        "content_type": fetched.content_type,
        "rights": fetched.decision.rights,
        "rights_signal": fetched.decision.signal,
        "rights_evidence": fetched.decision.evidence[:_MAX_EVIDENCE_CHARS],
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
