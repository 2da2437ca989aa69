"""Report link rot: what an earlier download's addresses return now, by year and by host.

Shards are read one at a time; memory grows with the number of hosts, not of pairs.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask import schema
from laion_dask.download import earlier as verify
from laion_dask.schema import comparison
from laion_dask.schema.reasons import KEEP
from laion_dask.statistics.intervals import Share, names_first, wilson
from laion_dask.storage import numbered

ALL: Final = "all"

_COLUMNS: Final = (
    "uid", "key", "url", "host", "page_date", "reason", "compared", "http_status", "rights", "rights_signal",
    "sha256", "pdq",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class ClassShare(Share):
    """The share of a group's pairs that ended in one class."""

    found: str


@dataclass(frozen=True, slots=True)
class LinkRotGroup:
    """All pairs, those of one year, or those of one host: a share for each of `comparison.CLASSES`, in that order."""

    name: str
    pairs: int
    shares: tuple[ClassShare, ...]

    def share(self, found: str) -> ClassShare:
        """Return the share of one class."""
        return next(share for share in self.shares if share.found == found)

    def still_there(self) -> tuple[float, float]:
        """Return the Wilson interval of the share that still returns the picture, in the same or other bytes."""
        return wilson(
            sum(self.share(name).count for name in (comparison.SAME_BYTES, comparison.SAME_PICTURE)), self.pairs
        )


@dataclass(frozen=True, slots=True)
class LinkRot:
    """The results for pairs of an earlier version that were requested again.

    `years` are those of the pages that showed the images, `hosts` those with the most pairs.
    """

    everything: LinkRotGroup
    years: tuple[LinkRotGroup, ...]
    hosts: tuple[LinkRotGroup, ...]
    hosts_total: int


def write(out: Path, now: Path, before: Path, *, top_hosts: int) -> LinkRot:
    """Compare the download in `now` with that in `before`; write `linkrot.json` and `linkrot.parquet` into `out`.

    The table has a row for every pair that both versions requested and the earlier one has a picture of. Raises
    `EarlierError` if a folder has no download, before anything is written.
    """
    verify.shard_files(before)
    if not numbered.tables(now):
        raise verify.EarlierError(f"{now} has no tables of a download. Remedy: give the folder with 00000.parquet")
    out.mkdir(parents=True, exist_ok=True)
    counts: Counter[tuple[str, str, str]] = Counter()
    with pq.ParquetWriter(out / "linkrot.parquet", schema.LINKROT.schema, compression="zstd", version="2.6") as writer:
        for rows in _shards(now, before):
            for row in rows:
                for kind, name in ((ALL, ALL), ("year", row["page_date"][:4] or "?"), ("host", row["host"])):
                    counts[kind, name, row["found"]] += 1
            writer.write_table(pa.Table.from_pylist(rows, schema=schema.LINKROT.schema))
    report = _report(counts, top_hosts)
    text = json.dumps(
        {"classes": comparison.CLASSES, **asdict(report, dict_factory=names_first)}, indent=1, ensure_ascii=False
    )
    (out / "linkrot.json").write_text(f"{text}\n", encoding="utf-8")
    return report


def _shards(now: Path, before: Path) -> Iterator[list[dict[str, Any]]]:
    """Yield the compared pairs of each shard, with their class."""
    for path in numbered.tables(now):
        names = set(pq.read_schema(path).names)
        rows = pq.read_table(path, columns=[name for name in _COLUMNS if name in names]).to_pylist()
        earlier = verify.earlier(before, path.stem, {row["uid"] for row in rows})
        rows = [row for row in rows if row["uid"] in earlier]
        differ = [row for row in rows if row["reason"] == KEEP and row["sha256"] != earlier[row["uid"]].sha256]
        # Pictures are decoded only if their bytes differ and the tables have no perceptual hash.
        then = verify.with_pictures({row["uid"]: earlier[row["uid"]] for row in differ})
        today = verify.with_pictures(
            {
                row["uid"]: verify.Before(row["sha256"], row.get("pdq"), row["key"], path.with_suffix(".tar"))
                for row in differ
            }
        )
        yield [
            {
                "uid": row["uid"],
                "url": row["url"],
                "host": row["host"],
                "page_date": row["page_date"],
                "found": verify.classify(
                    row,
                    then.get(row["uid"], earlier[row["uid"]]),
                    today[row["uid"]].pdq if row["uid"] in today else None,
                ),
            }
            for row in rows
        ]


def _report(counts: Counter[tuple[str, str, str]], top_hosts: int) -> LinkRot:
    sizes: Counter[tuple[str, str]] = Counter()
    for (kind, name, _), pairs in counts.items():
        sizes[kind, name] += pairs

    def group(kind: str, name: str) -> LinkRotGroup:
        total = sizes[kind, name]
        shares = (ClassShare.of(counts[kind, name, found], total, found=found) for found in comparison.CLASSES)
        return LinkRotGroup(name, total, tuple(shares))

    years = sorted(name for kind, name in sizes if kind == "year")
    hosts = sorted((name for kind, name in sizes if kind == "host"), key=lambda name: (-sizes["host", name], name))
    return LinkRot(
        everything=group(ALL, ALL),
        years=tuple(group("year", name) for name in years),
        hosts=tuple(group("host", name) for name in hosts[:top_hosts]),
        hosts_total=len(hosts),
    )


def metrics(report: LinkRot) -> dict[str, float]:
    """Return the metrics for comparing versions: `linkrot.pairs`, `linkrot.<class>.rate|low|high`, and by year.

    Years have only `linkrot.<year>.<class>.rate`.
    """
    values: dict[str, float] = {"linkrot.pairs": report.everything.pairs}
    for share in report.everything.shares:
        if share.rate is not None:
            parts = {"rate": share.rate, "low": share.low, "high": share.high}
            values |= {f"linkrot.{share.found}.{part}": number for part, number in parts.items()}
    for group in report.years:
        values |= {f"linkrot.{group.name}.{share.found}.rate": share.rate or 0.0 for share in group.shares}
    return values


def read(path: Path) -> LinkRot:
    """Read linkrot.json."""
    values = json.loads(path.read_text(encoding="utf-8"))

    def group(value: dict[str, Any]) -> LinkRotGroup:
        return LinkRotGroup(value["name"], value["pairs"], tuple(ClassShare(**share) for share in value["shares"]))

    return LinkRot(
        group(values["everything"]),
        tuple(map(group, values["years"])),
        tuple(map(group, values["hosts"])),
        values["hosts_total"],
    )
