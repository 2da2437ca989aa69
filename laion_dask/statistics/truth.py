"""Judge every decision of a demo version by the demo's truth labels: precision and recall with intervals.

Links are joined by their place (WAT, page, link index), so that a wrong uid counts as an error; pairs are joined with
their verdict by uid. All labels are in memory: the demo has tens of thousands.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.schema.reasons import KEEP, REASON_STAGE, REASONS
from laion_dask.schema.values import SPLITS
from laion_dask.statistics.intervals import wilson
from laion_dask.storage import attempts as outcomes

# Judged as detectors, by score, over every downloaded image that has one, even if another rule dropped it first.
DETECTORS: Final = ("unsafe", "watermark", "low_similarity")
_PLACE: Final = ("wat", "page_url", "link_index")
_MEANINGS: Final = {
    **{reason: meaning for reasons in REASONS.values() for reason, meaning in reasons.items()},
    "identity": "the pair has the uid that its true text and address give",
    "language": "the language of the text is named, and is the one it was written in",
    "split_en": "the text is English",
    "split_multi": "the text is in a language other than English",
    "split_nolang": "the text is in no language",
    "keep": "the pair belongs in the release",
    "english_right": "the English text is as similar to the picture as filter.similarity.en asks, and names its thing "
    "and color",
    "caption_right": "the caption is as similar to the picture as filter.similarity.en asks, and names its thing and "
    "color",
}


@dataclass(frozen=True, slots=True)
class DecisionScore:
    """Precision and recall of one decision over `judged` rows; a share without a denominator is None."""

    name: str
    stage: str
    meaning: str
    judged: int
    true_positives: int
    false_positives: int
    false_negatives: int
    precision: float | None
    precision_interval: tuple[float, float]
    recall: float | None
    recall_interval: tuple[float, float]


@dataclass(frozen=True, slots=True)
class _LabelledLink:
    """One labelled link: its truth, its pair (None if dropped), its attempt (None if not tried), its verdict."""

    truth: Mapping[str, Any]
    pair: Mapping[str, Any] | None
    attempt: Mapping[str, Any] | None
    fate: str


def decisions(data: Path, settings: params.Params, metrics: Mapping[str, Mapping[str, Any]]) -> list[DecisionScore]:
    """Judge every decision in the labels or in the version, in the order of the stages; [] without labels.

    Reasons of `extract` have no row for each link: its counts in `metrics` are compared with the labelled links without
    a pair, and the minimum of both counts as right. Unsafe, watermark and low similarity are judged by score and
    threshold over all downloaded images. `duplicate_image` is judged by the bytes among the pairs that passed every
    earlier rule, and `near_duplicate` by the labels' original, so that errors of earlier rules do not count here.
    """
    path = data / "crawl" / "truth.parquet"
    if not path.is_file():
        return []
    links = _links(pq.read_table(path).to_pylist(), data)
    judged = _of_extract(links, metrics)
    pairs = [link for link in links if link.pair is not None]
    used = {link.fate for link in pairs} | {link.truth["expected"] for link in links}
    for reason in REASON_STAGE:
        if reason in DETECTORS:
            judged += _of_detector(reason, pairs, settings)
        elif reason == "duplicate_image":
            judged += _of_duplicate_images(pairs)
        elif reason == "near_duplicate":
            judged += _of_near_duplicates(pairs)
        elif REASON_STAGE[reason] != "extract" and reason in used:
            rows = [(link.truth["expected"] == reason, link.fate == reason) for link in links]
            judged.append(decision(reason, REASON_STAGE[reason], rows))
    judged += _of_text(links)
    judged.append(decision("keep", "release", [(link.truth["expected"] == KEEP, link.fate == KEEP) for link in links]))
    return judged


def _links(labels: list[dict[str, Any]], data: Path) -> list[_LabelledLink]:
    order = ("crawl", "wat_order", "record_offset", "link_index")
    pairs: dict[tuple[Any, ...], dict[str, Any]] = {}
    survivor: dict[str, tuple[Any, ...]] = {}
    first: dict[str, tuple[Any, ...]] = {}
    for path in sorted((data / "extract" / "pairs").glob("*.parquet")):
        columns = [*dict.fromkeys(("uid", "split", "language", *_PLACE, *order))]
        for row in pq.read_table(path, columns=columns).to_pylist():
            place, rank = tuple(row[name] for name in _PLACE), tuple(row[name] for name in order)
            pairs[place] = row
            # The surviving copy comes from the work list below; for removed and listed pairs it is the first one.
            if row["uid"] not in first or rank < first[row["uid"]]:
                first[row["uid"]], survivor[row["uid"]] = rank, place
    attempts: dict[str, dict[str, Any]] = {}
    scores = ("similarity", "punsafe", "pwatermark")
    for shard in outcomes.attempts(data, ["split", "sha256", *_PLACE], scores):
        for row in shard.table.to_pylist():
            attempts[row["uid"]] = row
            if row["wat"]:
                survivor[row["uid"]] = tuple(row[name] for name in _PLACE)
    fates = {uid: row["verdict"] for uid, row in attempts.items()}
    removed_rows = outcomes.removed(data)
    fates |= {str(row["uid"]): str(row["reason"]) for row in removed_rows.to_pylist()}
    links = []
    for label in labels:
        place = tuple(label[name] for name in _PLACE)
        pair = pairs.get(place)
        if pair is None:
            links.append(_LabelledLink(label, None, None, "extract"))
        elif survivor[pair["uid"]] != place:
            links.append(_LabelledLink(label, pair, None, "duplicate_pair"))
        else:
            links.append(_LabelledLink(label, pair, attempts.get(pair["uid"]), fates.get(pair["uid"], "lost")))
    return links


def _of_extract(links: list[_LabelledLink], metrics: Mapping[str, Mapping[str, Any]]) -> list[DecisionScore]:
    dropped = metrics.get("extract", {}).get("links", {}).get("dropped", {})
    expected = Counter(link.truth["expected"] for link in links)
    without_pair = Counter(link.truth["expected"] for link in links if link.pair is None)
    right = {reason: min(without_pair[reason], int(dropped.get(reason, 0))) for reason in REASONS["extract"]}
    # Links without a pair that should have one: each is a false positive of some reason.
    wrong = without_pair.total() - sum(right.values())
    decisions = []
    for reason in REASONS["extract"]:
        false = min(wrong, int(dropped.get(reason, 0)) - right[reason])
        if expected[reason] or false:
            missed = expected[reason] - right[reason]
            decisions.append(_from_counts(reason, "extract", len(links), (right[reason], false, missed)))
    return decisions


def _of_detector(reason: str, pairs: list[_LabelledLink], settings: params.Params) -> list[DecisionScore]:
    rules = settings.filter
    tests: dict[str, tuple[str, Callable[[Mapping[str, Any]], bool], Callable[[Mapping[str, Any]], bool]]] = {
        "unsafe": ("punsafe", lambda truth: truth["unsafe"], lambda row: row["punsafe"] > rules.max_punsafe),
        "watermark": (
            "pwatermark",
            lambda truth: truth["watermark"],
            lambda row: row["pwatermark"] > rules.max_pwatermark,
        ),
        "low_similarity": (
            "similarity",
            lambda truth: not truth["matching"],
            lambda row: row["similarity"] < getattr(rules.similarity, row["split"]),
        ),
    }
    score, actual, predicted = tests[reason]
    rows = [
        (actual(link.truth), predicted(link.attempt))
        for link in pairs
        if link.attempt is not None
        and link.attempt["downloaded"]
        and link.attempt[score] is not None
        and math.isfinite(link.attempt[score])
    ]
    return [decision(reason, "filter", rows)] if rows else []


def _of_duplicate_images(pairs: list[_LabelledLink]) -> list[DecisionScore]:
    downloaded = [link for link in pairs if link.attempt is not None and link.attempt["downloaded"]]
    copies = Counter(link.attempt["sha256"] for link in downloaded if link.attempt is not None)
    lowest: dict[str, str] = {}
    candidates = [link for link in downloaded if link.fate in {KEEP, "duplicate_image"}]
    for link in candidates:
        attempt = link.attempt or {}
        lowest[attempt["sha256"]] = min(lowest.get(attempt["sha256"], attempt["uid"]), attempt["uid"])
    rows = []
    for link in candidates:
        attempt = link.attempt or {}
        # A labelled copy whose bytes no other image has is an error of the download.
        alone = link.truth["expected"] == "duplicate_image" and copies[attempt["sha256"]] == 1
        rows.append((alone or lowest[attempt["sha256"]] != attempt["uid"], link.fate == "duplicate_image"))
    return [decision("duplicate_image", "filter", rows)] if any(any(row) for row in rows) else []


def _of_near_duplicates(pairs: list[_LabelledLink]) -> list[DecisionScore]:
    bytes_of = {link.truth["url"]: link.attempt["sha256"] for link in pairs if link.attempt is not None}
    candidates = []
    for link in pairs:
        if link.attempt is not None and link.fate in {KEEP, "near_duplicate"}:
            original = link.truth["original"]
            picture = link.attempt["sha256"]
            candidates.append(
                (bytes_of.get(original, original) if original else picture, link.attempt["uid"], picture, link)
            )
    lowest: dict[str, tuple[str, str]] = {}
    for original, uid, picture, _ in candidates:
        lowest[original] = min(lowest.get(original, (uid, picture)), (uid, picture))
    rows = [
        (lowest[original][1] != picture, link.fate == "near_duplicate") for original, _, picture, link in candidates
    ]
    return [decision("near_duplicate", "filter", rows)] if any(any(row) for row in rows) else []


def _of_text(links: list[_LabelledLink]) -> list[DecisionScore]:
    identity, language = Counter[str](), Counter[str]()
    splits: list[tuple[str, str]] = []
    for link in links:
        if REASON_STAGE.get(link.truth["expected"]) == "extract" or not link.truth["uid"]:
            continue
        uid, written = link.truth["uid"], link.truth["language"]
        found_uid = link.pair["uid"] if link.pair else None
        identity.update(_confusion(uid, found_uid))
        if link.pair:
            language.update(_confusion(written or None, link.pair["language"] or None))
            splits.append((_split(written), link.pair["split"]))
    judged = identity["true"] + identity["missed"]
    decisions = [_from_counts("identity", "extract", judged, (identity["true"], identity["false"], identity["missed"]))]
    counts = (language["true"], language["false"], language["missed"])
    decisions.append(_from_counts("language", "extract", len(splits), counts))
    decisions += [
        decision(f"split_{name}", "extract", [(true == name, actual == name) for true, actual in splits])
        for name in SPLITS
    ]
    return decisions


def _confusion(true: str | None, found: str | None) -> list[str]:
    if true == found:
        return ["true"] if true is not None else []
    return [*(["false"] if found is not None else []), *(["missed"] if true is not None else [])]


def _split(language: str) -> str:
    if not language:
        return "nolang"
    return "en" if language == "en" else "multi"


def decision(name: str, stage: str, rows: Iterable[tuple[bool, bool]]) -> DecisionScore:
    """Judge a decision by its rows: what is true, and what was decided."""
    counts = Counter((bool(actual), bool(predicted)) for actual, predicted in rows)
    return _from_counts(name, stage, counts.total(), (counts[True, True], counts[False, True], counts[True, False]))


def _from_counts(name: str, stage: str, judged: int, counts: tuple[int, int, int]) -> DecisionScore:
    true, false, missed = counts
    return DecisionScore(
        name,
        stage,
        _MEANINGS[name],
        judged,
        true,
        false,
        missed,
        true / (true + false) if true + false else None,
        wilson(true, true + false),
        true / (true + missed) if true + missed else None,
        wilson(true, true + missed),
    )
