"""`laion-dask verify`: check the folder of a release, and print each file that differs from the manifest."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from laion_dask.cli import console as cli_console
from laion_dask.cli.runs import against_lock
from laion_dask.storage import printable

if TYPE_CHECKING:
    from laion_dask.release.manifest import Finding

HELP: Final = """Check a release, or a copy of it, against its manifest; works offline.

\b
  laion-dask verify data/release
  # and that it has the Merkle root that its author has published:
  laion-dask verify copy --root "$ROOT"
  # and prove that this pair is in it, or not:
  laion-dask verify copy --uid 8a1a06af6d9cf6dcbe8e4f7f0c0f1d2b
  # any folder: that no picture has EXIF, GPS, XMP or text:
  laion-dask verify data --metadata
  # a project: that each stage wrote what dvc.lock of HEAD says, or why not:
  laion-dask verify --against-lock

Names each file that differs, is missing or is extra, and ends with status 1. With --against-lock: 0 if all stages are
equal, 1 if one differs, 2 if one was not built here.
"""


def verify(
    folder: Annotated[Path | None, typer.Argument(metavar="DIR", help="Folder of the release.")] = None,
    root: Annotated[
        str | None, typer.Option(metavar="HEX", help="Merkle root that the version must have, known from elsewhere.")
    ] = None,
    uid: Annotated[
        str | None, typer.Option(metavar="UID", help="Print the proof that this uid is in the version, or is not.")
    ] = None,
    purges: Annotated[
        Path | None,
        typer.Option(metavar="FILE", help="purges.json: purged files are listed, but are no difference."),
    ] = None,
    metadata: Annotated[  # noqa: FBT002 - a flag
        bool,
        typer.Option("--metadata", help="Search for metadata of pictures instead, also in tars, tables and pages."),
    ] = False,
    against: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--against-lock", help="Compare the project in this folder with dvc.lock, stage by stage.")
    ] = False,
    rev: Annotated[
        str, typer.Option(metavar="REV", help="With --against-lock: whose dvc.lock; `workspace`: the file as it is.")
    ] = "HEAD",
    record: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--record", help="With --against-lock: if equal, add this machine to reproduced.json.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Print what was found as JSON.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Print the differences."""
    if against:
        if folder is not None:
            cli_console.fail("verify: --against-lock takes no DIR. Remedy: run it in the project's folder", 2)
        if root or uid or purges or metadata:
            cli_console.fail("verify: --root, --uid, --purges, --metadata are for a DIR. Remedy: leave them out", 2)
        against_lock.verify(rev, record=record, as_json=as_json)
    elif rev != "HEAD" or record:
        cli_console.fail("verify: --rev and --record are for --against-lock. Remedy: add it, or leave them out", 2)
    elif folder is None:
        cli_console.fail("verify: DIR is missing. Remedy: give the folder of a release, or --against-lock", 2)
    elif metadata:
        _without_metadata(folder)
    else:
        _release(folder, root, uid, purges, as_json=as_json)


def _release(folder: Path, root: str | None, uid: str | None, purges: Path | None, *, as_json: bool) -> None:
    """Check a release against its manifest."""
    from laion_dask.release import manifest, merkle

    with cli_console.report_errors("verify"):
        known = manifest.read(folder)
        findings = _check(folder)
        merkle_root = known.get("merkle", {}).get("root", "")
        if root is not None and root.lower() != merkle_root:
            detail = f"the manifest has {merkle_root or 'none'}, {root} was given"
            findings.append(manifest.Finding("the Merkle root", "uids differ", detail))
        if purges is not None:
            findings = _without_purged(findings, known["files"], purges)
        proof = merkle.prove(uid, lambda: manifest.uids(folder)) if uid is not None else None
    if as_json:
        found = [{"path": one.path, "what": one.what, "detail": one.detail} for one in findings]
        answer = {"files": len(known["files"]), "root": merkle_root, "findings": found}
        cli_console.say(json.dumps(answer | ({"proof": proof.as_dict()} if proof else {}), indent=2))
    else:
        for one in findings:
            cli_console.say(printable.line(f"{one.path}: {one.what}: {one.detail}"))
        if proof:
            cli_console.say(json.dumps(proof.as_dict(), indent=2))
    if findings:
        cli_console.fail(f"verify: {folder} differs from its manifest: {len(findings)} differences")
    if not as_json:
        pairs = f"{known['merkle']['leaves']:,} pairs, Merkle root {merkle_root}" if merkle_root else "no Merkle root"
        cli_console.say(f"verify: {len(known['files'])} files match {folder / manifest.NAME}; {pairs}")


def _without_metadata(folder: Path) -> None:
    """Print each picture that has metadata, except in archives of responses."""
    from laion_dask.images import metadata

    if not folder.exists():
        cli_console.fail(f"verify: {folder} does not exist. Remedy: give an existing folder or file")
    found = metadata.scan(folder)
    for one in found.found:
        cli_console.say(printable.line(f"{one.file}: {one.place or 'the file'}: {one.what}"))
    archives = f"; {len(found.archives):,} archives were not searched" if found.archives else ""
    if found.found:
        cli_console.fail(f"verify: {len({(one.file, one.place) for one in found.found}):,} carry metadata{archives}")
    cli_console.say(f"verify: {found.pictures:,} pictures in {found.files:,} files carry no metadata{archives}")


def _check(folder: Path) -> list[Finding]:
    """Check the manifest, with a progress bar on a terminal."""
    from rich.console import Console
    from rich.progress import Progress

    from laion_dask.release import manifest

    console = Console(stderr=True)
    with Progress(console=console, transient=True, disable=not console.is_terminal) as bar:
        task = bar.add_task("reading", total=manifest.size(folder))
        return manifest.check(folder, lambda read: bar.advance(task, read))


def _without_purged(findings: list[Finding], files: dict[str, dict[str, str]], purges: Path) -> list[Finding]:
    """List the purged files, and return the other findings.

    If a file of the main table was purged, its root can no longer be computed, which is no finding either.
    """
    deleted = {one["sha256"] for purge in json.loads(purges.read_bytes()) for one in purge["files"] + purge["objects"]}
    purged = {one.path for one in findings if one.path in files and files[one.path]["sha256"] in deleted}
    for path in sorted(purged):
        cli_console.say(printable.line(f"{path}: purged, see {purges}"), err=True)
    main = any("/" not in path for path in purged)
    return [one for one in findings if one.path not in purged and not (main and one.path == "the main table")]
