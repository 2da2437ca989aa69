"""`laion-dask cluster`: show which cluster each stage gets, open it, try it with tiny parts, and end it."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Final

import typer

from laion_dask.cli import console

if TYPE_CHECKING:
    from laion_dask.cluster.settings import Settings
    from laion_dask.workers.pool import Pool

HELP: Final = """Show which Dask cluster each stage gets, open that of one stage, try it with tiny parts, and end it.

\b
  laion-dask cluster                  # that of all stages
  laion-dask cluster score            # that of the stage score
  laion-dask cluster --settings       # only show the settings, open nothing

The first thing to run on a new site. Each worker has to pass the handshake: it sees the folder of work, has this
project's code and libraries, and is told what it must not do. Ends with status 1 where a worker is refused.

The settings are Dask configuration, in ~/.config/dask/laion-dask.yaml or the environment:

\b
  # a scheduler that runs, by its address or its file:
  DASK_LAION_DASK__CLUSTER__KIND=tcp://scheduler:8786
  DASK_LAION_DASK__CLUSTER__KIND=scheduler.json
  # jobs of Slurm (PBS, SGE, LSF, OAR and HTCondor alike):
  DASK_LAION_DASK__CLUSTER__KIND=dask_jobqueue.SLURMCluster
  # how many workers to start, for all stages and for one:
  DASK_LAION_DASK__CLUSTER__WORKERS=20
  DASK_LAION_DASK__CLUSTER__DOWNLOAD__WORKERS=4

docs/cluster.md has complete examples.
"""

# As in workflow/: these stages load networks.
_GPU_STAGES: Final = ("score", "translate", "caption")


def cluster(
    stage: Annotated[
        str | None, typer.Argument(metavar="[STAGE]", help="Whose cluster; default: without those of single stages.")
    ] = None,
    only_settings: Annotated[bool, typer.Option("--settings", help="Only show the settings.")] = False,  # noqa: FBT002 - a flag
) -> None:
    """Print what each stage gets and what came of trying it."""
    from laion_dask.cluster import settings as known

    with console.report_errors("cluster"):
        if stage is not None and stage not in known.STAGES:
            console.fail(f"cluster: {stage!r} is no stage. Remedy: use {', '.join(known.STAGES)}")
        console.console().print(_table(known.STAGES))
        if not only_settings:
            _try(stage)


def _table(stages: tuple[str, ...]) -> object:
    """Return a table with a row for each group of stages that have equal settings."""
    from laion_dask.cluster import local, settings

    groups: dict[tuple[str, ...], list[str]] = {}
    for name in stages:
        found = settings.settings(name)
        kind = found.kind
        if kind == "auto":
            kind = "cuda (auto)" if name in _GPU_STAGES and local.visible_gpus() else "local (auto)"
        own = found.form == "own"
        default = (
            str(local.visible_gpus() if kind.startswith("cuda") else settings.cores()) if own else "those that join"
        )
        workers = f"adapt {dict(found.adapt)}" if found.adapt is not None else str(found.workers or default)
        asked = ", ".join(f"{key}: {amount:g}" for key, amount in found.resources.items()) or "none"
        groups.setdefault((kind, workers, asked, _patience(found)), []).append(name)
    rows = console.table("What the stages get", "stages", "kind", "workers", "resources", "patience", wide="stages")
    for (kind, *others), names in groups.items():
        rows.add_row("all" if len(names) == len(stages) else ", ".join(names), kind, *others)
    return rows


def _patience(found: Settings) -> str:
    from laion_dask.storage.durations import duration

    return duration(found.patience_s)


def _try(stage: str | None) -> None:
    from laion_dask.cluster.kinds import open_client
    from laion_dask.runner.probe import try_out
    from laion_dask.runner.progress import Progress
    from laion_dask.runner.stage import home
    from laion_dask.workers.pool import open_pool

    folder = home()
    made = [path for path in (folder, *folder.parents) if not path.exists()]
    folder.mkdir(parents=True, exist_ok=True)
    progress = Progress(stage or "cluster", "tiny")
    began = time.monotonic()
    try:
        with open_client(stage, gpu=stage in _GPU_STAGES) as client:
            console.say(f"opened in {time.monotonic() - began:.1f} s")
            with open_pool(client, folder, progress.stage, progress.say, gpu=stage in _GPU_STAGES) as pool:
                _print_places(pool, folder)
                tried = try_out(pool, folder, progress)
                rows = console.table(
                    f"{len(tried.members)} workers may work", "worker", "host", "process", "set there", wide="set there"
                )
                for one in tried.members:
                    rows.add_row(one.address, one.host, str(one.pid), ", ".join(one.changed) or "nothing")
                console.console().print(rows)
                console.say(
                    f"tiny parts: the first was finished after {tried.first_s:.1f} s; the driver has read all files, "
                    f"of {', '.join(tried.ran_on)}"
                )
        console.say("ended")
    finally:
        _remove_empty(made)
    if tried.refused:
        console.fail(f"cluster: {len(tried.refused)} workers are refused, for the reasons above")


def _print_places(pool: Pool, folder: Path) -> None:
    client = pool.client
    about = client.scheduler_info(n_workers=0)
    console.say(f"scheduler: {about['address']}")
    link = client.dashboard_link if about.get("services", {}).get("dashboard") and pool.settings.form != "own" else None
    if pool.settings.dashboard:
        link = client.dashboard_link
    console.say(f"dashboard: {link or 'none'}")
    console.say(f"servers of this driver would listen on: {pool.driver_host()}")
    console.say(f"folder that workers have to see: {folder}")


def _remove_empty(made: list[Path]) -> None:
    """Remove the folders that were made here, where nothing has been put into them."""
    for path in made:
        if path.is_dir() and not any(path.iterdir()):
            path.rmdir()
