"""A release in two levels of parts has the bytes of one that sorts everything at once."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from made.versions import tables

from laion_dask import params
from laion_dask.release import layouts, part
from laion_dask.release.tables import files, kinds, places, runs, steps
from laion_dask.release.tables.kept import Shards
from laion_dask.runner import attempts, parts
from laion_dask.runner.part import Done, Part, with_code
from laion_dask.runner.stage import add_up
from laion_dask.schema.reasons import KEEP
from laion_dask.schema.values import SPLITS

MODELS = {"l14": {"model": "ViT-L-14-quickgelu"}}
RULES = params.load().release.model_copy(
    update={"tables": layouts.NAMES, "rows_per_file": 7, "high_resolution_px": 1000, "aesthetic": (5.0, 7.0)}
)


def shards_of(
    folder: Path, seed: int, lengths: Sequence[int], weights: Sequence[float], *, off: bool = False
) -> Shards:
    """Write shards of so many attempts, with splits drawn by their weights, and a share of the pairs dropped."""
    rng = np.random.default_rng(seed)
    found: dict[str, list[Path]] = {name: [] for name in ("images", "scores", "verdicts", "translate", "caption")}
    for number, rows in enumerate(lengths):
        uids = [hashlib.md5(f"{seed} {number} {row}".encode()).hexdigest() for row in range(rows)]
        chances = np.array(weights) / sum(weights)
        splits = [SPLITS[place] for place in rng.choice(3, rows, p=chances)]
        reasons = [KEEP if kept else "low_similarity" for kept in rng.random(rows) < 0.8]
        sides = [int(side) for side in rng.integers(200, 1600, rows)]
        made = {
            "images": tables.images(
                *(
                    {"uid": uid, "url": f"https://a.example/{uid}", "original_width": side, "original_height": side}
                    for uid, side in zip(uids, sides, strict=True)
                )
            ),
            "scores": tables.scores(
                *(
                    {"uid": uid, "aesthetic": float(score)}
                    for uid, score in zip(uids, rng.normal(6, 1.5, rows), strict=True)
                )
            ),
            "verdicts": tables.verdicts(
                *(
                    {"uid": uid, "split": split, "reason": reason}
                    for uid, split, reason in zip(uids, splits, reasons, strict=True)
                )
            ),
        }
        kept = [uid for uid, reason in zip(uids, reasons, strict=True) if reason == KEEP]
        some = [{"uid": uid, "reason": KEEP if rng.random() < 0.5 else "no_language"} for uid in kept]
        made["translate"] = tables.translations(*some)
        made["caption"] = tables.captions(*({"uid": uid} for uid in kept))
        for name, table in made.items():
            order = pa.array(rng.permutation(table.num_rows))
            found[name].append(tables.write(folder / name / f"{number:05d}.parquet", table.take(order)))
    new_texts = {stage: [] if off else found[stage] for stage in ("translate", "caption")}
    return Shards(found["images"], found["scores"], found["verdicts"], new_texts)


def runner(work: Path) -> Callable[[attempts.PartFunction, Sequence[Part]], Sequence[Done]]:
    def run(function: attempts.PartFunction, todo: Sequence[Part]) -> Sequence[Done]:
        keyed = with_code(todo, "code")
        assert len({one.name for one in todo}) == len({one.key for one in keyed}) == len(todo)
        return [Done(one, work / one.key, attempts.finish_part(function, work / one.key, one.args)) for one in keyed]

    return run


def published(done: Sequence[Done], out: Path, kept: int) -> tuple[dict[str, str], dict[str, Any]]:
    """Return the digests of all files and the counts."""
    out.mkdir()
    parts.publish_files(done, out)
    found = {
        path.relative_to(out).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in out.rglob("*.parquet")
    }
    counts = add_up("release", "pairs", done, {"pairs": kept})
    return found, {name: value for name, value in counts.items() if name != "parts"}


def kept_of(shards: Shards) -> int:
    return sum(pq.read_table(path)["reason"].to_pylist().count(KEEP) for path in shards.verdicts)


def both(
    folder: Path, shards: Shards, range_pairs: int, rules: params.Release = RULES
) -> list[tuple[dict[str, str], dict[str, Any]]]:
    """Make the release in one level and in two."""
    kept, run = kept_of(shards), runner(folder / "work")
    once = run(part.release, steps.splits(shards, rules, MODELS))
    twice = steps.by_ranges(shards, kept, rules, MODELS, run, range_pairs)
    return [published(done, folder / name, kept) for name, done in (("once", once), ("twice", twice))]


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    seed=st.integers(0, 1000),
    lengths=st.lists(st.integers(0, 40), min_size=1, max_size=5),
    weights=st.sampled_from([(1, 1, 1), (1, 0, 0), (0, 1, 0.2), (3, 2, 1)]),
    range_pairs=st.integers(1, 60),
    rows_per_file=st.integers(1, 30),
    off=st.booleans(),
)
def test_any_number_of_ranges_and_of_runs_gives_the_same_bytes_and_counts(
    tmp_path_factory: pytest.TempPathFactory,
    seed: int,
    lengths: list[int],
    weights: tuple[float, float, float],
    range_pairs: int,
    rows_per_file: int,
    off: bool,  # noqa: FBT001 - drawn by hypothesis
) -> None:
    folder = tmp_path_factory.mktemp("two")
    shards = shards_of(folder, seed, lengths, weights, off=off)
    if kept_of(shards):
        once, twice = both(folder, shards, range_pairs, RULES.model_copy(update={"rows_per_file": rows_per_file}))
        assert once == twice
        assert once[0]


def test_files_of_every_table_go_on_over_the_borders_of_ranges(tmp_path: Path) -> None:
    shards = shards_of(tmp_path, 1, [60, 60, 60], (2, 1, 1))
    once, twice = both(tmp_path, shards, 20)
    assert once == twice
    assert {name.partition("/")[0] for name in once[0] if "/" in name} == {
        "high_resolution",
        "aesthetic_5",
        "aesthetic_7",
    } | set(layouts.NAMES)
    assert {"en-00003.parquet", "high_resolution/en-00001.parquet", "laion-translated/en-00001.parquet"} <= once[
        0
    ].keys()


def test_row_groups_are_those_of_one_level(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "ROW_GROUP", 11)
    once, twice = both(
        tmp_path, shards_of(tmp_path, 2, [90, 90], (1, 0, 0)), 25, RULES.model_copy(update={"rows_per_file": 50})
    )
    assert once == twice
    metadata = pq.read_metadata(tmp_path / "twice" / "en-00000.parquet")
    assert [metadata.row_group(number).num_rows for number in range(metadata.num_row_groups)] == [11, 11, 11, 11, 6]


def test_no_split_has_more_files_than_laion_has(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MAX_FILES", 3)
    once, twice = both(tmp_path, shards_of(tmp_path, 3, [50, 50], (1, 1, 0)), 15)
    assert once == twice
    assert len([name for name in once[0] if name.startswith("en-")]) == 3


def test_a_subset_without_pairs_has_no_file_and_is_counted(tmp_path: Path) -> None:
    rules = RULES.model_copy(update={"high_resolution_px": 5000})
    once, twice = both(tmp_path, shards_of(tmp_path, 4, [40, 40], (1, 1, 1)), 20, rules)
    assert once == twice
    assert twice[1]["rows.high_resolution"] == 0
    assert not any(name.startswith("high_resolution") for name in twice[0])


@pytest.mark.parametrize(("pairs", "expected"), [(0, 1), (1, 1), (500_000, 1), (500_001, 2), (10_000_000, 20)])
def test_the_number_of_ranges_follows_from_the_pairs_alone(pairs: int, expected: int) -> None:
    assert steps.ranges(pairs) == expected


def test_a_run_has_the_shards_that_hold_half_a_range_of_pairs_on_average(tmp_path: Path) -> None:
    shards, made = shards_of(tmp_path, 5, [10] * 7, (1, 0, 0)), []

    def run(_: attempts.PartFunction, todo: Sequence[Part]) -> Sequence[Done]:
        made.extend(todo)
        raise LookupError

    with pytest.raises(LookupError):
        steps.by_ranges(shards, 56, RULES, MODELS, run, 48)
    assert [[path.stem for path in one.args["images"]] for one in made] == [
        ["00000", "00001", "00002"],
        ["00003", "00004", "00005"],
        ["00006"],
    ]
    assert [len(one.args["new_texts"]["caption"]) for one in made] == [3, 3, 1]
    assert {one.args["ranges"] for one in made} == {2}


def test_ranges_are_in_the_order_of_uids_and_of_equal_width() -> None:
    uids = ["0" * 32, "3" + "f" * 31, "4" + "0" * 31, "8" + "0" * 31, "f" * 32]
    assert runs.range_of(pa.table({"uid": uids}), 4).tolist() == [0, 0, 1, 2, 3]
    assert runs.range_of(pa.table({"uid": uids}), 1).tolist() == [0] * 5


def test_a_file_is_placed_by_the_pairs_of_earlier_ranges() -> None:
    kind = kinds.kinds(RULES)[0]
    counts = np.zeros((1, 3, 4), np.int64)
    counts[0, 0] = [5, 0, 9, 3]
    rules = RULES.model_copy(update={"rows_per_file": 7})
    found = list(places.places([kind], counts, rules, 1))
    assert [(one.number, one.rows, one.first, one.last, one.skip) for one in found] == [
        (0, 7, 0, 2, 0),
        (1, 7, 2, 2, 2),
        (2, 3, 3, 3, 0),
    ]
    assert {one.split for one in found} == {"en"}
    assert [(one.number, one.rows) for one in places.places([kind], counts, rules, 15)] == [(0, 14), (2, 3)]
