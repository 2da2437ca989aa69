"""Verdicts in, a release out: LAION's tables by split, subsets, tombstones, a manifest and a card."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any, Final

import duckdb
import jinja2
import mmh3
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from laion_dask import params, schema
from laion_dask.verdict import FUNNEL, REASON_STAGE, REASONS, Ledger

SPLITS: Final = ("en", "multi", "nolang")
SUBSET_HIGH_RESOLUTION: Final = "high_resolution"
TOMBSTONE_REASONS: Final = (
    *("removed_url", "removed_domain", "removed_uid", "removed_hash"),
    *("listed_url", "listed_hash", "listed_address", "listed_later"),
)
_PACKAGES: Final = ("dask", "fastwarc", "fasttext", "open_clip_torch", "pillow", "pyarrow", "torch", "warcio", "zarr")
_ROW_GROUP: Final = 50_000

# Sorted by uid: a random but fixed order, whatever shard a pair was in.
_KEPT: Final = """
select images.url as "URL", images.caption as "TEXT", images.original_width as "WIDTH",
    images.original_height as "HEIGHT", images.language as "LANGUAGE", images.license as "LICENSE",
    scores.similarity::double as similarity, scores.punsafe, scores.pwatermark, scores.aesthetic, images.uid,
    images.key, images.md5, images.sha256, images.page_url, images.crawl, images.wat, images.record_offset
from read_parquet($images) images join read_parquet($scores) scores using (uid)
    join read_parquet($verdicts) verdicts using (uid)
where verdicts.reason = 'keep' and verdicts.split = $split
order by images.uid
"""


def release(
    out: Path,
    *,
    split: str,
    images: Sequence[Path],
    scores: Sequence[Path],
    verdicts: Sequence[Path],
    settings: params.Release,
) -> dict[str, Any]:
    """Write the kept pairs of one split, and its rows of each subset, as Parquet (schema RELEASE), sorted by uid."""
    writers = {name: _Files(out / name, split, settings.rows_per_file) for name in ("", *subsets(settings))}
    ledger = Ledger()
    for batch in _kept(split, images, scores, verdicts):
        table = schema.RELEASE.check(_with_hash(batch))
        ledger.keep(table.num_rows)
        writers[""].write(table)
        for name, rule in _subset_rules(settings).items():
            writers[name].write(table.filter(rule))
    rows = {f"rows.{name or 'all'}": writer.close() for name, writer in writers.items()}
    return {"pairs": ledger.as_dict(), f"rows.{split}": ledger.kept, **rows}


def subsets(settings: params.Release) -> list[str]:
    """Name the subsets in order."""
    return list(_subset_rules(settings))


def _subset_rules(settings: params.Release) -> dict[str, pc.Expression]:
    side = settings.high_resolution_px
    rules = {SUBSET_HIGH_RESOLUTION: (pc.field("WIDTH") >= side) & (pc.field("HEIGHT") >= side)}
    for level in settings.aesthetic:
        # In the column's own precision, as in the filter: a score of 4.1 is at least 4.1.
        rules[f"aesthetic_{level:g}"] = pc.field("aesthetic") >= pa.scalar(level, pa.float32())
    return rules


def _kept(
    split: str, images: Sequence[Path], scores: Sequence[Path], verdicts: Sequence[Path]
) -> Iterator[pa.RecordBatch]:
    if not images:
        return
    names = {"images": images, "scores": scores, "verdicts": verdicts}
    with duckdb.connect() as connection:
        query: dict[str, Any] = {name: [str(path) for path in paths] for name, paths in names.items()}
        reader = connection.sql(_KEPT, params={**query, "split": split}).to_arrow_reader(_ROW_GROUP)
        yield from reader


def _with_hash(batch: pa.RecordBatch) -> pa.Table:
    """Add LAION's integer hash, mmh3 of URL + TEXT, and put the columns in order."""
    urls, texts = batch.column("URL").to_pylist(), batch.column("TEXT").to_pylist()
    hashes = [mmh3.hash64(url + text, seed=0, signed=True)[0] for url, text in zip(urls, texts, strict=True)]
    table = pa.Table.from_batches([batch]).append_column("hash", pa.array(hashes, pa.int64()))
    return table.select(schema.RELEASE.names).cast(schema.RELEASE.schema)


