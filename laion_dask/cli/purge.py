"""A project on the command line in; what is stored of removed pairs deleted, recorded, and proved gone."""

from __future__ import annotations

import importlib
import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from laion_dask.cli import console

if TYPE_CHECKING:
    from laion_dask.blocklists.removal_ledger import Removal
    from laion_dask.removals.purge import PurgePlan
    from laion_dask.removals.purge_project import Project
    from laion_dask.removals.purge_scan import TraceScan
    from laion_dask.removals.traces.traces import Traces

HELP: Final = """Delete what is stored of removed pairs, record it, and prove by a scan that nothing is left.

\b
  laion-dask purge --dry-run          # what would go
  laion-dask purge                    # from data/, work folders, DVC's cache, MLflow's artifacts
  laion-dask purge --remote storage   # and from a DVC remote
  laion-dask purge --also ../figures  # and look into a folder elsewhere

Build the version without the pairs first (`make repro`). Rows keep uid and fate; images, texts, addresses, scores and
embeddings go. Older versions lose the files that held the pairs: purges.json says which (docs/removals.md).
"""
_SHOWN: Final = 20


def purge(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete none.")] = False,  # noqa: FBT002 - a flag
    remote: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A DVC remote to purge as well; may be given again.")
    ] = None,
    also: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="A folder elsewhere to look into; may be given again.")
    ] = None,
) -> None:
    """Plan, carry out, scan, record."""
    from laion_dask import params
    from laion_dask.blocklists import removal_ledger
    from laion_dask.removals import purge, purge_record
    from laion_dask.removals.purge_project import Project
    from laion_dask.removals.purge_record import RECORD

    home = Path(os.environ.get("LAION_DASK_HOME") or ".laion_dask")
    with console.told("purge"):
        stopped = purge_record.unfinished(RECORD)
        if stopped and not dry_run:
            console.say("purge: one that was stopped goes on")
        settings = params.load()
        project = Project.open(Path(), Path("data"), home, settings, tuple(also or ()))
        if not dry_run:
            purge.clean(project.data, home)
            purge_record.clean(RECORD, home)
        lines = removal_ledger.read(Path(settings.catalog.removals))
        names = list(dict.fromkeys([*(remote or ()), *(one["remote"] for one in (stopped or {}).get("objects", ()))]))
        planned, remotes, first = _plan(project, lines, names)
        _tell(planned, remotes, first, dry_run=dry_run)
        if dry_run:
            return
        _carry_out(project, planned, remotes, lines, stopped)
        left, unread, proof = _prove(project, planned.traces, names)
        if not left and not unread:
            purge_record.end(RECORD, home, Path(settings.catalog.removals), proof)
    if left:
        told = f"{len(left)} files still hold traces: {', '.join(left[:_SHOWN])}"
        remedy = "see what they are, delete them, then purge again"
        if any(" object " in name for name in left):
            remedy += "; what was committed goes with `git filter-repo` and `git gc --prune=now`"
        console.fail(f"purge: {told}. Remedy: {remedy}")
    if unread:
        told = "; ".join(f"{name}: {why}" for name, why in list(unread.items())[:_SHOWN])
        message = f"purge: {len(unread)} files cannot be read, so nothing is proved: {told}"
        console.fail(f"{message}. Remedy: mend them, delete them or take them out of the project, then purge again")


def _plan(project: Project, lines: list[Removal], names: list[str]) -> tuple[PurgePlan, list[Any], TraceScan]:
    """Look into every file; return what is to be done, what remotes hold, and what was seen."""
    from laion_dask.removals import purge, purge_gather, purge_record, purge_scan

    before = purge_record.pending(project.home)
    uids = purge_gather.removed(lines, project.tables) | before.uids
    wanted = before | purge_gather.gather(uids, project.tables, lines)
    places = project.places(with_database=False)
    first = purge_scan.scan(wanted, places, "purge", but=project.web(places), ledgers=project.ledgers)
    planned = purge.plan(wanted, project.data, first.found, project.copies(places))
    return purge.spare_linked(planned, places.files), project.in_remotes(names, wanted, first.seen), first


