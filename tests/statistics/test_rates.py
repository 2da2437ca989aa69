"""Rates by group, sweeps and selection of a made-up version, compared with a plain count of its rows."""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made.versions import sample_version

from laion_dask.params import Params
from laion_dask.release import rate_lines
from laion_dask.report import part, run_metrics
from laion_dask.schema import faces
from laion_dask.statistics import domain_classes, intervals, rate_queries, rates, summary
from laion_dask.statistics.intervals import wilson
from laion_dask.statistics.rates import GroupRate, Rates
from laion_dask.storage import attempts

HOST = "img1.example"


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A version with personal data in one pair in ten, and a tag of each kind."""
    data, _ = sample_version.write(tmp_path_factory.mktemp("version"), links=300)
    for path in sorted((data / "catalog" / "shards").glob("*.parquet")):
        table = pq.read_table(path)
        emails = pa.array([int(place % 10 == 0) for place in range(table.num_rows)], pa.int16())
        pq.write_table(table.set_column(table.column_names.index("emails"), "emails", emails), path)
    for path in sorted((data / "score").glob("*.parquet")):
        table = pq.read_table(path)
        known = np.isfinite(table["punsafe"].to_numpy())
        nsfw = ["NSFW" if score > 0.5 else "UNLIKELY" for score in table["punsafe"].to_pylist()]
        table = table.append_column("laion400m_nsfw", pa.array(nsfw, pa.string(), mask=~known))
        share = pa.array(np.where(known, np.arange(len(known)) % 4 / 3, np.nan), pa.float32())
        table = table.append_column("tag_kind_photo", share)
        boxes = [[[0.1, 0.1, 0.5, 0.5]] * (place % 3) if here else None for place, here in enumerate(known)]
        pq.write_table(table.append_column("face_bboxes", pa.array(boxes, faces.BOXES.type)), path)
    return data


@pytest.fixture(scope="module")
def found(version: Path, defaults: Params) -> Rates:
    return rates.collect(version, defaults, [HOST])


@pytest.fixture(scope="module")
def rows(version: Path) -> list[dict[str, Any]]:
    columns = ("split", "language", "host", "rights", "rights_signal", "page_signals")
    scores = ("similarity", "punsafe", "pwatermark", "aesthetic", "tag_kind_photo", "laion400m_nsfw", "face_bboxes")
    return [row for shard in attempts.attempts(version, columns, scores) for row in shard.table.to_pylist()]


def scored(row: dict[str, Any]) -> bool:
    return bool(row["downloaded"] and not math.isnan(row["punsafe"]))


GROUP: dict[str, Callable[[dict[str, Any]], str]] = {
    "split": lambda row: str(row["split"]),
    "language": lambda row: row["language"] or "nolang",
    "domain_class": lambda _: "reserved",
    "host": lambda row: HOST if row["host"] == HOST else "",
}
LISTED = {"listed_hash", "listed_later"}
HOLDS: dict[str, tuple[Callable[[dict[str, Any]], bool], Callable[[dict[str, Any]], bool]]] = {
    "unsafe_of_scored": (scored, lambda row: row["punsafe"] > 0.5),
    "watermark_of_scored": (scored, lambda row: row["pwatermark"] > 0.8),
    "unsafe_of_kept": (lambda row: row["verdict"] == "keep" and scored(row), lambda row: row["punsafe"] > 0.5),
    "laion400m_nsfw_NSFW_of_scored": (scored, lambda row: row["laion400m_nsfw"] == "NSFW"),
    "tag_kind_photo_of_scored": (scored, lambda row: row["tag_kind_photo"] > 0.5),
    "faces_of_searched": (scored, lambda row: bool(row["face_bboxes"])),
    "dropped_low_similarity_of_downloaded": (
        lambda row: row["downloaded"],
        lambda row: row["verdict"] == "low_similarity",
    ),
    "listed_of_received": (
        lambda row: row["downloaded"] or row["verdict"] == "listed_hash",
        lambda row: row["verdict"] == "listed_hash",
    ),
    "opt_out_robots_of_attempts": (lambda _: True, lambda row: row["verdict"] == "robots"),
    "opt_out_of_attempts": (lambda _: True, lambda row: row["verdict"] in {"robots", "tdmrep", "x_robots_tag"}),
}


@pytest.mark.parametrize("by", GROUP)
@pytest.mark.parametrize("measure", HOLDS)
def test_a_rate_is_the_plain_count_with_its_wilson_interval(
    found: Rates, rows: list[dict[str, Any]], measure: str, by: str
) -> None:
    applies, holds = HOLDS[measure]
    total = Counter(GROUP[by](row) for row in rows if applies(row))
    count = Counter(GROUP[by](row) for row in rows if applies(row) and holds(row))
    expected = {group: (count[group], rows) for group, rows in total.items() if group}
    if by == "split":
        expected["all"] = (count.total(), total.total())
    assert {one.group: (one.count, one.total) for one in found.of(by, measure)} == expected
    for one in found.of(by, measure):
        assert (one.rate, one.low, one.high) == (one.count / one.total, *wilson(one.count, one.total))


def test_personal_data_is_counted_over_all_asked_for_and_removals_over_all_pairs(found: Rates, version: Path) -> None:
    work = [pq.read_table(path).to_pylist() for path in sorted((version / "catalog" / "shards").glob("*.parquet"))]
    pairs = sum(map(len, work))
    emails = {one.group: one for one in found.of("split", "personal_emails_of_attempts")}["all"]
    assert (emails.count, emails.total) == (sum(row["emails"] for shard in work for row in shard), pairs)
    before = pq.read_table(version / "filter" / "removed.parquet")["reason"].to_pylist()
    later = sum(
        reason.startswith("removed_")
        for path in (version / "filter").glob("0*.parquet")
        for reason in pq.read_table(path)["reason"].to_pylist()
    )
    gone = sum(reason.startswith("removed_") for reason in before)
    removed = {one.group: one for one in found.of("split", "removed_of_pairs")}["all"]
    assert (removed.count, removed.total) == (gone + later, pairs + len(before))
    assert gone > 0
    # What the names end with says of how many.
    totals = {(one.measure.rpartition("_of_")[2], one.total) for one in found.groups if one.group == "all"}
    assert {one for one in totals if one[0] in {"pairs", "attempts"}} == {("pairs", removed.total), ("attempts", pairs)}
    languages = found.of("language", "removed_of_pairs")
    assert sum(one.count for one in languages) == gone + later
    assert sum(one.total for one in languages) == pairs + len(before)


def test_removals_of_every_stage_are_one_number_and_a_listed_address_is_none_of_them(
    tmp_path: Path, defaults: Params
) -> None:
    data, metrics = sample_version.write(tmp_path, links=300, shards=1)
    verdicts = data / "filter" / "00000.parquet"
    kept = [row["uid"] for row in pq.read_table(verdicts).to_pylist() if row["reason"] == "keep"]
    for uid, reason in zip(kept, ["removed_hash"] * 3 + ["removed_later"] * 2 + ["listed_later"], strict=False):
        sample_version.change(verdicts, uid, {"reason": reason})
    before = pq.read_table(data / "filter" / "removed.parquet").to_pylist()
    for name in ("filter", "catalog"):
        path = data / name / "removed.parquet"
        table = pq.read_table(path)
        reasons = pa.array(["listed_url", *table["reason"].to_pylist()[1:]], pa.string())
        pq.write_table(table.set_column(table.column_names.index("reason"), "reason", reasons), path)
    assert len(kept) > 5
    counts = sample_version.load_metrics(metrics)
    in_filter = Counter(row["reason"] for row in pq.read_table(verdicts).to_pylist())
    expected = len(before) - 1 + in_filter["removed_hash"] + in_filter["removed_later"]
    safety = {(one.name, one.split): one.count for one in summary.collect(data, defaults, counts).safety}
    reported = {
        one.group: one.count for one in rates.collect(data, defaults, [], counts).of("split", "removed_of_pairs")
    }
    card = {row.group: row.shares["removed_of_pairs"] for row in rate_lines.measure(data, defaults.filter)[:4]}
    assert reported["all"] == safety["removed_of_pairs", "all"] == card["all"].count == expected
    assert safety["listed_address_of_pairs", "all"] == 1


def test_no_two_programs_give_a_measure_another_number(version: Path, defaults: Params) -> None:
    counts = sample_version.load_metrics(version.parent / "metrics")
    grouped = {
        (one.measure, one.group): (one.count, one.total)
        for one in rates.collect(version, defaults, [], counts).groups
        if one.by == "split"
    }
    safety = summary.collect(version, defaults, counts).safety
    assert {one.name for one in safety} == {*rate_queries.SAFETY} <= {*part.RATE_NAMES}
    for one in safety:
        assert grouped.get((one.name, one.split), (0, 0)) == (one.count, one.total)
    for row in rate_lines.measure(version, defaults.filter):
        for name, share in row.shares.items() if row.by == "split" else ():
            assert grouped.get((name, row.group), (0, 0)) == (share.count, share.total)


def test_every_name_of_a_measure_says_what_its_share_is_of(found: Rates) -> None:
    denominators = {
        *("scored", "kept", "received", "pairs", "attempts", "downloaded", "searched"),
    }
    names = {one.measure for one in found.groups}
    assert len(names) > 40
    assert {name.rpartition("_of_")[2] for name in names} == denominators


def test_a_sweep_counts_what_each_threshold_would_take(found: Rates, rows: list[dict[str, Any]]) -> None:
    points = {(one.score, one.split, one.threshold): one for one in found.sweeps}
    good = [row for row in rows if scored(row)]
    for name, level in (("similarity", 0.5), ("punsafe", 0.45), ("pwatermark", 0.8), ("aesthetic", 5.0)):
        least = np.float32(level)
        passes = [
            np.float32(row[name]) >= least if name in {"similarity", "aesthetic"} else np.float32(row[name]) > least
            for row in good
        ]
        assert (points[name, "all", level].count, points[name, "all", level].total) == (sum(passes), len(good)), name
    for one in found.sweeps:
        higher = points.get((one.score, one.split, round(one.threshold + 0.02, 2)))
        assert higher is None or higher.count <= one.count


def test_selection_by_language_compares_each_with_english(
    version: Path, rows: list[dict[str, Any]], defaults: Params
) -> None:
    similarity = defaults.filter.similarity.model_copy(update={"en": 0.4, "multi": 0.85, "nolang": 0.2})
    settings = defaults.model_copy(update={"filter": defaults.filter.model_copy(update={"similarity": similarity})})
    found = rates.collect(version, settings, []).selection
    least = {"en": 0.4, "multi": 0.85, "nolang": 0.2}
    good = [row for row in rows if scored(row)]
    totals = Counter(row["language"] or "nolang" for row in good)
    passed = Counter(row["language"] or "nolang" for row in good if row["similarity"] >= least[row["split"]])
    assert {one.language: (one.count, one.total) for one in found} == {
        language: (passed[language], total) for language, total in totals.items()
    }
    english = next(one for one in found if one.language == "en")
    assert (english.reference, english.ratio, english.ratio_low) == ("en", 1.0, 1.0)
    german = next(one for one in found if one.language == "de")
    assert german.ratio == pytest.approx(german.rate / english.rate)
    assert german.ratio_high is not None
    assert german.ratio_high < 1  # few pass, and the interval says so


def test_languages_of_few_pairs_share_one_row_of_the_report_and_keep_their_own_in_the_file() -> None:
    counts = {"en": (60, 100), "de": (10, 20), "none": (9, 19), "fr": (1, 1), "sw": (0, 3)}
    own = tuple(rates.selection_of(language, pair, "en", counts["en"]) for language, pair in counts.items())
    found = Rates((), (), own)
    *kept, others = found.folded_selection()
    assert [one.language for one in kept] == ["en", "de"]
    assert (others.language, others.count, others.total) == ("others, 3 languages", 10, 23)
    assert others.ratio == pytest.approx(10 / 23 / 0.6)
    assert others.ratio_low < others.ratio < others.ratio_high
    assert found.selection == own
    assert Rates((), (), own[:3]).folded_selection() == [*own[:3]]  # a single one keeps its row
    assert Rates((), (), ()).folded_selection() == []


def test_a_reference_of_few_pairs_keeps_its_row() -> None:
    own = tuple(rates.selection_of(language, (1, 2), "en", (1, 2)) for language in ("en", "de", "fr"))
    assert [one.language for one in Rates((), (), own).folded_selection()] == ["en", "others, 2 languages"]


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("www.example", "reserved"), ("a.test", "reserved"), ("192.0.2.1", "address"), ("[2001:db8::1]", "address"),
        ("www.nasa.gov", "government"), ("data.gov.uk", "government"), ("www.gouv.fr", "government"),
        ("mit.edu", "education"), ("ox.ac.uk", "education"), ("blog.ac", "country"),
        ("en.wikipedia.org", "organisation"),
        ("somebody.github.io", "platform"), ("a.blogspot.com", "platform"),
        ("bbc.co.uk", "country"), ("spiegel.de", "country"),
        ("shop.com", "generic"), ("shop.com.", "generic"), ("photos.museum", "generic"),
    ],
)  # fmt: skip
def test_the_class_of_a_domain_follows_from_its_name(host: str, expected: str) -> None:
    assert domain_classes.domain_class(host) == expected
    assert expected in domain_classes.CLASSES


@pytest.mark.slow
def test_the_rates_are_strict_json_beside_the_report_and_reach_mlflow_under_stable_names(
    version: Path, found: Rates, defaults: Params, tmp_path: Path
) -> None:
    def refuse(name: str) -> None:
        raise AssertionError(name)

    numbers = part.write(tmp_path / "report", version, version.parent / "metrics", defaults, {})
    read = json.loads((tmp_path / "report" / "rates.json").read_text(encoding="utf-8"), parse_constant=refuse)
    assert len(read["selection"]) == len(found.selection)
    values = run_metrics.every_number(tmp_path / "report", version.parent / "metrics")
    emails = next(one for one in found.of("split", "personal_emails_of_attempts") if one.group == "all")
    assert values["rates.personal_emails_of_attempts.all.rate"] == emails.rate
    assert values["selection.en.ratio"] == 1
    assert numbers["rates"]["personal_emails_of_attempts"]["rate"] == round(emails.rate, 6)
    assert numbers["selection"]["en"]["low"] <= numbers["selection"]["en"]["rate"]
    page = (tmp_path / "report" / "report.html").read_text(encoding="utf-8")
    assert "Whom the similarity filter excludes" in page
    assert rates.metrics(tmp_path) == {}


def test_a_version_without_a_scored_picture_has_no_sweep_and_no_selection(tmp_path: Path, defaults: Params) -> None:
    data, _ = sample_version.write(tmp_path, links=60, shards=1)
    for stage in ("download", "filter", "score"):
        path = data / stage / "00000.parquet"
        pq.write_table(pq.read_table(path).slice(0, 0), path)
    found = rates.collect(data, defaults, [])
    assert (found.sweeps, found.selection, found.of("split", "unsafe_of_scored")) == ((), (), [])
    assert found.of("split", "personal_any_of_attempts")


MIXED: dict[str, float] = {
    "unsafe": 0.04, "watermark": 0.08, "listed": 0.015, "tag_nsfw": 0.3, "page_opt_out": 0.06, "opt_out_robots": 0.12,
    "personal_any": 0.02, "removed": 0.03,
}  # fmt: skip
"""True rates by measure, about those of the demo."""
GROUPS: dict[str, dict[str, float]] = {
    "split": {"en": 0.6, "multi": 0.3, "nolang": 0.1},
    "language": {"en": 0.6, "de": 0.2, "fr": 0.1, "": 0.1},
    "host": {"a.example": 0.4, "www.shop.com": 0.3, "spiegel.de": 0.2, "mit.edu": 0.1},
}


def drawn(seed: int, pairs: int, folder: Path) -> Sequence[GroupRate]:
    """Draw a version whose true rates are known, and return what the report would print of it."""
    rng = np.random.default_rng(seed)
    table = pa.table({name: rng.choice([*groups], pairs, p=[*groups.values()]) for name, groups in GROUPS.items()})
    table = table.append_column("applies", pa.array(rng.random(pairs) < 0.9))
    for measure, rate in MIXED.items():
        table = table.append_column(measure, pa.array(rng.random(pairs) < rate))
    pq.write_table(table, folder / "drawn.parquet")
    measures = [rate_queries.Measure(name, "applies", f'"{name}"') for name in MIXED]
    return rates.groups(rate_queries.of_tables([folder / "drawn.parquet"], measures, GROUPS["host"]))


@pytest.mark.slow
def test_intervals_that_the_report_prints_cover_the_true_rate_in_93_of_100_draws(tmp_path: Path) -> None:
    covered: Counter[tuple[str, str]] = Counter()
    printed: Counter[tuple[str, str]] = Counter()
    for seed in range(100):
        for one in drawn(seed, 2_000, tmp_path):
            for kind in (("measure", one.measure), ("by", one.by)):
                printed[kind] += 1
                covered[kind] += one.low <= MIXED[one.measure] <= one.high
    assert {by for kind, by in printed if kind == "by"} == {"split", "language", "domain_class", "host"}
    assert min(printed.values()) > 1_000
    assert {kind: covered[kind] / printed[kind] for kind in printed if covered[kind] < 0.93 * printed[kind]} == {}


def test_each_interval_by_itself_covers_in_93_of_100_cases_unless_hardly_any_is_expected() -> None:
    # Without chance: the binomial probability of every count whose interval holds the true rate. Any single one has a
    # few draws more or less, and Wilson's is too narrow where less than about one pair is expected (Brown, Cai and
    # DasGupta, Statistical Science 16 (2001), 101).
    from scipy.stats import binom

    for rate in MIXED.values():
        for total in (60, 200, 600, 1_200, 2_000):
            if rate * total >= 1.5:
                counts = np.arange(total + 1)
                likely = counts[binom.pmf(counts, total, rate) > 1e-9]
                limits = [wilson(int(count), total) for count in likely]
                holds = [low <= rate <= high for low, high in limits]
                assert binom.pmf(likely[holds], total, rate).sum() >= 0.93, (rate, total)


def test_the_ratios_of_selection_cover_the_true_ratio_in_93_of_100_draws() -> None:
    cases = ((400, 0.45), (150, 0.6), (60, 0.3), (1, 0.6), (1, 0.95), (1, 0.05), (5, 0.9), (12, 0.05), (12, 0.97))
    covered, extremes = Counter[tuple[int, float]](), Counter[tuple[int, bool]]()
    for seed in range(1_000):
        rng = np.random.default_rng(seed)
        for total, rate in cases:
            one, english = int(rng.binomial(total, rate)), int(rng.binomial(1_200, 0.6))
            ratio = intervals.relative(one, total, english, 1_200)
            covered[total, rate] += ratio.low <= rate / 0.6 <= ratio.high
            extremes.update([(total, one == total)] if one in {0, total} else [])
    assert covered.total() >= 0.93 * 1_000 * len(cases)
    # Few pairs have few possible counts, so a single case may fall short, as Wilson's interval of its share does.
    assert {case: times for case, times in covered.items() if times < 900} == {}
    # 1 of 1, 0 of 1, n of n and 0 of n were among them.
    assert all(extremes[total, whole] > 100 for total in (1, 12) for whole in (True, False))