class _Files:
    """Rows of one table, cut into files of equal length named `<folder>/<split>-<number>.parquet`."""

    def __init__(self, folder: Path, split: str, rows_per_file: int) -> None:
        self._folder, self._split, self._limit = folder, split, rows_per_file
        self._rows = self._in_file = 0
        self._writer: pq.ParquetWriter | None = None

    def write(self, table: pa.Table) -> None:
        """Append rows, opening the next file where one is full."""
        while table.num_rows:
            if self._writer is None:
                self._folder.mkdir(parents=True, exist_ok=True)
                path = self._folder / f"{self._split}-{self._rows // self._limit:05d}.parquet"
                self._writer = pq.ParquetWriter(path, schema.RELEASE.schema, compression="zstd")
            some = table.slice(0, self._limit - self._in_file)
            self._writer.write_table(some, row_group_size=_ROW_GROUP)
            self._rows += some.num_rows
            self._in_file += some.num_rows
            table = table.slice(some.num_rows)
            if self._in_file == self._limit:
                self._next()

    def _next(self) -> None:
        if self._writer is not None:
            self._writer.close()
        self._writer, self._in_file = None, 0

    def close(self) -> int:
        """Finish the last file and return the number of rows."""
        self._next()
        return self._rows


def write_tombstones(out: Path, verdicts: Sequence[Path]) -> int:
    """Write `tombstones.parquet`: what removals and lists of known content keep out, by digest of the uid."""
    with duckdb.connect() as connection:
        rows = connection.sql(
            "select sha256(uid) as uid_sha256, reason from read_parquet($1) where list_contains($2, reason) order by 1",
            params=[[str(path) for path in verdicts], list(TOMBSTONE_REASONS)],
        ).to_arrow_table()
    pq.write_table(schema.TOMBSTONES.check(rows.cast(schema.TOMBSTONES.schema)), out / "tombstones.parquet")
    return int(rows.num_rows)


def write_manifest(
    out: Path,
    settings: params.Params,
    counts: Mapping[str, Any],
    models: Mapping[str, Mapping[str, str]],
    tombstones: int,
) -> dict[str, Any]:
    """Write `manifest.json`: every file with rows and sha256, all parameters, counts, models and package versions."""
    files = {}
    for path in sorted(path for path in out.rglob("*.parquet")):
        with path.open("rb") as stream:
            sha256 = hashlib.file_digest(stream, "sha256").hexdigest()
        files[path.relative_to(out).as_posix()] = {
            "rows": pq.read_metadata(path).num_rows,
            "bytes": path.stat().st_size,
            "sha256": sha256,
        }
    manifest = {
        "name": settings.release.name,
        "files": files,
        "counts": counts,
        "tombstones": tombstones,
        "models": {name: dict(model) for name, model in models.items()},
        # How a version is reported does not make it another version.
        "parameters": settings.model_dump(mode="json", exclude={"report"}),
        "packages": {name: version(name) for name in _PACKAGES},
    }
    (out / "manifest.json").write_text(json.dumps(manifest, indent=2) + "\n")
    return manifest


def write_card(out: Path, manifest: Mapping[str, Any]) -> None:
    """Write `README.md`, the dataset's card, filled from the manifest."""
    environment = jinja2.Environment(
        loader=jinja2.PackageLoader("laion_dask"),
        autoescape=False,  # noqa: S701 - Markdown out of our own numbers
        trim_blocks=True,
        lstrip_blocks=True,
    )
    meanings = {reason: REASONS[stage][reason] for reason, stage in REASON_STAGE.items()}
    card = environment.get_template("card.md.j2").render(
        manifest, meanings=meanings, funnel=FUNNEL, columns=schema.RELEASE.columns
    )
    (out / "README.md").write_text(card)
