"""A version in, its downloaded pairs in a DuckDB table out: scores, verdicts, rules and, for the demo, labels.

The tables are read out of DVC's cache as they lie there, so that any version can be asked, checked out or not.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import duckdb

from experiments import versions
from experiments.versions import ComparedVersion
from laion_dask.schema import reasons
from laion_dask.storage import duckdb_connection

_LABELS: Final = """create table labels (wat varchar, page_url varchar, link_index integer, expected varchar,
    matching boolean, unsafe boolean, watermark boolean, thing varchar, color varchar)"""


@contextmanager
def of(root: Path, version: ComparedVersion) -> Iterator[duckdb.DuckDBPyConnection]:
    """Open a database with the table `pairs`: a row for each downloaded image.

    Columns: uid, split, verdict, similarity, punsafe, pwatermark, width and height of the original, words, rules (names
    of all rules that would drop it), and the labels expected, matching, unsafe, watermark, thing and color of the
    picture, null without labels. Raises `versions.ComparedVersionError` where a table is not in the cache.
    """
    cache = versions.cache_folder(root)
    names = {
        stage: versions.cached(cache, version, f"data/{stage}") for stage in ("crawl", "download", "score", "filter")
    }
    shards = {
        stage: duckdb_connection.names(
            path for name, path in files.items() if name.endswith(".parquet") and Path(name).stem.isdigit()
        )
        for stage, files in names.items()
    }
    labels = names["crawl"].get("truth.parquet")
    with duckdb.connect() as connection:
        columns = connection.sql(
            "select * from read_parquet($1, hive_partitioning = false) limit 0", params=[shards["filter"]]
        ).columns
        connection.execute(_LABELS)
        if labels is not None:
            connection.execute(
                "insert into labels by name select wat, page_url, link_index, expected, matching, unsafe, watermark,"
                " thing, color from read_parquet($1, hive_partitioning = false)",
                duckdb_connection.names([labels]),
            )
        connection.execute(
            f"""create table pairs as
            select images.uid, images.split, verdicts.reason as verdict, similarity, punsafe, pwatermark,
                original_width as width, original_height as height,
                len(regexp_split_to_array(trim(caption), '\\s+')) as words,
                {_rules(version, has_mask="rules" in columns)} as rules,
                expected, matching, unsafe, watermark, thing, color
            from (select * from read_parquet($images, hive_partitioning = false) where reason = 'keep') images
            join read_parquet($scores, hive_partitioning = false) scores using (uid)
            join read_parquet($verdicts, hive_partitioning = false) verdicts using (uid)
            left join labels using (wat, page_url, link_index)""",
            {"images": shards["download"], "scores": shards["score"], "verdicts": shards["filter"]},
        )
        yield connection


def rules(connection: duckdb.DuckDBPyConnection) -> dict[tuple[str, ...], int]:
    """Return how many pairs fell to exactly these rules, by their names; pairs that fell to none are left out."""
    counted = connection.sql("select rules, count(*) from pairs where len(rules) > 0 group by 1").fetchall()
    return dict(sorted(((tuple(names), int(count)) for names, count in counted), key=lambda item: (-item[1], item[0])))


def _rules(version: ComparedVersion, *, has_mask: bool) -> str:
    """Return SQL for the names of all rules that drop a pair: out of the verdicts' bits, or worked out anew.

    Worked out, a hash list names what it lists (it comes first), and of equal images those that nothing else drops.
    """
    bits: dict[str, int] = getattr(reasons, "RULE_BITS", {})
    if has_mask and bits:
        tests = {name: f"(verdicts.rules >> {bit}) & 1 = 1" for name, bit in bits.items()}
    else:
        tests = _worked_out(version.params["filter"])
    named = ", ".join(f"case when {test} then '{name}' end" for name, test in tests.items())
    return f"list_filter([{named}], lambda name: name is not null)"


def _worked_out(limits: Any) -> dict[str, str]:  # noqa: ANN401 - a section of params.yaml
    lowest = " ".join(f"when '{split}' then {float(value)}" for split, value in limits["similarity"].items())
    short, long = "least(original_width, original_height)", "greatest(original_width, original_height)"
    tests = {name: f"verdicts.reason = '{name}'" for name in ("removed_hash", "listed_hash", "listed_later")}
    tests["image_too_small"] = f"{short} < {int(limits['min_side_px'])}"
    tests["aspect_ratio"] = f"{long} > {float(limits['max_aspect_ratio'])} * {short}"
    tests["few_words"] = f"len(regexp_split_to_array(trim(caption), '\\s+')) < {int(limits['min_words'])}"
    # A score that is not a number drops nothing, but for the similarity; to DuckDB it is above every number.
    for name, column, limit in (("unsafe", "punsafe", "max_punsafe"), ("watermark", "pwatermark", "max_pwatermark")):
        tests[name] = f"(not isnan({column}) and {column} > {float(limits[limit])}::float)"
    tests["low_similarity"] = f"(isnan(similarity) or similarity < (case images.split {lowest} end)::float)"
    tests["duplicate_image"] = "verdicts.reason = 'duplicate_image'"
    return tests
