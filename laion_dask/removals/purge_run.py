"""Run a purge: preview it, record it, delete, and search every file again."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from laion_dask.blocklists import removal_ledger
from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.catalog import database
from laion_dask.inputs import run as inputs
from laion_dask.removals import purge, purge_dvc, purge_gather, purge_record, purge_scan, removal_requests
from laion_dask.removals.purge import PurgePlan
from laion_dask.removals.purge_project import Project
from laion_dask.removals.purge_record import RECORD
from laion_dask.removals.purge_scan import TraceScan
from laion_dask.removals.traces.traces import Traces
from laion_dask.versions import histories


@dataclass(frozen=True)
class PurgePreview:
    """The plan of a purge, and what its search found."""

    plan: PurgePlan
    remotes: Sequence[Any]
    """Objects of DVC remotes that hold a trace: file system, path, and their entry in the record."""
    scan: TraceScan


@dataclass(frozen=True)
class PurgeResult:
    """The search of every file after a purge."""

    scan: TraceScan
    left: list[str]
    """Files that still hold a trace."""
    not_searched: Mapping[str, str]
    """Skipped paths with the reason."""


def run(
    project: Project,
    remotes: Sequence[str],
    *,
    dry_run: bool,
    tell: Callable[[PurgePreview], None],
    say: Callable[[str], None],
) -> PurgeResult | None:
    """Purge a project and the DVC remotes of these names; with `dry_run` only plan, and return None.

    `tell` gets the preview before anything is deleted, `say` each line on progress. If no trace is left, the record is
    completed with the proof. An interrupted run is continued from the record.
    """
    ledger = Path(project.settings.catalog.removals)
    stopped = purge_record.unfinished(RECORD)
    if not dry_run:
        if stopped:
            say("purge: continuing the interrupted purge")
        purge.clean(project.data, project.home)
        purge_record.clean(RECORD, project.home)
    lines = removal_ledger.read(ledger)
    names = list(dict.fromkeys([*remotes, *(one["remote"] for one in (stopped or {}).get("objects", ()))]))
    preview = _preview(project, lines, names)
    tell(preview)
    if dry_run:
        return None
    _carry_out(project, preview, lines, stopped, say)
    result, proof = _prove(project, preview.plan.traces, names)
    if not result.left and not result.scan.seen.unread:
        purge_record.end(RECORD, project.home, ledger, proof)
    return result


def _preview(project: Project, lines: list[Removal], names: list[str]) -> PurgePreview:
    """Search every file, and plan what happens to each that holds a trace."""
    interrupted = purge_record.pending(project.home)
    uids = purge_gather.removed(lines, project.tables) | interrupted.uids
    wanted = interrupted | purge_gather.gather(uids, project.tables, lines)
    places = project.places(with_database=False)
    scan = purge_scan.scan(wanted, places, "purge", but=project.web(places), ledgers=project.ledgers)
    planned = purge.plan(wanted, project.data, scan.found, project.copies(places))
    return PurgePreview(purge.spare_linked(planned, places.files), project.in_remotes(names, wanted, scan.seen), scan)


def _carry_out(
    project: Project,
    preview: PurgePreview,
    lines: list[Removal],
    stopped: dict[str, Any] | None,
    say: Callable[[str], None],
) -> None:
    """Record the plan, then carry it out, so that an interrupted run can continue from the record."""
    entry, planned = stopped, preview.plan
    if planned.rewrite or planned.delete or preview.remotes:
        objects = [entry for _, _, entry in preview.remotes]
        entry = purge_record.begin(RECORD, project.home, planned.traces, purge.described(planned), objects)
    purge.carry_out(planned, project.data)
    # The embedded database mirrors files, and deleted rows stay in its own files for a while.
    shutil.rmtree(project.home / "postgresql", ignore_errors=True)
    _forget(planned.traces.uids, say)
    if entry and entry["files"]:
        _note(Path(project.settings.catalog.removals), lines, planned.traces.uids)
        if project.cache and any(one["rewritten"] for one in entry["files"]):
            # The ledger has new lines now: without this, the stages that read it would run again.
            inputs.run()
            purge_dvc.commit(Path())
    for system, path, _ in preview.remotes:
        system.rm_file(path)


def _prove(project: Project, wanted: Traces, names: list[str]) -> tuple[PurgeResult, dict[str, Any]]:
    """Search every file again; return the files that still hold a trace, and the proof."""
    places = project.places()
    scan = purge_scan.scan(wanted, places, "scan", but=project.web(places), ledgers=project.ledgers)
    scan.found |= dict.fromkeys(purge.with_embeddings(project.data, wanted.uids), "embeddings")
    left = [*map(str, scan.found), *scan.objects]
    left += [path for _, path, _ in project.in_remotes(names, wanted, scan.seen)]
    return PurgeResult(scan, left, places.spared), purge_scan.proof(scan, places, project.tables, wanted, names)


def _forget(uids: frozenset[str], say: Callable[[str], None]) -> None:
    """Blank the pairs in a PostgreSQL that is not embedded."""
    dsn = os.environ.get("LAION_DASK_DSN")
    if not dsn:
        return
    with database.transaction(dsn) as cursor:
        rows = histories.forget(cursor, sorted(uids))
        if cursor.execute("select to_regclass('laion_dask.pairs')").fetchone() != (None,):
            cursor.execute("delete from laion_dask.pairs where uid = any(%s::uuid[])", (sorted(uids),))
            cursor.execute("delete from laion_dask.loads")
    say(f"database: {rows:,} rows blanked. Run `vacuum full` there: PostgreSQL keeps deleted rows until then")


def _note(ledger: Path, lines: list[Removal], uids: frozenset[str]) -> None:
    """Add the purged pairs to the ledger by uid, the only value that is left to match them by."""
    recorded = {line.value for line in lines if line.kind == "uid"}
    day = datetime.now(tz=UTC).date().isoformat()
    new = [Removal("uid", uid, "purged", day, "laion-dask purge") for uid in sorted(uids - recorded)]
    removal_requests.add(ledger, new)
