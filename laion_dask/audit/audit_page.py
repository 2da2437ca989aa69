"""Write the files of an audit: a page for labelers, and the sample's table and design for scoring.

`audit.html` contains all pictures and the script; its Content Security Policy blocks all requests.
"""

from __future__ import annotations

import base64
import hashlib
import json
from pathlib import Path
from typing import Any, Final

from markupsafe import Markup

from laion_dask import params
from laion_dask.audit.audit_sample import AuditError, AuditSample, Drawn
from laion_dask.audit.questions import Question
from laion_dask.report import gallery
from laion_dask.storage import packaged, shards, sheets, strict_rows, templates

PAGE: Final = "audit.html"
TABLE: Final = "sample.csv"
DESIGN: Final = "sample.json"
_SIDE_PX: Final = 320
_YES_NO: Final = {True: "yes", False: "no", None: ""}
_NO_MARKUP: Final = str.maketrans({"<": r"\u003c", ">": r"\u003e", "&": r"\u0026"})


def write(out: Path, sample: AuditSample, settings: params.Params) -> None:
    """Write audit.html, sample.csv and sample.json into `out`; the same sample gives the same bytes.

    sample.csv has the verdict of every drawn pair: it is for scoring, and labelers should not see it.
    """
    out.mkdir(parents=True, exist_ok=True)
    (out / PAGE).write_text(_page(sample, settings), encoding="utf-8")
    columns = ["sample", "uid", "reason", "split", *(f"decided_{one.name}" for one in sample.questions)]
    rows = (
        [sample.name, pair.uid, *pair.stratum, *(_YES_NO[pair.decided[one.name]] for one in sample.questions)]
        for pair in sample.drawn
    )
    sheets.write(out / TABLE, columns, rows)
    (out / DESIGN).write_text(json.dumps(_design(sample), indent=1) + "\n", encoding="utf-8")


def _design(sample: AuditSample) -> dict[str, Any]:
    cells = [
        {"reason": reason, "split": split, "question": question, "decided": _YES_NO[fired], "pairs": pairs}
        for (reason, split, question, fired), pairs in sorted(sample.cells.items(), key=str)
    ]
    return {
        "sample": sample.name,
        "seed": sample.seed,
        "drawn": len(sample.drawn),
        "questions": [question.model_dump() for question in sample.questions],
        "strata": [
            {"reason": reason, "split": split, "pairs": pairs} for (reason, split), pairs in sample.sizes.items()
        ],
        "cells": cells,
        "outside": dict(sample.outside),
    }


def read(folder: Path) -> AuditSample:
    """Read a sample back, without pictures and texts; `AuditError` if a file is missing or of another sample."""
    try:
        design = json.loads((folder / DESIGN).read_text(encoding="utf-8"))
        with (folder / TABLE).open("rb") as stream:
            header, lines = strict_rows.table(stream, folder / TABLE)
            rows = [dict(zip(header, values, strict=True)) for _, values in lines]
        questions = tuple(Question.model_validate(question) for question in design["questions"])
        names = {row["sample"] for row in rows}
        fired = {"yes": True, "no": False, "": None}
        drawn = tuple(
            Drawn(
                row["uid"],
                (row["reason"], row["split"]),
                "",
                {one.name: fired[row[f"decided_{one.name}"]] for one in questions},
                Path(),
                "",
            )
            for row in rows
        )
        cells = {
            (cell["reason"], cell["split"], cell["question"], fired[cell["decided"]]): int(cell["pairs"])
            for cell in design["cells"]
        }
        sizes = {(one["reason"], one["split"]): int(one["pairs"]) for one in design["strata"]}
        if names != {design["sample"]} or len(rows) != design["drawn"]:
            raise AuditError(f"{folder}: {TABLE} and {DESIGN} are of different samples. Remedy: draw the sample again")
        return AuditSample(
            design["sample"], int(design["seed"]), questions, drawn, sizes, cells, dict(design["outside"])
        )
    except (OSError, ValueError, KeyError, TypeError, strict_rows.RowsError) as error:
        message = f"{folder} has no readable sample: {error}. Remedy: `laion-dask audit sample --out {folder}`"
        raise AuditError(message) from error


def _page(sample: AuditSample, settings: params.Params) -> str:
    pictures = _pictures(sample)
    data = {
        "sample": sample.name,
        "questions": [{"name": one.name, "ask": one.ask} for one in sample.questions],
        "pairs": [{"uid": one.uid, "caption": one.caption, "image": pictures[one.uid]} for one in sample.drawn],
    }
    environment = templates.environment("laion_dask.audit", escape=True)
    script = packaged.file("audit", "templates", "audit.js").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    return environment.get_template("audit.html.j2").render(
        name=settings.release.name,
        demo=settings.crawl.source == "demo",
        sample=sample.name,
        questions=sample.questions,
        # Without these three characters, text from the web cannot begin or end an HTML element inside the JSON.
        data=Markup(json.dumps(data).translate(_NO_MARKUP)),  # noqa: S704 - escaped by translate
        script=Markup(script),  # noqa: S704 - our own file
        script_hash=f"sha256-{digest}",
    )


def _pictures(sample: AuditSample) -> dict[str, str]:
    keys: dict[Path, dict[str, str]] = {}
    for pair in sample.drawn:
        keys.setdefault(pair.tar, {})[pair.key] = pair.uid
    thumbnails = {}
    for tar, uids in sorted(keys.items()):
        for key, body in shards.read_shard(tar):
            if key in uids:
                thumbnails[uids[key]] = gallery.thumbnail(body, blur=False, side_px=_SIDE_PX)
    if missing := [pair.uid for pair in sample.drawn if pair.uid not in thumbnails]:
        raise AuditError(f"{len(missing)} pictures are not in their shards. Remedy: run the stage download again")
    return thumbnails
