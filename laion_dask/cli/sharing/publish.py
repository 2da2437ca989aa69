"""`laion-dask publish`: prepare a version for the Hugging Face hub or Zenodo, and upload it to the hub."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from laion_dask.cli import console

if TYPE_CHECKING:
    from laion_dask.params import Release
    from laion_dask.release.manifest import Made

app = typer.Typer(
    no_args_is_help=True, help="Publish the version of this folder: on the Hugging Face hub, or at Zenodo."
)

_METRICS = Path("metrics")
_RELEASE = Path("data/release")


@app.command()
def hub(
    repository: Annotated[str, typer.Argument(metavar="OWNER/NAME", help="Dataset repository on the hub.")],
    out: Annotated[Path, typer.Option(metavar="DIR", help="Folder to prepare.")] = Path("hub"),
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Prepare the folder, and upload nothing.")] = False,  # noqa: FBT002 - a flag
    private: Annotated[bool, typer.Option("--private", help="Create the repository as a private one.")] = False,  # noqa: FBT002 - a flag
    overwrite: Annotated[bool, typer.Option("--overwrite", help="Replace DIR.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Prepare links and texts as a dataset repository, and upload it. No image leaves the machine.

    The folder has the main table for the hub's viewer, the card with a configuration for each split, Croissant,
    citation and digests. Log in with `hf auth login` before.
    """
    from laion_dask.release import rate_lines
    from laion_dask.share import hub as to_hub

    with console.report_errors("publish"):
        to_hub.check_name(repository)
        if out.exists() and any(out.iterdir()) and not overwrite:
            console.fail(f"publish: {out} is not empty. Remedy: --overwrite replaces it, or --out with another folder")
        made = _made()
        settings = made.settings
        if unset := _unset(settings.release):
            if not dry_run:
                console.fail(f"{unset}. Remedy: set them in params.yaml, then `dvc repro`")
            console.say(unset, err=True)
        fresh = out.with_name(f".{out.name}.new")
        shutil.rmtree(fresh, ignore_errors=True)
        try:
            prepared = to_hub.prepare(_RELEASE, fresh, made, rate_lines.measure(Path("data"), settings.filter))
            shutil.rmtree(out, ignore_errors=True)
            fresh.rename(out)
        finally:
            shutil.rmtree(fresh, ignore_errors=True)
        size = console.short(prepared.bytes, "B")
        console.say(
            f"publish: {prepared.rows:,} pairs, {prepared.files} files, {size} in {out}, Merkle root {prepared.root}"
        )
        if dry_run:
            console.say(f"publish: nothing was uploaded; without --dry-run {out} goes to {repository}")
            return
        from huggingface_hub import HfApi

        address = to_hub.upload(out, repository, settings.release.version, private=private, api=HfApi())
        console.say(f"publish: {address}")


@app.command()
def zenodo(
    out: Annotated[Path, typer.Option(metavar="FILE", help="File to write.")] = Path("zenodo.json"),
) -> None:
    """Write the metadata of a deposit at Zenodo; docs/share.md has the commands that make one."""
    from laion_dask import params
    from laion_dask.release import croissant
    from laion_dask.share import citation

    with console.report_errors("publish"):
        described = _RELEASE / croissant.NAME
        if not described.is_file():
            console.fail(f"publish: {described} is missing. Remedy: `make repro`, or `dvc checkout` the version")
        published = str(json.loads(described.read_text())["datePublished"])
        release = params.load().release
        if unset := _unset(release):
            console.say(f"{unset}. Set them in params.yaml before you publish the deposit", err=True)
        body = citation.zenodo(release, published)
        out.write_text(json.dumps(body, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        console.say(f"publish: {out}")


def _unset(release: Release) -> str:
    """Say which parameters of the release are still the demo's; "" if none."""
    from laion_dask.share import hub as to_hub

    missing = to_hub.placeholders(release)
    return f"publish: these tell nobody who is responsible: {'; '.join(missing)}" if missing else ""


def _made() -> Made:
    """Collect what the release was made of."""
    from laion_dask import params
    from laion_dask.release import publication
    from laion_dask.report import part

    counts = part.read_metrics(_METRICS)
    if "release" not in counts or not (_RELEASE / "manifest.json").is_file():
        console.fail(f"publish: {_RELEASE} has no release. Remedy: `make repro`, or `dvc checkout` the version")
    return publication.gather(Path("data"), params.load(), counts)