def _carry_out(
    project: Project, planned: PurgePlan, remotes: list[Any], lines: list[Removal], stopped: dict[str, Any] | None
) -> None:
    """First write what is going to happen, then do it: whatever ends this, a second run goes on from the record."""
    from laion_dask.removals import purge, purge_dvc, purge_record

    entry, wanted = stopped, planned.traces
    if planned.rewrite or planned.delete or remotes:
        objects = [told for _, _, told in remotes]
        entry = purge_record.begin(purge_record.RECORD, project.home, wanted, purge.described(planned), objects)
    purge.carry_out(planned, project.data)
    # The embedded database mirrors files: deleted rows would stay in its files for a while.
    shutil.rmtree(project.home / "postgresql", ignore_errors=True)
    _forget(wanted.uids)
    if entry and entry["files"]:
        _note(Path(project.settings.catalog.removals), lines, wanted.uids)
        if project.cache and any(one["rewritten"] for one in entry["files"]):
            # The ledger has new lines now, and the stages that read it would run again for its other digest.
            importlib.import_module("workflow.inputs").run()
            purge_dvc.commit(Path())
    for system, path, _ in remotes:
        system.rm_file(path)


def _tell(planned: PurgePlan, remotes: list[Any], first: TraceScan, *, dry_run: bool) -> None:
    verb = "would be" if dry_run else "is"
    gone = planned.traces
    console.say(f"{len(gone.uids):,} removed pairs: {len(gone.urls):,} addresses, {len(gone.pictures):,} stored images")
    rows = console.table("What holds them", "what happens", "file", "why", wide="file")
    told = [(f"{verb} written anew", str(path), planned.why[path]) for path in planned.rewrite]
    told += [(f"{verb} deleted", str(path), planned.why[path]) for path in planned.delete]
    told += [(f"{verb} deleted", path, one["why"]) for _, path, one in remotes]
    # What only a user can decide on comes first, however much there is.
    yours = [("is left to you", str(path), why) for path, why in planned.left.items()]
    yours += [("is left to you", name, why) for name, why in first.objects.items()]
    yours += [("cannot be read", name, why) for name, why in first.seen.unread.items()]
    shown = [*yours[: _SHOWN // 2], *told][:_SHOWN]
    for row in shown:
        rows.add_row(*row)
    console.console().print(rows)
    more = len(yours) + len(told) - len(shown)
    if more > 0:
        console.say(f"and {more:,} more; all that is deleted stands in purges.json" if not dry_run else "and more")


def _prove(project: Project, wanted: Traces, remotes: list[str]) -> tuple[list[str], dict[str, str], dict[str, Any]]:
    """Read every file again; return what still holds a trace, what cannot be read, and what that proves."""
    from laion_dask.removals import purge, purge_scan

    places = project.places()
    told = purge_scan.scan(wanted, places, "scan", but=project.web(places), ledgers=project.ledgers)
    told.found |= dict.fromkeys(purge.with_embeddings(project.data, wanted.uids), "embeddings")
    left = [*map(str, told.found), *told.objects]
    left += [path for _, path, _ in project.in_remotes(remotes, wanted, told.seen)]
    seen, unread = told.seen, told.seen.unread
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in seen.kinds.most_common())
    console.say(
        f"scan: {seen.files:,} files, {console.short(seen.bytes, 'B')}, {seen.members:,} files inside of them, "
        f"{told.git_objects:,} objects of Git ({kinds}); {len(left):,} hold a trace, {len(unread):,} cannot be read"
    )
    for name in project.tables.without:
        console.say(f"version {name}: some of its tables are not in the cache, so pairs only it had are not known")
    for name, why in sorted(places.spared.items()):
        console.say(f"not looked into: {name}: {why}")
    console.say(json.dumps({"scanned": seen.files, "bytes": seen.bytes, "left": left, "unread": unread}))
    return left, unread, purge_scan.proof(told, places, project.tables, wanted, remotes)


def _forget(uids: frozenset[str]) -> None:
    """Blank the pairs in a PostgreSQL that is not embedded."""
    dsn = os.environ.get("LAION_DASK_DSN")
    if not dsn:
        return
    from laion_dask.catalog import database
    from laion_dask.versions import histories

    with database.transaction(dsn) as cursor:
        rows = histories.forget(cursor, sorted(uids))
        if cursor.execute("select to_regclass('laion_dask.pairs')").fetchone() != (None,):
            cursor.execute("delete from laion_dask.pairs where uid = any(%s::uuid[])", (sorted(uids),))
            cursor.execute("delete from laion_dask.loads")
    console.say(f"database: {rows:,} rows blanked. Run `vacuum full` there: PostgreSQL keeps deleted rows until then")


def _note(ledger: Path, lines: list[Removal], uids: frozenset[str]) -> None:
    """Name the purged pairs by uid from now on: nothing else is left by which they could be matched."""
    from laion_dask.blocklists.removal_ledger import Removal
    from laion_dask.removals import removal_requests

    known = {line.value for line in lines if line.kind == "uid"}
    day = datetime.now(tz=UTC).date().isoformat()
    new = [Removal("uid", uid, "purged", day, "laion-dask purge") for uid in sorted(uids - known)]
    removal_requests.add(ledger, new)
