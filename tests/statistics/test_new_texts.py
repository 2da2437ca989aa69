"""Texts that models wrote, in numbers: counts that add up, deciles, wins, and what is true of them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made.versions import sample_version, tables

from laion_dask import params
from laion_dask.statistics import new_text_truth, new_texts


@pytest.fixture(scope="module")
def data(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_version.write(tmp_path_factory.mktemp("version"))[0]


def test_every_kept_pair_has_a_new_text_or_a_reason_in_each_stage_and_split(data: Path) -> None:
    found = new_texts.collect(data)
    kept = sum(pq.read_table(path)["reason"].to_pylist().count("keep") for path in (data / "filter").glob("0*.parquet"))
    assert {one.pairs for one in found if one.split == new_texts.ALL} == {kept}
    for one in found:
        assert one.pairs == one.written + sum(one.without.values())
        assert sum(one.alt) == sum(one.new) == one.wins.total <= one.written
    splits = [one for one in found if one.split != new_texts.ALL]
    for stage in new_texts.KINDS:
        assert sum(one.written for one in splits if one.stage == stage) == next(
            one.written for one in found if (one.stage, one.split) == (stage, new_texts.ALL)
        )


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_deciles_and_wins_are_those_of_the_numbers_to_the_width_of_a_bin(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    alt, new = rng.normal(0.3, 0.1, 500).clip(-1, 1), rng.normal(0.35, 0.2, 500).clip(-1, 1)
    uids = [tables.uid(number) for number in range(500)]
    tables.write(tmp_path / "download" / "00000.parquet", tables.images(*({"uid": uid} for uid in uids)))
    rows = [{"uid": uid, "similarity": a, "caption_similarity": b} for uid, a, b in zip(uids, alt, new, strict=True)]
    tables.write(tmp_path / "caption" / "00000.parquet", tables.captions(*rows[::-1]))
    (tmp_path / "translate").mkdir()
    english, everything = new_texts.collect(tmp_path)
    assert (english.stage, english.split, everything.split) == ("caption", "en", new_texts.ALL)
    shares = np.array(new_texts.DECILES) / 100
    for values, found in ((alt, english.deciles["alt"]), (new, english.deciles["new"])):
        assert np.abs(np.quantile(values, shares, method="inverted_cdf") - found).max() <= 0.0011
    assert english.wins.count == int((new.astype(np.float32) > alt.astype(np.float32)).sum())


def test_a_stage_that_is_off_has_no_numbers(tmp_path: Path) -> None:
    for stage in ("translate", "caption"):
        (tmp_path / stage).mkdir()
    assert new_texts.collect(tmp_path) == []


@pytest.mark.parametrize(
    ("text", "right"),
    [
        ("A red star in the snow", True),
        ("the STAR is Red", True),
        ("a red starfish", False),
        ("a star", False),
        ("reddish star", False),
        ("", False),
    ],
)
def test_a_text_is_right_where_it_names_thing_and_color_as_whole_words(text: str, right: bool) -> None:  # noqa: FBT001 - a table
    assert new_text_truth.names(text, "star", "red") is right


def test_right_texts_are_judged_against_the_labels(data: Path) -> None:
    english, caption = new_text_truth.decisions(data, params.load())
    assert (english.name, caption.name) == ("english_right", "caption_right")
    # All captions of the sample name a red star, as all of its labels do; its English texts name neither.
    assert (caption.precision, english.precision) == (1.0, 0.0)
    assert caption.judged == sum(one.written for one in new_texts.collect(data) if one.stage == "caption") / 2
