"""All recipes in, a table of what each keeps out: on the demo, and on real WATs where a folder with them is given.

    python -m experiments.recipes_table [--work FOLDER] [--pages 3000] [--real ../shared/data] [--only NAME ...]

Each recipe runs with `demo` laid over it (the demo's CLIP under every name, its files; docs/recipes.md). A stage runs
once for all recipes that agree on its parameters and on those of the stages before it; what is finished stays in the
folder, so that a second run makes only what is missing. The table is Markdown.

130 stages run for 28 recipes, and each would start Python, Dask and open_clip anew, which takes longer than its work on
the demo. So each is a fork of one process that has them loaded, with a scheduler and a worker inside.
"""

from __future__ import annotations

import argparse
import functools
import json
import multiprocessing
import os
import shutil
import sys
from collections.abc import Callable, Mapping, Sequence
from importlib import import_module
from pathlib import Path
from typing import Any, Final

import dask
from ruamel.yaml import YAML

from laion_dask import params
from laion_dask.params import recipes
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import NEW_TEXTS
from laion_dask.storage.files import digest
from workflow.program import main as stage_main

ROOT: Final = Path(__file__).parents[1]
STAGES: Final = ("crawl", "extract", "catalog", "download", "score", "group", "filter")
WRITING: Final = ("translate", "caption")
"""Stages that follow for recipes that write new texts."""
OVERLAY: Final = "demo"
# Pages, texts and images lie in one WARC each (shared/data/README.md).
REAL: Final = ("aut__example", "node-warc__books.toscrape", "ukwa__main-page")

Change = Callable[[dict[str, Any]], None]


class RecipesTableError(Exception):
    """A stage failed for a recipe; the message has both, and what the stage said."""


def values(name: str, change: Change) -> dict[str, Any]:
    """Return the parameters of a recipe on the demo, with a change of its crawl."""
    base = params.load(ROOT / "params.yaml").model_dump(mode="json")
    laid = recipes.apply(f"{name} {OVERLAY}", base)
    change(laid)
    return params.parse(laid, f"recipe {name!r}").model_dump(mode="json")


