"""Choose the numbers of a version for MLflow: a few with short names, the others in a table.

MLflow draws a chart for each metric, cuts long titles, sorts by name, and takes what stands before a slash as a
section. So what people compare first has a short name without a slash; every number of the version is in
`tables/numbers.csv`.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from laion_dask.schema.reasons import FUNNEL, NEW_TEXTS, REASONS
from laion_dask.statistics import new_texts, rates, waves
from laion_dask.versions import identity, linkrot

MOST: Final = 150
"""Metrics that a run may have."""
_OF_TIMES: Final = 30
"""Of these, what curves and the times of the stages may take."""
NUMBERS: Final = "numbers.csv"
"""The artifact below `tables/` with every number of the version by its name."""
_CRAWLS: Final = 6
"""The latest crawls, whose counts a run has as metrics."""
# MLflow's comparison shows seven metrics without scrolling, sorted by name: these come first, in pipeline order.
HEADLINE: Final[Mapping[str, str]] = {
    "1 links": "extract.links.seen",
    "2 downloaded": "filter.pairs.seen",
    "3 kept": "kept.all",
    "4 unsafe kept": "safety.unsafe_of_kept.all.rate",
    "5 watermark kept": "safety.watermark_of_kept.all.rate",
    "6 precision": "truth.keep.precision",
    "7 recall": "truth.keep.recall",
    "kept en": "kept.en",
    "kept multi": "kept.multi",
    "kept nolang": "kept.nolang",
}
_NAME: Final = re.compile(r"[^\w\-. :/]")
_ALL: Final = ".all.rate"
_PERCENT: Final = 100
_DIGITS: Final = 4
"""Of a share, as a metric has it."""


def of_version(report: Path, metrics: Path) -> dict[str, float]:
    """Return the metrics of a run: the headline, and sections that MLflow folds.

    `funnel/<stage> seen|kept`, `dropped/<reason>`, `safety/<name>`, `texts/<stage> …`, `linkrot/<class>` and, of the
    latest crawls, `waves/<crawl> pairs|new|repeated|kept`. The names are the same in every version; a reason that did
    not occur is absent. Where there are more than `MOST`, the rarest reasons are left out.
    """
    numbers = every_number(report, metrics)
    found = {name: numbers[key] for name, key in HEADLINE.items() if key in numbers}
    for stage, ledger in (*FUNNEL, *NEW_TEXTS):
        for what in ("seen", "kept"):
            if (key := f"{stage}.{ledger}.{what}") in numbers:
                found[f"funnel/{stage} {what}"] = numbers[key]
    for name, value in numbers.items():
        if name.startswith("safety.") and name.endswith(_ALL):
            found[f"safety/{name.removeprefix('safety.').removesuffix(_ALL)}"] = value
        elif name.startswith("linkrot.") and name.count(".") == 2 and name.endswith(".rate"):
            found[f"linkrot/{name.split('.')[1]}"] = value
        elif name.startswith("texts."):
            found[f"texts/{name.removeprefix('texts.').replace('.', ' ')}"] = value
    if (report / waves.NAME).is_file():
        for wave in waves.read(report / waves.NAME)[-_CRAWLS:]:
            found |= {name_of(f"waves/{wave.crawl} {name}"): float(getattr(wave, name)) for name in waves.METRICS}
    dropped = {
        f"dropped/{reason}": numbers[f"{stage}.{ledger}.dropped.{reason}"]  # a reason belongs to one stage
        for stage, ledger in (*FUNNEL, *NEW_TEXTS)
        for reason in REASONS.get(stage, {})
    }
    most = sorted((-rows, name) for name, rows in dropped.items() if rows)[: MOST - _OF_TIMES - len(found)]
    found |= {name: -rows for rows, name in most}
    # A column of MLflow's table shows six characters; the table of every number has all digits.
    return {name: value if value == int(value) else float(f"{value:.{_DIGITS}g}") for name, value in found.items()}


def curves(report: Path) -> dict[str, list[tuple[int, float]]]:
    """Return for each split how many scored pairs have at least a similarity, by 100 times the similarity as step.

    They are what a threshold of that split would keep of all pairs that have a similarity.
    """
    statistics = json.loads((report / "statistics.json").read_text(encoding="utf-8"))
    found = {}
    for of_split in statistics["similarity"]:
        counts = [kept + dropped for kept, dropped in zip(of_split["kept"], of_split["dropped"], strict=True)]
        above, points = sum(counts), []
        for edge, count in zip(of_split["edges"], counts, strict=False):
            points.append((round(edge * _PERCENT), float(above)))
            above -= count
        found[f"curves/{of_split['split']}"] = points  # a longer name is cut in a chart's title
    return found


def every_number(report: Path, metrics: Path) -> dict[str, float]:
    """Return every number by a name that is the same in every version.

    `<stage>.<ledger>.seen|kept|dropped.<reason>` with zeros for reasons that did not occur, other counts of the stages,
    `safety.<name>.<split>.rate|low|high`, `truth.<decision>.precision|recall`, `kept.<split>`, the names of
    `rates.metrics` and `new_texts.metrics`, of a version with several crawls those of `waves.metrics`, and after a
    comparison with an earlier download `linkrot.<class>.rate|low|high` and `linkrot.<year>.<class>.rate`.
    """
    values: dict[str, Any] = {
        f"{stage}.{ledger}.dropped.{reason}": 0
        for stage, ledger in (*FUNNEL, *NEW_TEXTS)
        for reason in REASONS.get(stage, {})
    }
    values |= dict(identity.flat(identity.stage_metrics(metrics)))
    statistics = json.loads((report / "statistics.json").read_text(encoding="utf-8"))
    for rate in statistics["safety"]:
        if rate["rate"] is not None:
            values |= {f"safety.{rate['name']}.{rate['split']}.{part}": rate[part] for part in ("rate", "low", "high")}
    values |= {f"kept.{split['split']}": split["kept"] for split in statistics["splits"]}
    values |= rates.metrics(report)
    if (report / new_texts.NAME).is_file():  # versions of earlier code have none
        values |= new_texts.metrics(report)
    if (report / waves.NAME).is_file():
        values |= waves.metrics(waves.read(report / waves.NAME))
    if (report / "linkrot.json").is_file():
        values |= linkrot.metrics(linkrot.read(report / "linkrot.json"))
    for decision in json.loads((report / "truth.json").read_text(encoding="utf-8")):
        values |= {f"truth.{decision['name']}.{part}": decision[part] for part in ("precision", "recall")}
    return {
        name_of(name): float(value)
        for name, value in values.items()
        if isinstance(value, int | float) and not isinstance(value, bool)
    }


def name_of(name: str) -> str:
    """Return a name that MLflow takes for a metric."""
    return _NAME.sub("_", name)


def write_numbers(numbers: Mapping[str, float], path: Path) -> None:
    """Write every number of a version as a table with the columns `name` and `value`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [f"{name},{value:.12g}" for name, value in sorted(numbers.items())]
    path.write_text("\n".join(["name,value", *lines, ""]), encoding="utf-8")
