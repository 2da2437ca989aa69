"""Stage report: write one page with its figures, and record the version as one run in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laion_dask.params import Params
from laion_dask.report import part, reference, timeline, tracking
from laion_dask.runner import parts
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Stage
from laion_dask.storage.files import digest
from laion_dask.versions import checkout, identity
from workflow.program import main

_DATA = Path("data")
_LOCK = Path("dvc.lock")
_METRICS = Path("metrics")


def page(settings: Params, _: Resources) -> list[Part]:
    """One part, since the page shows the whole version."""
    digests = identity.dataset_digests(_LOCK)
    # A name may later stand for another commit, and a folder hold another release, so the key has what it means now.
    against = checkout.identity(settings.report.against) if settings.report.against else ""
    inputs = [path for path in sorted(_METRICS.glob("*.json")) if path.stem != "report"]
    inputs += sorted(reference.FOLDER.glob("*.csv"))
    args = {
        "data": _DATA,
        "metrics": _METRICS,
        "settings": settings,
        "digests": digests,
        "project": Path.cwd(),
    }
    return [Part("report", digest(settings, digests, against, *inputs), args, redo=not digests)]


def log(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the page, draw the timeline that it shows, and record the version in MLflow, once for each version."""
    parts.publish_files(done, out)
    timeline.write(_DATA, _METRICS, identity.dataset_digests(_LOCK))
    tracking.log_version(
        report=out,
        metrics=_METRICS,
        values=settings.model_dump(mode="json"),
        lock=_LOCK,
        experiment=settings.report.experiment,
        uri=None,
        release=_DATA / "release",
        data=_DATA,
    )
    return {}


STAGE = Stage(name="report", unit="figures", find_parts=page, function=part.write, publish=log)

if __name__ == "__main__":
    main(STAGE)