def demo(pages: int) -> Change:
    """Return the change to a demo crawl of so many pages."""

    def change(laid: dict[str, Any]) -> None:
        laid["crawl"] |= {"demo_pages": pages, "demo_wats": max(2, pages // 125)}

    return change


def real(folder: Path) -> Change:
    """Return the change to the real WATs of a folder and the WARCs beside them."""
    wats = [str((folder / "wat_derived" / f"{name}.warc.wat.gz").resolve()) for name in REAL]
    warcs = [path for path in sorted((folder / "warc_real").iterdir()) if path.name.split(".warc")[0] in REAL]

    def change(laid: dict[str, Any]) -> None:
        laid["crawl"] |= {"source": "files", "files": wats}
        laid["catalog"]["buckets"] = 1
        laid["download"]["warcs"] = [str(path.resolve()) for path in warcs]
        # The demo's own list lies in its crawl.
        laid["catalog"]["lists"] = []

    return change


def run(laid: Mapping[str, Any], work: Path, stages: Sequence[str] | None = None) -> dict[str, Any]:
    """Run the stages from crawl to filter, or these, as far as they are not there yet; return the counts of each."""
    key, counts = "", {}
    outs: dict[str, Path] = {}
    for stage in stages or STAGES:
        key = digest(key, laid[stage], laid["catalog"])
        place = work / f"{stage}-{key}"
        if not (place / "metrics.json").is_file():
            _stage(stage, laid, outs, place, work)
        outs[stage] = place
        counts[stage] = json.loads((place / "metrics.json").read_text())
    return counts


def _stage(stage: str, laid: Mapping[str, Any], outs: Mapping[str, Path], place: Path, work: Path) -> None:
    """Run one stage in a project folder of its own, whose earlier outs are links, and move its out to its place."""
    project = work / "project"
    shutil.rmtree(project, ignore_errors=True)
    shutil.rmtree(place, ignore_errors=True)
    (project / "data").mkdir(parents=True)
    (project / "metrics").mkdir()
    (project / "experiments").symlink_to(ROOT / "experiments")
    shutil.copy(ROOT / "removals.csv", project)
    YAML(typ="safe", pure=True).dump(dict(laid), project / "params.yaml")
    for name, out in outs.items():
        (project / "data" / name).symlink_to(out / "out")
        shutil.copy(out / "metrics.json", project / "metrics" / f"{name}.json")
    told = work / "project.log"
    process = _forks().Process(target=_alone, args=(stage, project, told))
    process.start()
    process.join()
    if process.exitcode:
        raise RecipesTableError(f"{stage}, {', '.join(laid['recipe'])}: {told.read_text()[-2_000:]}")
    place.mkdir(parents=True)
    (project / "data" / stage).rename(place / "out")
    # Written last: it says that the stage is complete.
    (project / "metrics" / f"{stage}.json").rename(place / "metrics.json")


@functools.cache
def _forks() -> multiprocessing.context.ForkServerContext:
    """Return what starts processes that have everything loaded that a stage loads."""
    # As in the workers of a stage's own cluster; read when torch is loaded.
    os.environ["OMP_NUM_THREADS"] = "1"
    forks = multiprocessing.get_context("forkserver")
    ours = [f"workflow.{stage}" for stage in (*STAGES, *WRITING)]
    forks.set_forkserver_preload([*ours, "distributed", "torch", "open_clip"])
    return forks


def _alone(stage: str, project: Path, told: Path) -> None:
    """Run one stage in this process, scheduler and worker too; what it says goes to a file, an error to the status."""
    from distributed import LocalCluster  # noqa: PLC0415 - loaded in the fork server

    with told.open("w") as file:
        os.dup2(file.fileno(), sys.stdout.fileno())
        os.dup2(file.fileno(), sys.stderr.fileno())
    os.chdir(project)
    with LocalCluster(n_workers=1, threads_per_worker=1, processes=False, dashboard_address=None) as cluster:
        dask.config.set({"laion-dask.cluster.kind": cluster.scheduler_address})
        stage_main(import_module(f"workflow.{stage}").STAGE)


def row(name: str, counts: Mapping[str, Any]) -> str:
    """Return one line of the table."""
    links, pairs, images = (counts[stage][unit]["kept"] for stage, unit in (
        ("extract", "links"), ("catalog", "pairs"), ("download", "images")))  # fmt: skip
    ledger = Ledger.from_dict(counts["filter"]["pairs"])
    share = f"{ledger.kept / ledger.seen:.1%}" if ledger.seen else "-"
    most = ", ".join(f"{reason} {rows:,}" for reason, rows in ledger.dropped.most_common(3))
    return f"| `{name}` | {links:,} | {pairs:,} | {images:,} | {ledger.kept:,} | {share} | {most or '-'} |"


def table(names: Sequence[str], change: Change, work: Path) -> list[str]:
    """Return the table of these recipes, in Markdown."""
    lines = [
        "| recipe | pairs extracted | to download | images | kept | of images | what drops most |",
        "|---|---|---|---|---|---|---|",
    ]
    for name in names:
        lines.append(row(name, run(values(name, change), work)))
        sys.stderr.write(f"{lines[-1]}\n")
    return lines


def texts_table(names: Sequence[str], change: Change, work: Path) -> list[str]:
    """Return the table of new texts of those recipes that write some, in Markdown."""
    lines = ["| recipe | kept | new texts | without, by reason |", "|---|---|---|---|"]
    for name in names:
        laid = values(name, change)
        writing = [stage for stage in WRITING if laid[stage] is not None]
        counts = run(laid, work, (*STAGES, *writing)) if writing else {}
        for stage, unit in NEW_TEXTS:
            if stage in counts:
                ledger = Ledger.from_dict(counts[stage][unit])
                reasons = ", ".join(f"{reason} {rows:,}" for reason, rows in ledger.dropped.most_common())
                lines.append(f"| `{name}` | {ledger.seen:,} | {ledger.kept:,} {unit} | {reasons or '-'} |")
    return lines


def main() -> None:
    """Read the arguments and print the tables."""
    arguments = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    arguments.add_argument("--work", type=Path, default=ROOT / ".bench" / "recipes")
    arguments.add_argument("--pages", type=int, default=3000)
    arguments.add_argument("--real", type=Path, help="a folder with wat_derived and warc_real")
    arguments.add_argument("--only", nargs="*", default=[name for name in recipes.names() if name != OVERLAY])
    given = arguments.parse_args()
    work = given.work.resolve()
    work.mkdir(parents=True, exist_ok=True)
    lines = [f"On the demo, {given.pages:,} pages:", "", *table(given.only, demo(given.pages), work)]
    lines += ["", "New texts on the demo:", "", *texts_table(given.only, demo(given.pages), work)]
    if given.real:
        lines += ["", f"On {len(REAL)} real WATs and WARCs:", "", *table(given.only, real(given.real), work)]
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
