"""Stage report: write one page with its figures, and record the version as one run in MLflow."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laion_dask.params import Params
from laion_dask.report import part, reference, timeline, tracking
from laion_dask.report.origin import drawing, headline, parent
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
    inputs = part.metrics_files(_METRICS)
    inputs += sorted(reference.FOLDER.glob("*.csv"))
    values = settings.model_dump(mode="json")
    version = identity.version(_LOCK, _METRICS, values)
    recipe = identity.Origin(Path.cwd(), "").recipe(values)
    args = {
        "data": _DATA,
        "metrics": _METRICS,
        "settings": settings,
        "digests": digests,
        "version": version,
        "recipe": recipe,
        "project": Path.cwd(),
    }
    return [Part("report", digest(settings, digests, version, recipe, against, *inputs), args, redo=not digests)]


def log(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish page and metrics, draw the two files that the page shows, and record the version in MLflow once."""
    parts.publish_files(done, out)
    counts = part.read_metrics(_METRICS) | {"report": done[0].counts}
    headline.write(_METRICS, counts)
    digests, values = identity.dataset_digests(_LOCK), settings.model_dump(mode="json")
    timeline.write(_DATA, _METRICS, digests)
    drawing.write(_DATA, _METRICS, digests, parent.read(_LOCK, _METRICS, values, _DATA, counts))
    tracking.log_version(
        report=out,
        metrics=_METRICS,
        values=values,
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
