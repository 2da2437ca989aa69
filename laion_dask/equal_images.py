"""Kept pairs in, those out that must go because another kept pair has the same image bytes."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import duckdb


def losers(images: Sequence[Path], verdicts: Sequence[Path]) -> dict[str, list[str]]:
    """Return the uids that go, by the name of their shard: of equal images the kept pair with the lowest uid stays.

    DuckDB counts out of core which digests come more than once; only their rows are looked at more closely.
    """
    if not images:
        return {}
    with duckdb.connect() as connection:
        connection.execute("set preserve_insertion_order = false")
        found = connection.sql(
            "with kept as (select uid from read_parquet($2) where reason = 'keep'),"
            " shared as (select hash(sha256) as short from read_parquet($1) where reason = 'keep'"
            "  group by 1 having count(*) > 1),"
            " equal as (select sha256, uid, filename from read_parquet($1, filename = true) images"
            "  semi join shared on hash(images.sha256) = shared.short where reason = 'keep'),"
            " passing as (select sha256, uid, filename from equal semi join kept using (uid))"
            " select filename, uid from passing"
            " qualify row_number() over (partition by sha256 order by uid) > 1 order by uid",
            params=[[str(path) for path in images], [str(path) for path in verdicts]],
        ).fetchall()
    names: dict[str, list[str]] = {}
    for filename, uid in found:
        names.setdefault(Path(filename).stem, []).append(uid)
    return names
