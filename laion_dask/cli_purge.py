"""A project on the command line in; what is stored of removed pairs deleted, recorded, and proved gone."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer

from laion_dask import cli_console

if TYPE_CHECKING:
    from laion_dask.traces import Traces

HELP: Final = """Delete what is stored of removed pairs, record it, and prove by a scan that nothing is left.

\b
  laion-dask purge --dry-run          # what would go
  laion-dask purge                    # from data/, work folders, DVC's cache, MLflow's artifacts
  laion-dask purge --remote storage   # and from a DVC remote

Build the version without the pairs first (`make repro`). Rows keep uid and fate; images, texts, addresses, scores and
embeddings go. Older versions lose the files that held the pairs: purges.json says which (docs/removals.md).
"""
_SHOWN: Final = 20


def purge(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Delete none.")] = False,  # noqa: FBT002 - a flag
    remote: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A DVC remote to purge as well; may be given again.")
    ] = None,
) -> None:
    """Plan, carry out, scan, record."""
    from laion_dask import params, purge, purge_dvc, purge_record, removals
    from laion_dask.purge_record import RECORD

    project, data = Path(), Path("data")
    home = Path(os.environ.get("LAION_DASK_HOME", ".laion_dask"))
    with cli_console.told("purge"):
        stopped = purge_record.unfinished(RECORD)
        if stopped and not dry_run:
            cli_console.say("purge: one that was stopped goes on")
        purge.clean(*([] if dry_run else [data, home]))
        ledger = Path(params.load().catalog.removals)
        lines = removals.read(ledger)
        before = purge_record.pending(home)
        wanted = before | purge.gather(purge.of_version(lines, data) | before.uids, data)
        under_dvc = purge_dvc.is_repository(project)
        planned = purge.plan(wanted, data, _copies(project, home, under_dvc=under_dvc))
        names = list(dict.fromkeys([*(remote or ()), *(one["remote"] for one in (stopped or {}).get("objects", ()))]))
        remotes = [found for name in names for found in purge_dvc.in_remote(project, data / purge.WEB, name, wanted)]
        _tell(planned, remotes, dry_run=dry_run)
        if dry_run:
            return
        # First what is going to happen, then it, then the proof: whatever ends this, the record knows, and a second
        # run goes on from there.
        entry = stopped
        if planned.rewrite or planned.delete or remotes:
            objects = [told for _, _, told in remotes]
            entry = purge_record.begin(RECORD, home, wanted, purge.described(planned), objects)
        purge.carry_out(planned, data)
        # The embedded database mirrors files: deleted rows would stay in its files for a while.
        shutil.rmtree(home / "postgresql", ignore_errors=True)
        _forget(wanted.uids)
        if entry and entry["files"]:
            _note(ledger, lines, wanted.uids)
            if under_dvc and any(one["rewritten"] for one in entry["files"]):
                purge_dvc.commit(project)
        for system, path, _ in remotes:
            system.rm_file(path)
        proof, left = _scan(wanted, project, data, home, names, under_dvc=under_dvc)
        if not left:
            purge_record.end(RECORD, home, ledger, proof)
    if left:
        told = f"{len(left)} files still hold traces: {', '.join(left[:_SHOWN])}"
        cli_console.fail(f"purge: {told}. Remedy: see what they are, then purge again")


def _copies(project: Path, home: Path, *, under_dvc: bool) -> list[Path]:
    """List what is deleted whole where it holds a trace: finished parts, artifacts, cached objects."""
    from laion_dask import purge, purge_dvc

    found = [path for path in sorted((home / "parts").glob("*/*")) if path.exists()]
    found += [path for path in sorted((project / "mlruns").rglob("*")) if path.is_file()]
    return found + (purge_dvc.cached(project, Path("data") / purge.WEB) if under_dvc else [])


def _tell(planned: Any, remotes: list[Any], *, dry_run: bool) -> None:  # noqa: ANN401 - of a module that is imported late
    verb = "would be" if dry_run else "is"
    gone = planned.traces
    cli_console.say(
        f"{len(gone.uids):,} removed pairs: {len(gone.urls):,} addresses, {len(gone.pictures):,} stored images"
    )
    rows = cli_console.table("What holds them", "what happens", "file", "why", wide="file")
    told = [(f"{verb} written anew", str(path), planned.why[path]) for path in planned.rewrite]
    told += [(f"{verb} deleted", str(path), planned.why[path]) for path in planned.delete]
    told += [(f"{verb} deleted", path, one["why"]) for _, path, one in remotes]
    for row in told[:_SHOWN]:
        rows.add_row(*row)
    cli_console.console().print(rows)
    if len(told) > _SHOWN:
        cli_console.say(f"and {len(told) - _SHOWN:,} more; all of them in purges.json" if not dry_run else "and more")


def _forget(uids: frozenset[str]) -> None:
    """Blank the pairs in a PostgreSQL that is not embedded."""
    dsn = os.environ.get("LAION_DASK_DSN")
    if not dsn:
        return
    from laion_dask import database, histories

    with database.transaction(dsn) as cursor:
        rows = histories.forget(cursor, sorted(uids))
        if cursor.execute("select to_regclass('laion_dask.pairs')").fetchone() != (None,):
            cursor.execute("delete from laion_dask.pairs where uid = any(%s::uuid[])", (sorted(uids),))
            cursor.execute("delete from laion_dask.loads")
    cli_console.say(
        f"database: {rows:,} rows blanked. Run `vacuum full` there: PostgreSQL keeps deleted rows until then"
    )


def _note(ledger: Path, lines: list[Any], uids: frozenset[str]) -> None:
    """Name the purged pairs by uid from now on: nothing else is left by which they could be matched."""
    from laion_dask import removal_requests
    from laion_dask.removals import Removal

    known = {line.value for line in lines if line.kind == "uid"}
    day = datetime.now(tz=UTC).date().isoformat()
    new = [Removal("uid", uid, "purged", day, "laion-dask purge") for uid in sorted(uids - known)]
    removal_requests.add(ledger, new)


def _scan(
    wanted: Traces, project: Path, data: Path, home: Path, remotes: list[str], *, under_dvc: bool
) -> tuple[dict[str, int], list[str]]:
    """Read every file again, and say what was read; return how much that was, and the files that still hold a trace."""
    from laion_dask import purge, purge_dvc, purge_record, traces

    folders = [path for path in (*sorted(data.glob("*")), home, project / "mlruns") if path.name != purge.WEB]
    files = [path for folder in folders for path in folder.rglob("*") if path.is_file()]
    files = [path for path in files if path != home / purge_record.TRACES]
    files += purge_dvc.cached(project, Path("data") / purge.WEB) if under_dvc else []
    left = [str(path) for path in files if traces.found_in(path, wanted)]
    left += [path for name in remotes for _, path, _ in purge_dvc.in_remote(project, data / purge.WEB, name, wanted)]
    size = sum(path.stat().st_size for path in files)
    cli_console.say(f"scan: {len(files):,} files, {cli_console.short(size, 'B')}; {len(left):,} hold a trace")
    cli_console.say(json.dumps({"scanned": len(files), "bytes": size, "left": left}))
    return {"scanned": len(files), "bytes": size, "left": len(left)}, left
