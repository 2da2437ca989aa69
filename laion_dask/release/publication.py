"""Write the description of a release, in this order: card, Croissant, manifest.

Croissant has the digest of the card, and the manifest the digests of both.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.blocklists import removal_ledger
from laion_dask.release import card, card_figures, composition, croissant, manifest, rate_lines
from laion_dask.storage import duckdb_connection, embeddings, numbered
from laion_dask.storage.files import sha256


def publish(
    out: Path,
    data: Path,
    settings: params.Params,
    counts: Mapping[str, Any],
    tombstones: int,
    digests: Mapping[str, str],
) -> dict[str, Any]:
    """Write `README.md`, `croissant.json` and `manifest.json` into `out`, and return the manifest.

    `data` is the folder of all stages' outs. `digests` are the sha256 of files that are known, as in `describe`.
    """
    rates = rate_lines.measure(data, settings.filter)
    return describe(out, gather(data, settings, counts), tombstones, rates, digests)


def describe(
    out: Path,
    made: manifest.Made,
    tombstones: int,
    rates: Sequence[rate_lines.RateRow] = (),
    digests: Mapping[str, str] = MappingProxyType({}),
) -> dict[str, Any]:
    """Write the three files for a release with these inputs; return the manifest.

    `digests` are the sha256 that are known, by path in `out`; only other files are read.
    """
    numbers = composition.measure(out)
    root = manifest.root(out)
    pictures = [card.Picture(*drawn) for drawn in card_figures.write(out, numbers, made.settings)]
    card.write(out, made, numbers, root, tombstones, pictures, rates)
    files = manifest.describe(out, digests)
    croissant.write(out, made, numbers, root, files)
    described = out / croissant.NAME
    files[croissant.NAME] = {"bytes": described.stat().st_size, "sha256": sha256(described)}
    return manifest.write(out, made, root, tombstones, dict(sorted(files.items())))


def gather(data: Path, settings: params.Params, counts: Mapping[str, Any]) -> manifest.Made:
    """Collect the inputs of a version from the stages' outs: WATs, lists, removals and models."""
    described = counts["filter"].get("lists", {})
    lists = [
        manifest.Entries(entry.file, described[entry.name]["entries"], described[entry.name]["sha256"])
        for entry in settings.catalog.lists
        if entry.name in described
    ]
    ledger = Path(settings.catalog.removals)
    wats = pq.read_table(data / "crawl" / "wats.parquet", columns=["crawl", "wat"]).to_pylist()
    return manifest.Made(
        settings=settings,
        counts=counts,
        models=embeddings.about(data / "score" / embeddings.STORE),
        lists=lists,
        removals=manifest.Entries.of(ledger, len(removal_ledger.read(ledger))),
        wats=[(str(wat["crawl"]), str(wat["wat"])) for wat in wats],
        pages=_pages(numbered.tables(data / "download")),
    )


def _pages(images: list[Path]) -> tuple[str, str]:
    """Return when the oldest and the newest page of the pairs were fetched."""
    if not images:
        return "", ""
    with duckdb_connection.connect() as connection:
        row = connection.execute(
            "select min(page_date), max(page_date) from read_parquet($1, hive_partitioning = false)"
            " where page_date <> ''",
            [duckdb_connection.names(images)],
        ).fetchone()
    oldest, newest = row or (None, None)
    return oldest or "", newest or ""
