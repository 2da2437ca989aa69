"""`laion-dask purge`: delete what is stored of removed pairs, and print what was found and what is proved."""

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
    """Purge the project of this folder."""
    from laion_dask import params
    from laion_dask.removals import purge_run
    from laion_dask.removals.purge_project import Project

    home = Path(os.environ.get("LAION_DASK_HOME") or ".laion_dask")
    with console.told("purge"):
        project = Project.open(Path(), Path("data"), home, params.load(), tuple(also or ()))
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
        remedy = "see what they are, delete them, then purge again"
        if any(" object " in name for name in left):
            remedy += "; what was committed goes with `git filter-repo` and `git gc --prune=now`"
        console.fail(f"purge: {message}. Remedy: {remedy}")
    if unread:
        causes = "; ".join(f"{name}: {why}" for name, why in list(unread.items())[:_SHOWN])
        message = f"purge: {len(unread)} files cannot be read, so nothing is proved: {causes}"
        console.fail(f"{message}. Remedy: mend them, delete them or take them out of the project, then purge again")


def _show_preview(preview: PurgePreview, *, dry_run: bool) -> None:
    planned, scan = preview.plan, preview.scan
    verb = "would be" if dry_run else "is"
    gone = planned.traces
    console.say(f"{len(gone.uids):,} removed pairs: {len(gone.urls):,} addresses, {len(gone.pictures):,} stored images")
    rows = console.table("What holds them", "what happens", "file", "why", wide="file")
    rows_gone = [(f"{verb} written anew", str(path), planned.why[path]) for path in planned.rewrite]
    rows_gone += [(f"{verb} deleted", str(path), planned.why[path]) for path in planned.delete]
    rows_gone += [(f"{verb} deleted", path, one["why"]) for _, path, one in preview.remotes]
    # What only the user can decide comes first, before the long list of what is deleted.
    yours = [("is left to you", str(path), why) for path, why in planned.left.items()]
    yours += [("is left to you", name, why) for name, why in scan.objects.items()]
    yours += [("cannot be read", name, why) for name, why in scan.seen.unread.items()]
    shown = [*yours[: _SHOWN // 2], *rows_gone][:_SHOWN]
    for row in shown:
        rows.add_row(*row)
    console.console().print(rows)
    more = len(yours) + len(rows_gone) - len(shown)
    if more > 0:
        console.say(f"and {more:,} more; all that is deleted stands in purges.json" if not dry_run else "and more")


def _show_result(project: Project, result: PurgeResult) -> None:
    seen = result.scan.seen
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in seen.kinds.most_common())
    console.say(
        f"scan: {seen.files:,} files, {console.short(seen.bytes, 'B')}, {seen.members:,} files inside of them, "
        f"{result.scan.git_objects:,} objects of Git ({kinds}); {len(result.left):,} hold a trace, "
        f"{len(seen.unread):,} cannot be read"
    )
    for name in project.tables.without:
        console.say(f"version {name}: some of its tables are not in the cache, so pairs only it had are not known")
    for name, why in sorted(result.not_searched.items()):
        console.say(f"not looked into: {name}: {why}")
    told = {"scanned": seen.files, "bytes": seen.bytes, "left": result.left, "unread": seen.unread}
    console.say(json.dumps(told))
