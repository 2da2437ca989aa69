"""Numbers and figures of a version in, one self-contained HTML page out, with the numbers beside it as JSON.

The page escapes every text from the web, has no links, and loads three files beside the version, which are not part
of it: where it comes from, what changed since its parent, and the timeline. Without a file the page says so.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq
from jinja2 import Environment

from laion_dask import params
from laion_dask.report import gallery, new_text_gallery, reference, report_tables, timeline, tracking
from laion_dask.report.origin import drawing
from laion_dask.report.origin import headline as dvc_metrics
from laion_dask.runner import trace_file
from laion_dask.schema import comparison
from laion_dask.schema.reasons import REASON_STAGE, REASONS
from laion_dask.schema.values import SIGNALS
from laion_dask.statistics import domain_classes, new_text_truth, new_texts, rates, summary, truth, waves
from laion_dask.statistics.summary import ALL
from laion_dask.storage import templates
from laion_dask.versions import checkout, diff, linkrot

RATE_NAMES: Final = {
    "unsafe_of_scored": "Unsafe by score",
    "watermark_of_scored": "Watermarked by score",
    "unsafe_of_kept": "Unsafe in what is kept",
    "watermark_of_kept": "Watermarked in what is kept",
    "listed_of_received": "On a list of known content",
    "listed_address_of_pairs": "Address on such a list",
    "page_opt_out_of_links": "Page opts out, of all links",
    "page_opt_out_of_attempts": "Page opts out and is asked for",
    "opt_out_of_attempts": "Host opts out, any signal",
    "opt_out_robots_of_attempts": "by robots.txt",
    "opt_out_ai_txt_of_attempts": "by ai.txt",
    "opt_out_tdmrep_of_attempts": "by tdmrep.json",
    "opt_out_rsl_of_attempts": "by RSL licence",
    "opt_out_x_robots_tag_of_attempts": "by X-Robots-Tag",
    "opt_out_tdm_reservation_of_attempts": "by tdm-reservation",
    "opt_out_content_usage_of_attempts": "by Content-Usage",
    "opt_out_content_signal_of_attempts": "by Content-Signal",
    "opt_out_crawler_price_of_attempts": "by a price for crawlers (402)",
    "opt_out_xmp_data_mining_of_attempts": "by data mining in XMP",
    "opt_out_xmp_tdm_of_attempts": "by TDM reservation in XMP",
    "opt_out_c2pa_of_attempts": "by C2PA manifest",
    "removed_of_pairs": "Removal requested",
}
_OPT_OUTS: Final = frozenset(f"opt_out_{signal}_of_attempts" for signal in SIGNALS)
"""Measures that have a row on the page only if they occur."""
# Six digits are more precise than any of these shares, and equal on every machine.
_DIGITS: Final = 6


def write(
    out: Path,
    data: Path,
    metrics: Path,
    settings: params.Params,
    digests: Mapping[str, str],
    project: Path = Path(),
    version: str = "",
    recipe: str = "",
) -> dict[str, dict[str, Any]]:
    """Write report.html, figures/, tables/ and the numbers as JSON into `out`; return the headline.

    The numbers are statistics.json, new_texts.json, rates.json and truth.json. `metrics` is the folder of the stages'
    JSON files, `digests` has the hash of each out by its path; relative paths and revisions in the parameters refer to
    `project`. `version` is the version's digest, `recipe` the names of its recipes. With download.verify, linkrot.json
    and linkrot.parquet are written too, with report.against changes.json, with several crawls waves.json. The headline
    has `safety.<name>.<split>`, `truth.<decision>`, `kept.<split>`, `texts.<stage>`, `rates.<measure>` and
    `selection.<language>`, without undefined values.
    """
    # matplotlib takes a second to import, and other callers need only numbers.
    from laion_dask.report import figures, linkrot_figure, new_text_figures, wave_figure  # noqa: PLC0415 - see above

    counts = read_metrics(metrics)
    steps = summary.funnel(counts)
    numbers = summary.collect(data, settings, counts)
    decisions = [*truth.decisions(data, settings, counts), *new_text_truth.decisions(data, settings)]
    out.mkdir(parents=True, exist_ok=True)
    pictures = figures.write(out / "figures", steps, numbers, decisions)
    rot = None
    if settings.download.verify is not None:
        before = project / settings.download.verify
        rot = linkrot.write(out, data / "download", before, top_hosts=settings.report.top_hosts)
        drawn = linkrot_figure.write(out / "figures", rot)
        pictures += [drawn] if drawn is not None else []
    crawls = waves.collect(data, counts)
    if len(crawls) > 1:
        pictures.append(wave_figure.write(out / "figures", crawls))
        waves.write(out / waves.NAME, crawls)
    changes = _changes(out, data, settings.report.against, project)
    written = new_texts.collect(data)
    pictures += new_text_figures.write(out / "figures", written)
    grouped = rates.write(out, data, settings, [host.host for host in numbers.hosts], counts)
    page = _environment().get_template("report.html.j2").render(
        settings=settings,
        crawl=_crawl(data),
        digests=dict(sorted(digests.items())),
        traces=trace_file.FOLDER,
        timeline=timeline.name(digests, metrics),
        beside=drawing.names(digests, metrics),
        version=version,
        recipe=recipe,
        steps=steps,
        numbers=numbers,
        rot=rot,
        rot_classes=comparison.CLASSES,
        changes=changes,
        waves=crawls if len(crawls) > 1 else (),
        dead=waves.DEAD,
        all_pairs=next(split for split in numbers.splits if split.split == ALL),
        safety=_by_name(numbers.safety),
        rate_names=RATE_NAMES,
        signals=_OPT_OUTS,
        grouped=grouped,
        domain_classes=domain_classes.CLASSES,
        decisions=decisions,
        reasons=REASON_STAGE,
        laion_5b=reference.percentiles(),
        datacomp=[row for row in reference.read("datacomp_table3") if row["scale"] == "large"],
        published={name: reference.rates(name) for name in RATE_NAMES},
        picks=_picks(data, settings),
        new_texts=written,
        described=new_text_gallery.sample(data, settings),
        translated=reference.read("translated"),
        meanings={reason: meaning for reasons in REASONS.values() for reason, meaning in reasons.items()},
        pictures={picture.name: (picture, _inline(picture.svg)) for picture in pictures},
        sections=_sections(settings),
    )  # fmt: skip
    (out / "report.html").write_text(page, encoding="utf-8")
    _write_json(out / "statistics.json", {"funnel": [asdict(step) for step in steps], **numbers.as_dict()})
    texts = [one.as_dict() for one in written]
    _write_json(out / new_texts.NAME, texts)
    _write_json(out / "truth.json", [asdict(decision) for decision in decisions])
    report_tables.write(out / "tables", steps, numbers, decisions, grouped.sweeps, settings)
    return headline(numbers, decisions) | {"texts": new_texts.headline(texts)} | rates.headline(grouped)


def _changes(out: Path, data: Path, against: str | None, project: Path) -> dict[str, Any] | None:
    """Compare the release with an earlier version, and write changes.json; None if `against` is None."""
    if against is None:
        return None
    here = diff.ReleaseFolder("this version", data / "release", data / "filter")
    with checkout.opened(against, project) as before:
        changes = diff.compare(before, here)
    _write_json(out / "changes.json", changes.as_dict())
    return diff.for_page(changes)


def headline(numbers: summary.Statistics, decisions: list[truth.DecisionScore]) -> dict[str, dict[str, Any]]:
    """Return the numbers for comparing versions: safety, truth and kept, rounded to six digits."""
    safety: dict[str, dict[str, Any]] = {}
    for rate in numbers.safety:
        if rate.rate is not None:
            shares = {"rate": rate.rate, "low": rate.low, "high": rate.high}
            rounded = {name: round(share, _DIGITS) for name, share in shares.items()}
            safety.setdefault(rate.name, {})[rate.split] = {"count": rate.count, "total": rate.total, **rounded}
    judged: dict[str, dict[str, float]] = {}
    for decision in decisions:
        rates = {"precision": decision.precision, "recall": decision.recall}
        judged[decision.name] = {name: round(share, _DIGITS) for name, share in rates.items() if share is not None}
    return {"safety": safety, "truth": judged, "kept": {split.split: split.kept for split in numbers.splits}}


def read_metrics(folder: Path) -> dict[str, dict[str, Any]]:
    """Return the counts of each stage, without what the report itself writes."""
    return {path.stem: json.loads(path.read_text()) for path in metrics_files(folder)}


def metrics_files(folder: Path) -> list[Path]:
    """List the files with the counts of the stages before the report."""
    return [path for path in sorted(folder.glob("*.json")) if path.stem not in {"report", dvc_metrics.NAME}]


def _environment() -> Environment:
    environment = templates.environment("laion_dask.report", escape=True)
    environment.filters["percent"] = _percent
    environment.filters["plain"] = lambda name: name.replace("_", " ")
    return environment


def _percent(share: float | None, digits: int = 1) -> str:
    return "\N{EN DASH}" if share is None else f"{100 * share:.{digits}f}\N{NARROW NO-BREAK SPACE}%"


def _crawl(data: Path) -> dict[str, Any]:
    path = data / "crawl" / "wats.parquet"
    if not path.is_file():
        return {"ids": [], "wats": 0}
    crawls = pq.read_table(path, columns=["crawl"])["crawl"].to_pylist()
    return {"ids": sorted({str(crawl) for crawl in crawls}), "wats": len(crawls)}


def _by_name(rates: tuple[summary.Rate, ...]) -> dict[str, dict[str, summary.Rate]]:
    table: dict[str, dict[str, summary.Rate]] = {}
    for rate in rates:
        table.setdefault(rate.name, {})[rate.split] = rate
    return table


def _picks(data: Path, settings: params.Params) -> dict[str, list[gallery.Pick]]:
    picks: dict[str, list[gallery.Pick]] = {}
    for pick in gallery.gallery(data, settings):
        picks.setdefault(pick.verdict, []).append(pick)
    order = list(REASON_STAGE)
    return dict(sorted(picks.items(), key=lambda item: order.index(item[0]) if item[0] in order else -1))


def _inline(svg: Path) -> str:
    return "data:image/svg+xml;base64," + base64.b64encode(svg.read_bytes()).decode()


def _sections(settings: params.Params) -> dict[str, dict[str, str]]:
    sections: dict[str, dict[str, str]] = {}
    for name, value in tracking.flat_params(settings.model_dump(mode="json")).items():
        section, _, key = name.partition(".")
        sections.setdefault(section, {})[key] = value
    return sections


def _write_json(path: Path, value: object) -> None:
    path.write_text(json.dumps(value, indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
