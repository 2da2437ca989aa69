"""One shard's work list in, one shard out: a row for every attempt, the pictures of the successes, and counts."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask import archive as archives
from laion_dask import exchange, hashes, images, params, schema, shards, verify
from laion_dask.decoders import Decoders
from laion_dask.embedded import decide_file
from laion_dask.fetch import Fetched, Fetcher, open_fetcher
from laion_dask.replay import ReplayAddress
from laion_dask.rights import SILENT, Policy
from laion_dask.verdict import KEEP, Ledger

Hashes = dict[hashes.Digest, str]
Judge = Callable[[Fetched, verify.Before | None], tuple[Fetched, images.Prepared, Hashes]]

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
        self._waiting: dict[int, tuple[dict[str, Any], images.Prepared]] = {}
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
        with _decoders(self._settings, cores) as decoders, ThreadPoolExecutor(cores, "decode") as pool:
            judge = partial(_judge, decoders, self._settings)
            async with opening as fetcher, asyncio.TaskGroup() as tasks:
                for _ in range(min(self._settings.connections, len(self._rows))):
                    tasks.create_task(self._work(fetcher, pool, judge, writer, way))

    async def _work(
        self,
        fetcher: Fetcher,
        pool: ThreadPoolExecutor,
        judge: Judge,
        writer: shards.ShardWriter,
        way: archives.Way | None,
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
                fetched = Fetched(known.failure, known.message, row["url"], SILENT, attempts=0)
            else:
                fetched = await fetcher.fetch(row["url"])
            if way is not None:
                way.conclude(row["url"], fetched.reason, fetched.message)
            prepared, digests = images.Prepared(fetched.reason, fetched.message), Hashes()
            if fetched.reason == KEEP:
                before = self._before.get(row["uid"])
                loop = asyncio.get_running_loop()
                fetched, prepared, digests = await loop.run_in_executor(pool, judge, fetched, before)
            key = f"{self._name}{place:04d}"
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


def _judge(
    decoders: Decoders, settings: params.Download, fetched: Fetched, before: verify.Before | None
) -> tuple[Fetched, images.Prepared, Hashes]:
    """Read what the owner wrote into the file before it is decoded; of a refused one only the hashes are kept."""
    policy = Policy.of(settings)
    digests = hashes.digests(fetched.body, settings.hashes)
    decision = policy.strictest([fetched.decision, decide_file(fetched.body, policy, fetched.date)])
    if policy.binds(decision):
        told = images.Prepared(decision.signal, f"refused by {decision.signal}")
        return replace(fetched, decision=decision, reason=decision.signal), told, digests
    prepared = decoders.prepare(fetched.body)
    if before is not None and prepared.reason == KEEP:
        prepared = _verified(prepared, digests.get("sha256"), before, settings.changed)
    return replace(fetched, decision=decision), prepared, digests


def _verified(
    prepared: images.Prepared, sha256: str | None, before: verify.Before, mode: verify.Mode
) -> images.Prepared:
    """Refuse a picture that is not the one that an earlier version has of the pair; its hashes stay in the row."""
    now = (prepared.pdq or verify.pdq(prepared.picture)) if sha256 != before.sha256 else None
    message = verify.refusal(verify.compare(before, sha256, now), mode)
    if message is None:
        return prepared
    return replace(prepared, reason=verify.CHANGED_BYTES, message=message, picture=b"", width=0, height=0)


def attempt(
    key: str,
    work: Mapping[str, Any],
    fetched: Fetched,
    prepared: images.Prepared,
    digests: Hashes,
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
    return {column: row[column] if column in row else work[column] for column in schema.IMAGES.names}
