"""Versions in, one row of numbers for each out: what a figure, a table and MLflow show of an experiment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import combinations
from pathlib import Path
from typing import Any, Final

import duckdb

from experiments import versions
from experiments.versions import ComparedVersion
from laion_dask.storage import duckdb_connection, sheets

SPLITS: Final = ("en", "multi", "nolang")
ALL: Final = "all"
# Of the report's rates those that a filter can change: the others are of what came before it.
SAFETY: Final = ("unsafe_of_kept", "watermark_of_kept")


@dataclass(frozen=True, slots=True)
class Row:
    """The numbers of one version; a share that its metrics do not hold is None."""

    label: str
    changes: Mapping[str, Any]
    kept: int
    share: float | None
    """Kept pairs of downloaded images."""
    share_of: Mapping[str, float | None]
    """The same by split."""
    precision: float | None
    """Of kept pairs, those that belong in the release by the labels of the demo."""
    recall: float | None
    safety: Mapping[str, tuple[float, float, float] | None]
    """Share of kept pairs with its 95 % interval: (share, low, high)."""


def row(version: ComparedVersion, changes: Mapping[str, Any]) -> Row:
    """Read the numbers of one version out of its metrics."""

    def share(split: str) -> float | None:
        kept = version.number(f"report.kept.{split}")
        # Every downloaded image is looked up on the lists of known content, so this total counts them all.
        total = version.number(f"report.safety.listed_of_received.{split}.total")
        return kept / total if kept is not None and total else None

    def rate(name: str) -> tuple[float, float, float] | None:
        found = [version.number(f"report.safety.{name}.{ALL}.{part}") for part in ("rate", "low", "high")]
        low, middle, high = found[1], found[0], found[2]
        return None if low is None or middle is None or high is None else (middle, low, high)

    return Row(
        label=version.name,
        changes=changes,
        kept=int(version.number(f"report.kept.{ALL}") or 0),
        share=share(ALL),
        share_of={split: share(split) for split in SPLITS},
        precision=version.number("report.truth.keep.precision"),
        recall=version.number("report.truth.keep.recall"),
        safety={name: rate(name) for name in SAFETY},
    )


@dataclass(frozen=True, slots=True)
class Overlap:
    """What several versions keep: how many pairs each two share, and how many exactly these share."""

    labels: tuple[str, ...]
    identity: str
    """What makes two pairs the same: uid, or url where the versions make uids by different rules."""
    shared: tuple[tuple[int, ...], ...]
    """(versions, versions): pairs that both keep; its diagonal is what each keeps."""
    exactly: Mapping[tuple[int, ...], int]
    """Pairs by the places of the versions that keep them, those that no other keeps."""

    def jaccard(self, one: int, other: int) -> float:
        """Return the share of the pairs of two versions that both keep; 1 where both keep nothing."""
        union = self.shared[one][one] + self.shared[other][other] - self.shared[one][other]
        return self.shared[one][other] / union if union else 1.0


def overlap(root: Path, found: Sequence[ComparedVersion]) -> Overlap:
    """Compare what versions keep, out of their tables in DVC's cache; DuckDB counts, out of core.

    Raises `versions.ComparedVersionError` where a table is not in the cache, or for more than 62 versions (the bits of
    a number).
    """
    if len(found) > _MAX_SETS:
        raise versions.ComparedVersionError(
            f"{len(found)} versions are more than {_MAX_SETS}. Remedy: compare fewer at once"
        )
    cache = versions.cache_folder(root)
    rules = {version.params.get("extract", {}).get("uid") for version in found}
    identity = "uid" if len(rules) <= 1 else "url"
    with duckdb.connect() as connection:
        connection.execute("create table marks (pair varchar, bit ubigint)")
        for place, version in enumerate(found):
            verdicts = duckdb_connection.names(_tables(versions.cached(cache, version, "data/filter")).values())
            images = duckdb_connection.names(_tables(versions.cached(cache, version, "data/download")).values())
            join = "" if identity == "uid" else "join read_parquet($images, hive_partitioning = false) using (uid)"
            values: dict[str, Any] = {"verdicts": verdicts, "bit": 1 << place}
            values |= {} if identity == "uid" else {"images": images}
            connection.execute(
                f"insert into marks select distinct {identity}, $bit::ubigint"
                f" from (select uid, reason from read_parquet($verdicts, hive_partitioning = false)"
                f" where reason = 'keep') {join}",
                values,
            )
        counted = connection.execute(
            "select bits, count(*) from (select sum(bit)::ubigint as bits from marks group by pair) group by bits"
        ).fetchall()
    return _overlap(tuple(version.name for version in found), identity, {int(bits): int(n) for bits, n in counted})


def _overlap(labels: tuple[str, ...], identity: str, counted: Mapping[int, int]) -> Overlap:
    places = range(len(labels))
    shared = [[0] * len(labels) for _ in places]
    for place in places:
        shared[place][place] = sum(count for bits, count in counted.items() if bits >> place & 1)
    for one, other in combinations(places, 2):
        both = sum(count for bits, count in counted.items() if bits >> one & 1 and bits >> other & 1)
        shared[one][other] = shared[other][one] = both
    exactly = {tuple(place for place in places if bits >> place & 1): count for bits, count in counted.items()}
    ordered = dict(sorted(exactly.items(), key=lambda item: (-item[1], item[0])))
    return Overlap(labels, identity, tuple(map(tuple, shared)), ordered)


_MAX_SETS: Final = 62


def _tables(files: Mapping[str, Path]) -> dict[str, Path]:
    """Keep the tables of shards; others of the folder have no verdicts of downloaded pairs."""
    return {name: path for name, path in files.items() if name.endswith(".parquet") and Path(name).stem.isdigit()}


def table(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Return the rows as flat dictionaries with the same columns, shares with six digits."""
    keys = list(dict.fromkeys(key for found in rows for key in found.changes))
    flat: list[dict[str, Any]] = []
    for found in rows:
        line: dict[str, Any] = {"version": found.label}
        line |= {key: found.changes.get(key, "") for key in keys if _short(rows, key)}
        line |= {"kept": found.kept, "kept share": _rounded(found.share)}
        line |= {f"kept share {split}": _rounded(share) for split, share in found.share_of.items()}
        line |= {"precision": _rounded(found.precision), "recall": _rounded(found.recall)}
        for name, rate in found.safety.items():
            line[name] = _rounded(rate[0]) if rate else None
        flat.append(line)
    return flat


