"""`laion-dask purge`: delete all stored data of removed pairs, and print the result of the scan that proves it."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from laion_dask.cli import console

if TYPE_CHECKING:
    from laion_dask.removals.purge_project import Project
    from laion_dask.removals.purge_run import PurgePreview, PurgeResult

HELP: Final = """Delete all stored data of removed pairs, record it, and prove by a scan that nothing is left.

\b
  laion-dask purge --dry-run          # print what would be deleted
  laion-dask purge                    # delete it
  laion-dask purge --remote storage   # from a DVC remote, too
  laion-dask purge --also ../figures  # and search a folder elsewhere

It searches data/, the work folders, DVC's cache, Git's objects and MLflow's artifacts.

Build the version without the pairs first (`make repro`). Rows keep uid and outcome; images, texts, addresses,
scores and embeddings are deleted. Older versions lose the files that held the pairs: purges.json lists them
(docs/removals.md).
"""
_SHOWN: Final = 20


def purge(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Print what would be deleted; delete nothing.")] = False,  # noqa: FBT002 - a flag
    remote: Annotated[
        list[str] | None, typer.Option(metavar="NAME", help="A DVC remote to purge as well; may be repeated.")
    ] = None,
    also: Annotated[
        list[Path] | None, typer.Option(metavar="DIR", help="A folder elsewhere to search; may be repeated.")
    ] = None,
) -> None:
    """Purge the project of this folder."""
    from laion_dask import params
    from laion_dask.removals import purge_run
    from laion_dask.removals.purge_project import Project

    home = Path(os.environ.get("LAION_DASK_HOME") or ".laion_dask")
    with console.report_errors("purge"):
        settings = params.load()
        if not Path("data").is_dir():
            console.say(
                "purge: nothing is built here (there is no data/), so only DVC's cache, work folders and Git's objects "
                "can hold removed pairs. To purge a version, restore it first: `dvc pull`, or `make repro`",
                err=True,
            )
        project = Project.open(Path(), Path("data"), home, settings, tuple(also or ()))
        result = purge_run.run(
            project,
            remote or (),
            dry_run=dry_run,
            tell=lambda preview: _show_preview(preview, dry_run=dry_run),
            say=console.say,
        )
        if result is None:
            return
        _show_result(project, result)
    left, unread = result.left, result.scan.seen.unread
    if left:
        message = f"{len(left)} files still hold traces: {', '.join(left[:_SHOWN])}"
        remedy = "inspect and delete them, then purge again"
        if any(" object " in name for name in left):
            remedy += "; remove committed content with `git filter-repo` and `git gc --prune=now`"
        console.fail(f"purge: {message}. Remedy: {remedy}")
    if unread:
        causes = "; ".join(f"{name}: {why}" for name, why in list(unread.items())[:_SHOWN])
        message = f"purge: {len(unread)} files cannot be read, so nothing is proved: {causes}"
        console.fail(f"{message}. Remedy: repair them, delete them or move them out of the project, then purge again")


def _show_preview(preview: PurgePreview, *, dry_run: bool) -> None:
    planned, scan = preview.plan, preview.scan
    verb = "would be" if dry_run else "is"
    traces = planned.traces
    found = f"{len(traces.urls):,} addresses, {len(traces.pictures):,} stored images"
    console.say(f"{len(traces.uids):,} removed pairs: {found}")
    rows = console.table("Files that hold them", "action", "file", "why", wide="file")
    deletions = [(f"{verb} rewritten", str(path), planned.why[path]) for path in planned.rewrite]
    deletions += [(f"{verb} deleted", str(path), planned.why[path]) for path in planned.delete]
    deletions += [(f"{verb} deleted", path, one["why"]) for _, path, one in preview.remotes]
    # What the user has to decide comes first, before the long list of deletions.
    decisions = [("is left to you", str(path), why) for path, why in planned.left.items()]
    decisions += [("is left to you", name, why) for name, why in scan.objects.items()]
    decisions += [("cannot be read", name, why) for name, why in scan.seen.unread.items()]
    shown = [*decisions[: _SHOWN // 2], *deletions][:_SHOWN]
    for row in shown:
        rows.add_row(*row)
    if shown:
        console.console().print(rows)
    else:
        console.say("no file holds them")
    more = len(decisions) + len(deletions) - len(shown)
    if more > 0:
        console.say(f"and {more:,} more; purges.json lists all deletions" if not dry_run else "and more")


def _show_result(project: Project, result: PurgeResult) -> None:
    seen = result.scan.seen
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in seen.kinds.most_common())
    console.say(
        f"scan: {seen.files:,} files, {console.short(seen.bytes, 'B')}, {seen.members:,} files inside them, "
        f"{result.scan.git_objects:,} objects of Git ({kinds}); {len(result.left):,} hold a trace, "
        f"{len(seen.unread):,} cannot be read"
    )
    for name in project.tables.without:
        console.say(f"version {name}: some of its tables are not in the cache, so pairs that only it had are unknown")
    for name, why in sorted(result.not_searched.items()):
        console.say(f"not searched: {name}: {why}")
    summary = {"scanned": seen.files, "bytes": seen.bytes, "left": result.left, "unread": seen.unread}
    console.say(json.dumps(summary))
