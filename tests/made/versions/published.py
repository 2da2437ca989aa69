"""Rows in, the folder of a release out with card, Croissant and manifest; its verdicts beside it."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow as pa
from made.versions import tables

from laion_dask import params, schema
from laion_dask.blocklists import known_lists
from laion_dask.params.lists import HashList
from laion_dask.release import part, publication, rate_lines
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import FUNNEL, KEEP, NEW_TEXTS

MODELS = {"b32": {"model": "ViT-B-32", "splits": "en", "weights_sha256": "f" * 64}}
SPLITS = ("en", "multi", "nolang")
LANGUAGE = {"en": "en", "multi": "fr", "nolang": ""}


def rows(count: int, **values: object) -> list[dict[str, Any]]:
    """Return rows of all splits, in turn, with scores that differ."""
    made = []
    for number in range(count):
        split = SPLITS[number % 3]
        scores = {"similarity": 0.3 + number % 7 / 100, "aesthetic": 4 + number % 5, "punsafe": number % 3 / 10}
        made.append({"uid": tables.uid(number), "split": split, "language": LANGUAGE[split], **scores, **values})
    return made


def build(
    folder: Path,
    made_of: list[Mapping[str, Any]],
    settings: params.Params,
    waves: Mapping[str, Mapping[str, int]] | None = None,
) -> Path:
    """Write `folder/data` with a release of these rows, and return `folder/data/release`.

    Keys are of IMAGES, SCORES and VERDICTS; `reason` is the verdict. `waves` is what the catalog counted by crawl; the
    crawls are then those. As data of the stages before, only what is read.
    """
    data = folder / "data"
    kinds = {"images": schema.IMAGES, "scores": schema.SCORES, "verdicts": schema.VERDICTS}
    parts = {name: [_pick(kind, row) for row in made_of] for name, kind in kinds.items()}
    parts["images"] = [row | {"reason": KEEP} for row in parts["images"]]
    images = [tables.write(data / "download" / "00000.parquet", tables.images(*parts["images"]))]
    scored = tables.scores(*parts["scores"])
    scored = scored.append_column("similarity_b32", scored["similarity"])
    scores = [tables.write(data / "score" / "00000.parquet", scored)]
    verdicts = [tables.write(data / "filter" / "00000.parquet", tables.verdicts(*parts["verdicts"]))]
    kept = [{"uid": row["uid"]} for row in made_of if row.get("reason", KEEP) == KEEP]
    new_texts = {
        stage: [tables.write(data / stage / "00000.parquet", make(*kept))]
        for stage, make in (("translate", tables.translations), ("caption", tables.captions))
    }
    crawls = [*waves] if waves else ["demo"] * 2
    wats = {
        "order": range(len(crawls)),
        "crawl": crawls,
        "wat": [f"{chr(ord('a') + place)}.wat.gz" for place in range(len(crawls))],
        "location": [""] * len(crawls),
        "bytes": range(1, len(crawls) + 1),
    }
    tables.write(data / "crawl" / "wats.parquet", pa.table(wats, schema=schema.WATS.schema))
    (folder / "removals.csv").write_text(
        "kind,value,reason,date,source\nurl,https://a.example/,asked,2026-01-01,mail\n"
    )
    (folder / "known.txt").write_text(f"# known\n{'a' * 64}\n{'b' * 64}\n")
    entry = HashList(name="partner", kind="sha256", file=str(folder / "known.txt"))
    out = data / "release"
    shutil.rmtree(out, ignore_errors=True)
    out.mkdir()
    there = settings.model_copy(
        update={
            "catalog": settings.catalog.model_copy(
                update={"removals": str(folder / "removals.csv"), "lists": (entry,)}
            ),
        }
    )
    for split in SPLITS:
        part.release(
            out,
            split=split,
            images=images,
            scores=scores,
            verdicts=verdicts,
            new_texts=new_texts,
            settings=there.release,
            models=MODELS,
        )
    tombstones = part.write_tombstones(out, verdicts, settings.release.version)
    counted = counts(made_of)
    if waves:
        counted["catalog"]["waves"] = waves
    counted["filter"]["lists"] = known_lists.about(known_lists.compiled([entry], folder / "lists"))
    made = publication.gather(data, there, counted)
    rates = rate_lines.measure(data, there.filter)
    publication.describe(out, replace(made, models=MODELS), tombstones, rates)
    return out


def counts(made_of: list[Mapping[str, Any]]) -> dict[str, Any]:
    """Return the counts of all stages, that add up."""
    ledger = Ledger()
    ledger.add(row.get("reason", KEEP) for row in made_of)
    everything = {"seen": len(made_of), "kept": len(made_of), "dropped": {}}
    found: dict[str, Any] = {stage: {unit: everything} for stage, unit in FUNNEL}
    links = {"seen": len(made_of) + 9, "kept": len(made_of), "dropped": {"no_alt": 5, "page_opt_out": 4}}
    found["extract"] = {"links": links}
    kept = {"seen": ledger.kept, "kept": ledger.kept, "dropped": {}}
    model = {"model": "demo", "weights_sha256": "e" * 64, "licence": "mit"}
    found |= {stage: {unit: kept, "model": model} for stage, unit in NEW_TEXTS}
    return found | {"crawl": {"wats": 2}, "filter": {"pairs": ledger.as_dict()}, "release": {"pairs": kept}}


def _pick(kind: schema.Table, row: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in row.items() if name in kind.names}