def _short(rows: Sequence[Row], key: str) -> bool:
    # A recipe sets dozens of values: only what differs, and fits into a cell, is told.
    told = [str(found.changes.get(key, "")) for found in rows]
    return len(set(told)) > 1 and max(map(len, told)) <= _CELL and max(len(found.changes) for found in rows) <= _CHANGES


_CELL: Final = 24
_CHANGES: Final = 6


def _rounded(share: float | None) -> float | None:
    return None if share is None else round(share, 6)


def write_csv(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write flat rows as CSV."""
    sheets.write_flat(path, rows)


def write_numbers(folder: Path, numbers: Mapping[str, float]) -> None:
    """Write numbers.csv: what the prose of a page says beside its tables, so that a test can check it."""
    rounded = {name: number if isinstance(number, int) else round(number, 6) for name, number in numbers.items()}
    sheets.write(folder / "numbers.csv", ["name", "value"], rounded.items())


def markdown(rows: Sequence[Mapping[str, Any]]) -> str:
    """Return flat rows as a Markdown table; shares in percent."""
    lines = ["| " + " | ".join(rows[0]) + " |", "|" + "---|" * len(rows[0])]
    lines += ["| " + " | ".join(_cell(name, value) for name, value in line.items()) + " |" for line in rows]
    return "\n".join(lines) + "\n"


def _cell(name: str, value: Any) -> str:  # noqa: ANN401 - a cell
    if value is None:
        return "\N{EN DASH}"
    if isinstance(value, float) and ("share" in name or name in {"precision", "recall", *SAFETY}):
        return f"{100 * value:.1f} %"
    return f"{value:,}" if isinstance(value, int) and not isinstance(value, bool) else str(value)
