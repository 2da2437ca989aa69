"""A shard judged and settled: a verdict for every attempt, counts that add up, and what all shards decide together."""

from __future__ import annotations

import random
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
from laion_dask.filter import duplicates, part, pool, rules, uid_sets
from laion_dask.filter.sampling import balance
from laion_dask.schema.ledger import Ledger
from laion_dask.schema.reasons import KEEP
from laion_dask.schema.values import SPLITS

NAN = float("nan")


def judge(folder: Path, images: pa.Table, scores: pa.Table, wanted: params.Filter, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - other arguments of the function
    """Judge a shard in a folder of its own, where its tables are written too."""
    name = str(more.pop("name", "00017"))
    out = folder / name
    out.mkdir(parents=True)
    return part.judge(
        out,
        name=name,
        images=tables.write(folder / "images" / f"{name}.parquet", images),
        scores=tables.write(folder / "score" / f"{name}.parquet", scores),
        groups=tables.write(folder / "group" / f"{name}.parquet", judging.grouped(images)),
        columns=judging.columns(scores, wanted, more.get("files", judging.NOTHING)),
        settings=wanted,
        **{"files": judging.NOTHING, "batches": {}, **more},
    )


def test_a_shard_gets_a_verdict_for_every_attempt_and_counts_those_with_an_image(tmp_path: Path) -> None:
    images = tables.images({}, {"reason": "robots"}, {"split": "multi"}, {"original_width": 9})
    scores = tables.scores({"punsafe": 0.9, "similarity": 0.1}, {"similarity": NAN}, {}, {})
    counts = judge(tmp_path, images, scores, judging.RULES)
    assert counts == {
        "pairs": {"seen": 3, "kept": 1, "dropped": {"image_too_small": 1, "unsafe": 1}},
        "verdicts": 4,
        "listed": {},
        "rules": [
            ["image_too_small", "image_too_small", 1, 1],
            ["aspect_ratio", "aspect_ratio", 1, 0],
            ["few_words", "few_words", 0, 0],
            ["unsafe", "unsafe", 1, 1],
            ["watermark", "watermark", 0, 0],
            ["low_similarity", "low_similarity", 1, 0],
        ],
    }
    Ledger.from_dict(counts["pairs"]).check("filter", expected=3)
    verdicts = schema.VERDICTS.check(pq.read_table(tmp_path / "00017" / "00017.parquet"))
    assert verdicts["reason"].to_pylist() == ["unsafe", "robots", KEEP, "image_too_small"]
    assert verdicts["rules"].to_pylist() == [1 << 5 | 1 << 7, 0, 0, 1 << 2 | 1 << 3]
    assert verdicts["uid"].to_pylist() == images["uid"].to_pylist()
    assert verdicts["split"].to_pylist() == ["en", "en", "multi", "en"]
    assert set(verdicts["shard"].to_pylist()) == {17}


# What all shards decide together


def shards(
    folder: Path, images: pa.Table, scores: pa.Table, wanted: params.Filter, files: rules.Files
) -> list[pool.JudgedShard]:
    """Judge tables as shards of two rows."""
    found = []
    for start in range(0, images.num_rows, 2):
        name = f"{start // 2:05}"
        judge(folder, images.slice(start, 2), scores.slice(start, 2), wanted, name=name, files=files)
        found.append(
            pool.JudgedShard(name, folder / name / f"{name}.parquet", folder / name / part.PENDING / f"{name}.parquet")
        )
    return found


def settled(
    folder: Path, judged: list[pool.JudgedShard], rule: str, decisions: dict[str, Any], wanted: params.Filter
) -> list[str]:
    """Settle the shards that a decision names, and return all verdicts."""
    reason, bit = rules.bits(wanted)[rule]
    found: list[str] = []
    for shard in judged:
        path = shard.verdicts
        if shard.name in decisions:
            out = folder / f"{rule}-{shard.name}"
            out.mkdir()
            counts = part.settle(
                out,
                name=shard.name,
                verdicts=path,
                pending=shard.pending,
                decided=[((rule, reason, bit), decisions[shard.name])],
                counts=[],
            )
            path = out / f"{shard.name}.parquet"
            table = schema.VERDICTS.check(pq.read_table(path))
            own = [int(row) >> bit & 1 for row in table["rules"].to_pylist()]
            assert counts["rules"] == [[rule, reason, sum(own), table["reason"].to_pylist().count(reason)]]
            assert counts["verdicts"] == table.num_rows
        found += pq.read_table(path)["reason"].to_pylist()
    return found


def test_two_rules_that_are_settled_at_once_are_two_that_are_settled_one_after_the_other(tmp_path: Path) -> None:
    wanted = judging.changed(near_duplicates="drop")
    (shard,) = shards(tmp_path, tables.images({}, {}), tables.scores({}, {}), wanted, judging.NOTHING)
    uids = pq.read_table(shard.verdicts)["uid"].to_pylist()
    bits = rules.bits(wanted)
    # The second pair is lost by both; the first of them names the reason and what stays instead.
    decided = [
        (("duplicate_image", *bits["duplicate_image"]), part.Losers([uids[1]], [uids[0]])),
        (("near_duplicate", *bits["near_duplicate"]), part.Losers([uids[1], uids[0]], ["x", "y"])),
    ]
    (once := tmp_path / "once").mkdir()
    common = {"name": shard.name, "pending": shard.pending}
    counts = part.settle(once, verdicts=shard.verdicts, decided=decided, counts=[["few_words"] * 2 + [0, 0]], **common)
    path, told = shard.verdicts, {"rules": [["few_words", "few_words", 0, 0]]}
    for place, one in enumerate(decided):
        (out := tmp_path / f"step-{place}").mkdir()
        told = part.settle(out, verdicts=path, decided=[one], counts=told["rules"], **common)
        path = out / f"{shard.name}.parquet"
    assert counts == told
    assert counts["rules"][1:] == [["duplicate_image"] * 2 + [1, 1], ["near_duplicate"] * 2 + [2, 1]]
    table = pq.read_table(once / f"{shard.name}.parquet")
    assert table.equals(pq.read_table(path))
    assert table["reason"].to_pylist() == ["near_duplicate", "duplicate_image"]
    assert table["stays"].to_pylist() == ["y", uids[0]]


@pytest.mark.parametrize(
    ("rule", "expected"),
    [
        # n = 7: the value at place int(7 * 0.5) = 3 is 0.7, which comes three times; NaN and failed rows do not count.
        ({"fraction": 0.5}, [KEEP, "below_top", KEEP, KEEP, "robots", KEEP, "below_top", KEEP, "unsafe"]),
        ({"fraction": 1.0}, [KEEP, KEEP, KEEP, KEEP, "robots", KEEP, "below_top", KEEP, "unsafe"]),
        # Without the unsafe one n = 6: place 1 is 0.8.
        ({"fraction": 0.3, "among": "pool"}, [KEEP, "below_top", KEEP, "below_top", "robots", "below_top", "below_top",
                                              "below_top", "unsafe"]),
        ({"fraction": 0.3, "among": "passing", "share_of": "scored"}, [KEEP, "below_top", KEEP, KEEP, "robots", KEEP,
                                                                     "below_top", KEEP, "unsafe"]),
        # en has 6, place 1 is 0.9; multi has one.
        ({"fraction": 0.3, "by": "split"}, [KEEP, "below_top", "below_top", "below_top", "robots", "below_top",
                                            "below_top", KEEP, "unsafe"]),
    ],
)  # fmt: skip
def test_the_top_fraction_is_cut_as_datacomp_does(tmp_path: Path, rule: dict[str, Any], expected: list[str]) -> None:
    beauty = [0.9, 0.1, 0.8, 0.7, NAN, 0.7, NAN, 0.7, 0.95]
    images = tables.images(
        *({"reason": "robots"} if row == 4 else {"split": "multi" if row == 7 else "en"} for row in range(9))
    )
    scores = tables.scores(
        *({"aesthetic": value, "punsafe": 0.9 if row == 8 else 0.1} for row, value in enumerate(beauty))
    )
    wanted = judging.changed(top=[{"name": "best", "column": "aesthetic", **rule}])
    judged = shards(tmp_path, images, scores, wanted, judging.NOTHING)
    cut = pool.cut(wanted.top[0], judged)
    assert (
        settled(tmp_path, judged, "top_best", dict.fromkeys((shard.name for shard in judged), cut), wanted) == expected
    )


def equal(folder: Path, judged: list[pool.JudgedShard]) -> dict[str, part.Losers]:
    groups = sorted((folder / "group").glob("*.parquet"))
    found = duplicates.find([shard.verdicts for shard in judged], groups, folder, judging.RULES)
    return {name: part.Losers(*losers) for name, losers in found.get("duplicate_image", {}).items()}


SAME, OTHER = {"sha256": "1" * 64}, {"sha256": "2" * 64}


def test_of_equal_images_the_lowest_uid_that_passes_stays(tmp_path: Path) -> None:
    rows = [
        {},
        {**SAME, "uid": tables.uid(9)},
        SAME,
        SAME,
        OTHER,
        {"reason": "timeout"},
        {**OTHER, "uid": tables.uid(1)},
    ]
    images = tables.images(*rows)
    # Of the three, the lowest uid fails another rule.
    scores = tables.scores(
        *({"uid": uid, "similarity": 0.0 if row == 2 else 0.9} for row, uid in enumerate(images["uid"].to_pylist()))
    )
    judged = shards(tmp_path, images, scores, judging.RULES, judging.NOTHING)
    found = equal(tmp_path, judged)
    assert found == {
        "00000": part.Losers([tables.uid(9)], [tables.uid(3)]),
        "00002": part.Losers([tables.uid(4)], [tables.uid(1)]),
    }
    assert settled(tmp_path, judged, "duplicate_image", found, judging.RULES) == [
        KEEP,
        "duplicate_image",
        "low_similarity",
        KEEP,
        "duplicate_image",
        "timeout",
        KEEP,
    ]
    stays = pq.read_table(tmp_path / "duplicate_image-00002" / "00002.parquet")["stays"].to_pylist()
    assert stays == [tables.uid(1), None]


@settings(deadline=None, max_examples=15)
@given(st.lists(st.tuples(st.integers(0, 2), st.booleans()), min_size=1, max_size=9))
def test_each_image_that_passes_is_kept_exactly_once(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[int, bool]]
) -> None:
    folder = tmp_path_factory.mktemp("shards")
    images = tables.images(*({"sha256": str(picture) * 64} for picture, _ in rows))
    scores = tables.scores(*({"punsafe": 0.1 if passes else 0.9} for _, passes in rows))
    judged = shards(folder, images, scores, judging.RULES, judging.NOTHING)
    gone = {uid for losers in equal(folder, judged).values() for uid in losers.uids}
    for picture in range(3):
        own = [tables.uid(row) for row, (one, passes) in enumerate(rows) if one == picture and passes]
        assert [uid for uid in own if uid not in gone] == own[:1]


