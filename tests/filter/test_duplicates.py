"""Which of pairs with equal, nearly equal or similar images stay: rules that hold for any pairs and any edges."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from made.versions import judging, tables

from laion_dask import params, schema
from laion_dask.filter import duplicates
from laion_dask.filter import part as select
from laion_dask.schema import groups as group_schema

RULES = judging.changed(near_duplicates="drop", semantic_duplicates=0.05)


def names(*numbers: int) -> pa.ChunkedArray:
    return pa.chunked_array([[tables.uid(number) for number in numbers]], pa.string())


def losers(
    images: Mapping[int, int],
    near: list[tuple[int, int]] | None = None,
    semantic: list[tuple[int, int]] | None = None,
    *,
    equal: bool = True,
) -> dict[int, tuple[str, int]]:
    """Decide among pairs that are given with their images; both are numbers."""
    passing = pa.table({"uid": names(*images), "image": names(*images.values())})
    kinds = {"near_duplicate": near, "semantic_duplicate": semantic}
    edges = {
        reason: (names(*(a for a, _ in pairs)), names(*(b for _, b in pairs)))
        for reason, pairs in kinds.items()
        if pairs is not None
    }
    found = duplicates.losers(passing, edges, equal=equal)
    assert found.schema == duplicates.LOSERS
    return {int(row["uid"], 16): (row["reason"], int(row["stays"], 16)) for row in found.to_pylist()}


def alone(*uids: int) -> dict[int, int]:
    return {uid: uid for uid in uids}


class TestWhoStays:
    def test_of_equal_images_the_lowest_uid_stays(self) -> None:
        assert losers({7: 3, 9: 3, 5: 4}) == {9: ("duplicate_image", 7)}

    def test_of_near_and_of_similar_images_the_lowest_uid_stays(self) -> None:
        assert losers(alone(1, 2, 3), [(1, 2)], [(1, 3)]) == {2: ("near_duplicate", 1), 3: ("semantic_duplicate", 1)}

    def test_a_chain_drops_only_what_is_like_a_kept_one(self) -> None:
        # 3 is like 2 and not like 1: as 2 is gone, 3 stays.
        assert losers(alone(1, 2, 3, 4), [(1, 2), (2, 3), (3, 4)]) == {
            2: ("near_duplicate", 1),
            4: ("near_duplicate", 3),
        }

    def test_a_pair_that_fails_another_rule_takes_none_with_it(self) -> None:
        # 1 is near to both and does not pass: it is not among the pairs.
        assert losers(alone(2, 3), [(1, 2), (1, 3)]) == {}

    def test_an_image_is_stood_for_by_whichever_of_its_pairs_passes(self) -> None:
        # Image 1 is known by a pair that does not pass; its other pair, 8, comes after 5.
        assert losers({5: 5, 8: 1}, [(1, 5)]) == {8: ("near_duplicate", 5)}

    def test_the_first_reason_of_the_closed_list_is_named(self) -> None:
        assert losers(alone(1, 2), [(1, 2)], [(1, 2)]) == {2: ("near_duplicate", 1)}
        assert losers({1: 1, 2: 1}, [], []) == {2: ("duplicate_image", 1)}

    def test_equal_images_that_may_stay_stand_and_fall_together(self) -> None:
        assert losers({1: 1, 2: 1, 3: 3}, equal=False) == {}
        assert losers({1: 1, 4: 3, 5: 3, 6: 1}, [(1, 3)], equal=False) == {
            4: ("near_duplicate", 1),
            5: ("near_duplicate", 1),
        }

    def test_without_pairs_nobody_loses(self) -> None:
        assert losers({}, [], []) == {}


EDGES = st.lists(st.tuples(st.integers(0, 11), st.integers(0, 11)).filter(lambda pair: pair[0] < pair[1]), max_size=30)


@pytest.mark.slow
@settings(deadline=None, max_examples=200)
@given(st.dictionaries(st.integers(0, 30), st.integers(0, 11), max_size=20), EDGES, EDGES)
def test_each_dropped_pair_has_a_kept_one_within_the_threshold_and_no_two_kept_ones_are_within_it(
    images: dict[int, int], near: list[tuple[int, int]], semantic: list[tuple[int, int]]
) -> None:
    lost = losers(images, near, semantic)
    kept = images.keys() - lost.keys()
    within = {
        "duplicate_image": {(image, image) for image in images.values()},
        "near_duplicate": {pair for a, b in near for pair in ((a, b), (b, a))},
        "semantic_duplicate": {pair for a, b in semantic for pair in ((a, b), (b, a))},
    }
    for uid, (reason, stays) in lost.items():
        assert stays in kept
        assert stays < uid
        assert (images[uid], images[stays]) in within[reason]
    every = set.union(*within.values())
    assert not [(one, other) for one in kept for other in kept if one < other and (images[one], images[other]) in every]


# Over all shards


def edge_file(path: Path, *rows: tuple[int, int, int | None, float]) -> None:
    columns = {
        "uid_a": [tables.uid(a) for a, *_ in rows],
        "uid_b": [tables.uid(b) for _, b, *_ in rows],
        "distance": [distance for *_, distance, _ in rows],
        "cosine": [cosine for *_, cosine in rows],
    }
    table = pa.table(columns, schema=group_schema.EDGES.schema)
    tables.write(path, group_schema.EDGES.check(table))


def version(
    folder: Path, scores: list[dict[str, Any]], groups: list[dict[str, Any]], shard_rows: int
) -> dict[str, list[Path]]:
    """Cut rows into shards; scores and groups lie in another order than the images."""
    made = {
        "images": tables.images(*({} for _ in scores)),
        "scores": tables.scores(*scores),
        "groups": tables.groups(*groups),
    }
    found: dict[str, list[Path]] = {name: [] for name in made}
    for name, table in made.items():
        for number, start in enumerate(range(0, table.num_rows, shard_rows)):
            part = table.slice(start, shard_rows)
            part = part if name == "images" else part.take(list(reversed(range(part.num_rows))))
            found[name].append(tables.write(folder / name / f"{number:05}.parquet", part))
    return found


def find(folder: Path, paths: dict[str, list[Path]], rules: params.Filter = RULES) -> list[dict[str, str]]:
    """Judge shard by shard, then find duplicates of all; sorted by uid."""
    verdicts = []
    for files in zip(paths["images"], paths["scores"], paths["groups"], strict=True):
        name = files[0].stem
        out = folder / "verdicts" / name
        out.mkdir(parents=True)
        tables_of = dict(zip(("images", "scores", "groups"), files, strict=True))
        columns = judging.columns(pq.read_table(tables_of["scores"]), rules)
        select.judge(out, name=name, **tables_of, columns=columns, settings=rules, files=judging.NOTHING, batches={})
        verdicts.append(out / f"{name}.parquet")
    found = duplicates.find(verdicts, paths["groups"], folder, rules)
    rows = [
        {"uid": uid, "reason": reason, "stays": stays}
        for reason, shards in found.items()
        for losers in shards.values()
        for uid, stays in zip(*losers, strict=True)
    ]
    return sorted(rows, key=lambda row: row["uid"])


@pytest.fixture
def edges(tmp_path: Path) -> Path:
    edge_file(tmp_path / "near.parquet", (1, 2, 31, 0.9), (2, 5, 12, 0.89), (0, 4, 3, 0.99))
    edge_file(tmp_path / "semantic.parquet", (1, 3, None, 0.96), (3, 5, None, 0.94))
    return tmp_path


SCORES: list[dict[str, Any]] = [{"punsafe": 0.9}, {}, {}, {}, {}, {}, {}]
GROUPS: list[dict[str, Any]] = [{}, {}, {}, {}, {}, {}, {"image": tables.uid(5)}]


@pytest.mark.parametrize("shard_rows", [2, 3, 7])
def test_thresholds_choose_the_edges_and_shards_do_not_matter(edges: Path, shard_rows: int) -> None:
    paths = version(edges, SCORES, GROUPS, shard_rows)
    stays = tables.uid(1)
    assert find(edges, paths) == [
        {"uid": tables.uid(2), "reason": "near_duplicate", "stays": stays},
        {"uid": tables.uid(3), "reason": "semantic_duplicate", "stays": stays},
        {"uid": tables.uid(6), "reason": "duplicate_image", "stays": tables.uid(5)},
    ]


@pytest.mark.parametrize(
    ("changes", "lost"),
    [
        ({"near_duplicates": "keep"}, [3, 6]),
        ({"semantic_duplicates": None}, [2, 6]),
        ({"near_duplicates": "keep", "semantic_duplicates": None}, [6]),
        ({"near_max_distance": 30, "near_min_cosine": 0.0}, [3, 5, 6]),
        ({"near_min_cosine": 0.91}, [3, 6]),
        ({"near_min_cosine": 0.0, "max_punsafe": 1.0}, [2, 3, 4, 6]),
        ({"semantic_duplicates": 0.07}, [2, 3, 6]),
        ({"semantic_duplicates": 0.03}, [2, 6]),
        ({"duplicate_images": "keep"}, [2, 3]),
        ({"duplicate_images": "keep", "near_duplicates": "keep", "semantic_duplicates": None}, []),
    ],
)
def test_another_threshold_drops_other_pairs(edges: Path, changes: dict[str, Any], lost: list[int]) -> None:
    found = find(edges, version(edges, SCORES, GROUPS, 3), RULES.model_copy(update=changes))
    assert [int(row["uid"], 16) for row in found] == lost


def test_without_shards_nobody_loses(edges: Path) -> None:
    assert find(edges, {"images": [], "scores": [], "groups": []}) == []


@pytest.mark.parametrize(
    ("limits", "dropped"),
    [
        ((None, None), []),
        ((31, 0.96), [0, 1, 2]),
        ((12, None), [0]),
        ((None, 0.96), [1, 2]),
        ((None, 0.961), [1]),
    ],
)
def test_what_is_too_close_to_an_evaluation_set_is_dropped_before_duplicates(
    tmp_path: Path, limits: tuple[int | None, float | None], dropped: list[int]
) -> None:
    groups: list[dict[str, Any]] = [
        {"evaluation_distance": 12.0, "evaluation_cosine": 0.5},
        {"evaluation_distance": 31.0, "evaluation_cosine": 0.99},
        {"evaluation_cosine": float(np.float32(0.96))},
        {},
    ]
    edge_file(tmp_path / "near.parquet")
    edge_file(tmp_path / "semantic.parquet")
    rules = RULES.model_copy(update={"evaluation_max_distance": limits[0], "evaluation_min_cosine": limits[1]})
    find(tmp_path, version(tmp_path, [{}] * 4, groups, 4), rules)
    found = pq.read_table(tmp_path / "verdicts" / "00000" / "00000.parquet")["reason"].to_pylist()
    assert [place for place, verdict in enumerate(found) if verdict == "evaluation_set"] == dropped


def test_an_image_near_an_evaluation_set_stands_for_no_other(edges: Path) -> None:
    groups = [*GROUPS]
    groups[1] = {"evaluation_distance": 0.0}
    rules = RULES.model_copy(update={"evaluation_max_distance": 31})
    found = find(edges, version(edges, SCORES, groups, 3), rules)
    assert [int(row["uid"], 16) for row in found] == [6]


def test_a_passing_pair_without_a_row_in_the_groups_stops_the_stage(edges: Path) -> None:
    paths = version(edges, [{}, {}], [{}], 2)
    rules = RULES.model_copy(update={"evaluation_max_distance": 31})
    with pytest.raises(ValueError, match="1 pairs have no row in the groups: run the stage group again"):
        find(edges, paths, rules)


def test_the_table_of_verdicts_has_a_column_for_who_stays() -> None:
    assert schema.VERDICTS.names[-1] == "stays"
