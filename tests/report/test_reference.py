"""Published numbers: each table has its sources, and agrees with what else is known of the same data set."""

from __future__ import annotations

import pytest
from matplotlib import rc_context

from laion_dask.report import figures, reference, reference_figures
from laion_dask.statistics.summary import ALL, Drop, FunnelStep, Split, Statistics

TABLES = sorted(file.stem for file in reference.FOLDER.glob("*.csv"))


@pytest.mark.parametrize("name", TABLES)
def test_a_table_says_where_its_numbers_are_from_and_has_no_empty_cell(name: str) -> None:
    assert "Source" in reference.source(name)
    rows = reference.read(name)
    assert rows
    assert all(value not in {"", None} for row in rows for value in row.values())
    assert len({tuple(row.values()) for row in rows}) == len(rows)


def test_filters_of_datacomp_keep_less_than_their_pool_and_the_best_average_is_the_published_one() -> None:
    rows = reference.read("datacomp_table3")
    pools = {row["scale"]: int(row["samples"]) for row in rows if row["filter"] == "none"}
    assert pools == {"small": 12_800_000, "medium": 128_000_000, "large": 1_280_000_000, "xlarge": 12_800_000_000}
    assert all(int(row["samples"]) < pools[row["scale"]] for row in rows if row["filter"] != "none")
    scores = ("imagenet", "shifts", "vtab", "retrieval", "average")
    assert all(0 < float(row[score]) < 1 for row in rows for score in scores)
    best = max((row for row in rows if row["scale"] == "xlarge"), key=lambda row: float(row["average"]))
    assert (best["filter"], best["average"], best["imagenet"]) == ("image_clip", "0.663", "0.792")


def test_the_parts_of_laion_5b_add_up_to_the_whole() -> None:
    rows = [row for row in reference.read("funnels") if row["set"] == "LAION-5B"]
    parts = sum(int(row["rows"]) for row in rows if row["kind"] == "step")
    assert parts == next(int(row["rows"]) for row in rows if row["kind"] == "kept")


def test_shares_are_of_what_their_name_says() -> None:
    shares = reference.shares()
    assert shares["kept, of links with a text"]["LAION-5B"] == pytest.approx(0.117)
    assert shares["downloaded, of those asked for"]["CommonPool 2022"] == pytest.approx(16.8 / 40)
    assert shares["kept, of those downloaded"]["DataComp clip_l14_30"] == pytest.approx(0.3)
    assert reference.rates("unsafe_of_kept") == {"en": 0.029, "multi": 0.033, "nolang": 0.03}
    assert reference.rates("unsafe_of_scored") == {}
    for values in reference.percentiles().values():
        assert list(values) == sorted(values)


def statistics(links: int, attempts: int, downloaded: int, kept: int) -> tuple[list[FunnelStep], Statistics]:
    steps = [FunnelStep("extract", "links", links, kept, (Drop("no_alt", links - kept, "none"),))]
    split = Split(ALL, attempts, downloaded, downloaded, kept)
    return steps, Statistics((split,), (), None, (), (), (), 0, (), ())  # type: ignore[arg-type] - not asked for


def test_own_shares_stand_beside_the_published_ones_of_the_same_name() -> None:
    steps, numbers = statistics(1_000, 500, 400, 100)
    own = reference_figures.own_shares(steps, numbers)
    assert own == {
        "downloaded, of those asked for": 0.8,
        "kept, of those downloaded": 0.25,
        "kept, of links with a text": 0.1,
    }
    assert set(own) == set(reference.shares())
    with rc_context(figures.STYLE):
        drawn = reference_figures.shares(steps, numbers)
    texts = [text.get_text() for axes in drawn.axes for text in axes.texts]
    assert {"80 %", "25 %", "10 %", "42 %"} <= set(texts)


def test_a_share_of_nothing_is_left_out() -> None:
    assert reference_figures.own_shares(*statistics(0, 0, 0, 0)) == {}
