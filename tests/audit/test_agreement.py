"""Agreement between labelers: the published examples, and what cannot be judged."""

from __future__ import annotations

from collections import Counter

import pytest

from laion_dask.audit import agreement
from laion_dask.audit.labels import DataPoint

TIME = "2026-01-31T12:00:00Z"


def test_cohens_kappa_is_that_of_the_textbook() -> None:
    # 50 grants, two readers: both yes 20, both no 15, yes/no 5, no/yes 10: observed 0.7, chance 0.5.
    one = ["yes"] * 20 + ["no"] * 15 + ["yes"] * 5 + ["no"] * 10
    two = ["yes"] * 20 + ["no"] * 15 + ["no"] * 5 + ["yes"] * 10
    assert agreement.cohen(one, two) == pytest.approx(0.4)


def test_fleiss_kappa_is_that_of_the_known_example() -> None:
    # 10 subjects, 14 raters, 5 categories: kappa 0.210 (the worked example of Fleiss' kappa in the encyclopedias).
    table = ["0 0 0 0 14", "0 2 6 4 2", "0 0 3 5 6", "0 3 9 2 0", "2 2 8 1 1", "7 7 0 0 0", "3 2 6 3 0", "2 5 3 2 2",
             "6 5 2 1 0", "0 2 2 3 7"]  # fmt: skip
    counts = [Counter({str(place): int(number) for place, number in enumerate(row.split())}) for row in table]
    assert agreement.fleiss(counts) == pytest.approx(0.210, abs=5e-4)


def test_two_labelers_get_cohens_and_three_fleiss_over_the_pairs_that_they_share() -> None:
    def labels(*labelers: str) -> list[DataPoint]:
        given = {"a": "yyny", "b": "yynn", "c": "ynny"}
        names = {"y": "yes", "n": "no"}
        return [
            DataPoint(f"{place}", "unsafe", labeler, names[answer], TIME)
            for labeler in labelers
            for place, answer in enumerate(given[labeler])
        ]

    two = agreement.agreement([*labels("a", "b"), DataPoint("9", "unsafe", "a", "yes", TIME)], ["unsafe"])[0]
    assert (two.measure, two.labelers, two.pairs, two.agreed) == ("Cohen's kappa", 2, 4, 0.75)
    assert two.kappa == pytest.approx(0.5)
    three = agreement.agreement(labels("a", "b", "c"), ["unsafe"])[0]
    assert (three.measure, three.labelers, three.pairs) == ("Fleiss' kappa", 3, 4)
    assert three.kappa == pytest.approx((2 / 3 - (49 + 25) / 144) / (1 - (49 + 25) / 144))


def test_one_and_the_same_answer_throughout_leaves_kappa_undefined() -> None:
    found = [DataPoint(str(uid), "unsafe", labeler, "no", TIME) for uid in range(5) for labeler in "ab"]
    assert agreement.agreement(found, ["unsafe"])[0].kappa is None
    assert agreement.fleiss([Counter(no=3)] * 4) is None


def test_labelers_that_share_no_pair_have_no_agreement() -> None:
    found = [DataPoint("1", "unsafe", "a", "no", TIME), DataPoint("2", "unsafe", "b", "no", TIME)]
    one = agreement.agreement(found, ["unsafe"])[0]
    assert (one.pairs, one.agreed, one.kappa) == (0, None, None)
