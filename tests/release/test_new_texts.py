"""Layouts with texts that models wrote: LAION-translated, LAION-COCO, Recap-DataComp-1B."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made.versions import tables

from laion_dask import params
from laion_dask.release import layouts, manifest_counts, part

URL = "https://a.example/x.jpg"
PAIR = {
    "uid": tables.uid(1),
    "url": URL,
    "caption": "Ein roter  Fuchs",
    "language": "de",
    "original_width": 1600,
    "original_height": 900,
    "sha256": "b" * 64,
    "key": "000000001",
}
SCORES = {"uid": tables.uid(1), "similarity": 0.25, "punsafe": 0.25, "pwatermark": 0.5}
TRANSLATED = {"uid": tables.uid(1), "english": "A red fox", "english_similarity": 0.375}
CAPTIONED = {
    "uid": tables.uid(1),
    "top_caption": "a fox in the snow",
    "caption_similarity": 0.5,
    "all_captions": ["a fox in the snow", "a fox"],
    "all_similarities": [0.5, 0.375],
}
NEEDS = {"laion-translated": "translate", "laion-coco": "caption", "recap-datacomp": "caption"}
HASH = -90690256241849537
SAFETY = {"pwatermark": 0.5, "punsafe": 0.25}


def release(
    folder: Path, layout: str, off: tuple[str, ...] = (), **rows: list[Mapping[str, Any]]
) -> tuple[pa.Table, dict[str, Any]]:
    made = {
        "images": tables.images(*rows.get("images", [PAIR])),
        "scores": tables.scores(*rows.get("scores", [SCORES])),
        "verdicts": tables.verdicts(*rows.get("verdicts", [{"uid": tables.uid(1), "split": "multi"}])),
        "translate": tables.translations(*rows.get("translate", [TRANSLATED])),
        "caption": tables.captions(*rows.get("caption", [CAPTIONED])),
    }
    paths = {name: [tables.write(folder / name / "00000.parquet", table)] for name, table in made.items()}
    settings = params.load().release.model_copy(update={"tables": (layout,), "rows_per_file": 100})
    new_texts = {stage: paths.pop(stage) for stage in ("translate", "caption")} | {stage: [] for stage in off}
    counts = part.release(folder / "out", split="multi", new_texts=new_texts, settings=settings, models={}, **paths)
    files = sorted((folder / "out" / layout).glob("*.parquet"))
    return (pa.concat_tables(map(pq.read_table, files)) if files else pa.table({})), counts


@pytest.mark.parametrize(
    ("layout", "expected"),
    [
        (
            "laion-translated",
            {"TEXT": "Ein roter  Fuchs", "LANGUAGE": "de", "ENG TEXT": "A red fox", "URL": URL, "WIDTH": 1600}
            | {"HEIGHT": 900, "Hash": HASH, **SAFETY, "similarity": 0.25, "prediction": 0.375},
        ),
        (
            "laion-coco",
            {"URL": URL, "TEXT": "Ein roter  Fuchs", "top_caption": "a fox in the snow"}
            | {"all_captions": ["a fox in the snow", "a fox"], "all_similarities": [0.5, 0.375], "WIDTH": 1600}
            | {"HEIGHT": 900, "similarity": 0.25, "hash": HASH, **SAFETY},
        ),
        (
            "recap-datacomp",
            {"url": URL, "re_caption": "a fox in the snow", "org_caption": "Ein roter  Fuchs", "sha256": "b" * 64}
            | {"key": "000000001", "re_clip_score": 0.5, "org_clip_score": 0.25, "re_length": 5, "org_length": 3}
            | {"re_gpt4v_score": None, "org_gpt4v_score": None},
        ),
    ],
)
def test_a_layout_has_the_names_the_order_and_the_values_of_its_data_set(
    tmp_path: Path, layout: str, expected: dict[str, Any]
) -> None:
    table, counts = release(tmp_path, layout)
    assert table.to_pylist() == [expected]
    assert table.column_names == list(expected)
    assert counts[f"rows.{layout}"] == 1


@pytest.mark.parametrize("layout", layouts.HAVING)
def test_only_pairs_with_the_text_stand_in_a_layout_and_they_are_counted(tmp_path: Path, layout: str) -> None:
    uids = [tables.uid(number) for number in range(6)]
    reason = {"laion-translated": "no_language"}.get(layout, "empty_caption")
    made = [{"uid": uid, "reason": reason if number % 3 else "keep"} for number, uid in enumerate(uids)]
    rows: dict[str, list[Mapping[str, Any]]] = {"verdicts": [{"uid": uid, "split": "multi"} for uid in uids]}
    rows |= {name: [{"uid": uid} for uid in uids] for name in ("images", "scores", "translate", "caption")}
    rows[NEEDS[layout]] = made
    table, counts = release(tmp_path, layout, **rows)
    assert table.num_rows == counts[f"rows.{layout}"] == 2
    assert counts["rows.all"] == 6
    # The manifest's check compares the files of such a table with this count, and not with the number of all pairs.
    manifest = {
        "files": {f"{layout}/multi-00000.parquet": {"rows": 1}},
        "merkle": {"leaves": 0},
        "parameters": {"release": {"tables": [layout]}},
        "counts": {"release": {f"rows.{layout}": 2}},
    }
    assert [problem for problem in manifest_counts.contradictions(manifest) if problem[0] == layout] == [
        (layout, f"its files have 1 rows, counts.release.rows.{layout} says 2")
    ]


def test_layouts_that_need_a_text_are_the_same_for_parameters_manifest_and_tables() -> None:
    assert set(NEEDS) == set(layouts.HAVING) == set(manifest_counts.PARTIAL)
    assert all(column in layouts.NEW[NEEDS[layout]] for layout, column in layouts.HAVING.items())


@pytest.mark.parametrize("layout", layouts.HAVING)
def test_a_layout_has_no_rows_where_its_stage_is_off_and_the_counts_say_so(tmp_path: Path, layout: str) -> None:
    table, counts = release(tmp_path, layout, off=(NEEDS[layout],))
    assert table.num_rows == counts[f"rows.{layout}"] == 0
    assert counts["rows.all"] == 1