def test_balancing_keeps_the_rare_and_thins_out_the_common_whatever_the_order(tmp_path: Path) -> None:
    (tmp_path / "entries.txt").write_text("fox\nunicorn\nnever\n")
    texts = ["a red fox"] * 400 + ["a white unicorn"] * 20 + ["nothing here"] * 20
    uids = [f"{random.Random(row).getrandbits(128):032x}" for row in range(len(texts))]
    rule = {"entries": str(tmp_path / "entries.txt"), "t": 40, "seed": 1}
    wanted = judging.changed(balance=rule, min_words=0)
    images = tables.images(*({"caption": text, "uid": uid} for text, uid in zip(texts, uids, strict=True)))
    scores = tables.scores(*({"uid": uid} for uid in uids))
    kept = {}
    for name, order in {
        "one": np.arange(len(texts)),
        "other": np.random.default_rng(0).permutation(len(texts)),
    }.items():
        folder = tmp_path / name
        found = [images.take(order), scores.take(order)]
        judge(folder, *found, wanted, name="00000", files=rules.Files(str(tmp_path)))
        shard = pool.JudgedShard(
            "00000", folder / "00000" / "00000.parquet", folder / "00000" / part.PENDING / "00000.parquet"
        )
        assert wanted.balance is not None
        pool.write_chances(wanted.balance, [shard], folder / "chances.npy")
        assert np.load(folder / "chances.npy").tolist() == [0.1, 1.0, 1.0]
        verdicts = settled(folder, [shard], "unbalanced", {"00000": part.Coins(folder / "chances.npy", 1)}, wanted)
        kept[name] = {uids[row] for row, verdict in zip(order, verdicts, strict=True) if verdict == KEEP}
        assert {*verdicts} == {KEEP, "unbalanced"}
    assert kept["one"] == kept["other"]
    assert kept["one"] >= {*uids[400:420]}
    assert not kept["one"] & {*uids[420:]}
    assert 20 <= len(kept["one"] & {*uids[:400]}) <= 60


def test_another_seed_keeps_others_in_the_same_number() -> None:
    uids = uid_sets.halves(pa.array([f"{random.Random(row).getrandbits(128):032x}" for row in range(20_000)]))
    found = pa.array([[0, 1]] * len(uids), pa.list_(pa.int32()))
    stays = [balance.falls(uids, found, np.array([0.1, 0.2]), seed) for seed in (1, 1, 2)]
    assert (stays[0] == stays[1]).all()
    assert (stays[0] != stays[2]).any()
    # 1 - 0.9 * 0.8 = 0.28, and three times its standard deviation.
    for one in stays:
        assert abs(one.mean() - 0.28) < 0.01


def test_each_split_has_a_threshold_of_similarity() -> None:
    assert tuple(params.Similarity.model_fields) == SPLITS
