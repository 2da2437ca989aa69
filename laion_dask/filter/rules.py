"""Apply the filter rules that need one row only: each rule returns a mask of the rows that it would drop.

A rule is (name, reason, drops): bool (rows,), true where it would drop the pair, independent of other rules. They are
in the order of precedence: the first that drops a pair is its reason; `reasons.RULE_BITS` has the bits.
"""

from __future__ import annotations

import functools
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from laion_dask.blocklists import known_content
from laion_dask.blocklists.known_index import Index
from laion_dask.filter import clip_losses, uid_sets, where
from laion_dask.filter.sampling import balance
from laion_dask.params import filters
from laion_dask.schema import reasons
from laion_dask.schema.values import SPLITS
from laion_dask.texts import keywords

Rule = tuple[str, str, np.ndarray]

GROUPED: Final = frozenset({"cluster", "centroid_cosine", "evaluation_distance", "evaluation_cosine"})
"""Columns of the stage group that rules may read; null for an image without a group."""

LISTED_LATER: Final = "listed_later"
_IMAGE: Final = ("uid", "split", "reason")


@dataclass(frozen=True)
class Files:
    """The files that rules read besides the tables, and a digest of their content."""

    digest: str
    keep_uids: tuple[Path, ...] = ()
    """Sorted subset files from `uid_sets.prepare`."""
    drop_uids: tuple[Path, ...] = ()
    given: Mapping[str, Path] = field(default_factory=dict)
    """Prepared files of `given_scores.prepare`, by column of filter.computed."""
    removed: Sequence[Index] = ()
    """Digests of images in removals.csv, an index for each kind with entries (`known_lists.of_digests`)."""
    listed: Sequence[Index] = ()
    """Lists of known images."""


def bits(settings: filters.Filter) -> dict[str, tuple[str, int]]:
    """Return reason and bit of every rule by its name: the fixed rules, then those named in the parameters."""
    named = [(f"threshold_{one.name}", "threshold") for one in settings.thresholds]
    named += [(f"top_{one.name}", "below_top") for one in settings.top]
    fixed = {reason: (reason, bit) for reason, bit in reasons.RULE_BITS.items()}
    return fixed | {name: (reason, reasons.NAMED_BITS + place) for place, (name, reason) in enumerate(named)}


def columns(settings: filters.Filter, known: Sequence[str], files: Files) -> list[str]:
    """Return the columns among `known` that the rules read."""
    rules = settings
    needed = {*_IMAGE, "similarity"}
    # Digests of a kind without entries in any list are not read.
    needed |= {*known_content.columns([*files.removed, *files.listed])}
    needed |= (
        {"original_width", "original_height"} if rules.min_side_px or rules.max_aspect_ratio < _NO_RATIO else set()
    )
    needed |= {"bytes"} if rules.min_bytes else set()
    needed |= {"language"} if rules.languages else set()
    needed |= {"punsafe"} if rules.max_punsafe < 1 or rules.keywords else set()
    needed |= {"pwatermark"} if rules.max_pwatermark < 1 else set()
    needed |= {"laion400m_drop"} if rules.laion400m == "drop" else set()
    needed |= {"caption"} if rules.min_chars or rules.min_words or rules.keywords or rules.text_entities else set()
    needed |= {"caption"} if rules.balance else set()
    needed |= {"language"} if rules.balance and rules.balance.by_language else set()
    needed |= {"slot"} if rules.image_based or rules.computed else set()
    needed |= {"evaluation_distance"} if rules.evaluation_max_distance is not None else set()
    needed |= {"evaluation_cosine"} if rules.evaluation_min_cosine is not None else set()
    needed |= {limits.column for limits in rules.thresholds} | {fraction.column for fraction in rules.top}
    needed |= {rules.sample.column} if rules.sample else set()
    own = [entry.column for entry in rules.computed]
    needed |= {*where.columns(rules.where, [*known, *own])} if rules.where else set()
    return [name for name in known if name in needed]


# Recipes without a limit of the aspect ratio write a million.
_NO_RATIO: Final = 1_000_000.0


def local(
    pairs: pa.Table,
    settings: filters.Filter,
    files: Files,
    embedded: Mapping[str, np.ndarray],
    listed: Mapping[str, np.ndarray],
) -> Iterator[Rule]:
    """Yield the enabled rules that need one row only.

    `pairs` has the columns of `columns` and the computed ones; `embedded` the stored image embeddings of each model
    that a rule reads, float32 (rows, features), NaN where there is no image; `listed` is the result of
    `known_content.of_rows`.
    """
    yield from _known_content(pairs, files, listed)
    yield from _of_image_and_text(pairs, settings, files)
    if settings.max_punsafe < 1:
        yield "unsafe", "unsafe", _numbers(pairs["punsafe"]) > np.float32(settings.max_punsafe)
    if settings.keywords is not None:
        unsafe = _numbers(pairs["punsafe"]) > np.float32(settings.keywords.above_punsafe)
        words = [Path(settings.keywords.file)]
        yield "unsafe_keyword", "unsafe_keyword", keywords.hits(pairs["caption"], words, among=unsafe)
    if settings.max_pwatermark < 1:
        yield "watermark", "watermark", _numbers(pairs["pwatermark"]) > np.float32(settings.max_pwatermark)
    if settings.laion400m == "drop":
        drop = pc.fill_null(pairs["laion400m_drop"], "")
        yield "laion400m", "laion400m", pc.not_equal(drop, "").to_numpy()
    splits = _splits(pairs)
    lowest = np.array([getattr(settings.similarity, split) for split in SPLITS], np.float32)
    # Negated, so that NaN drops the pair.
    yield "low_similarity", "low_similarity", ~(_numbers(pairs["similarity"]) >= lowest[splits])
    for one in settings.thresholds:
        yield f"threshold_{one.name}", "threshold", outside(pairs[one.column], one) & _asked(splits, one.splits)
    if settings.where is not None:
        yield "where", "where", ~where.mask(settings.where, pairs)
    if settings.image_based is not None:
        based = settings.image_based
        on_target = clip_losses.on_target(
            embedded[based.model], Path(based.centroids), Path(based.targets), files.digest
        )
        yield "off_target", "off_target", ~on_target
    if settings.evaluation_max_distance is not None or settings.evaluation_min_cosine is not None:
        yield "evaluation_set", "evaluation_set", _too_close(pairs, settings)


def _known_content(pairs: pa.Table, files: Files, listed: Mapping[str, np.ndarray]) -> Iterator[Rule]:
    if files.removed:
        matches = known_content.of_rows(files.removed, pairs)
        yield "removed_hash", "removed_hash", known_content.any_of(matches, pairs.num_rows)
    if files.listed:
        yield LISTED_LATER, LISTED_LATER, known_content.any_of(listed, pairs.num_rows)
    if files.keep_uids or files.drop_uids:
        uids = uid_sets.halves(pairs["uid"])
        for reason, paths, inside in (
            ("in_excluded_set", files.drop_uids, True),
            ("not_in_set", files.keep_uids, False),
        ):
            if paths:
                masks = [uid_sets.contains(path, uids, files.digest) == inside for path in paths]
                yield reason, reason, np.logical_or.reduce(masks)


def _of_image_and_text(pairs: pa.Table, settings: filters.Filter, files: Files) -> Iterator[Rule]:
    if settings.min_bytes:
        yield "few_bytes", "few_bytes", _numbers(pairs["bytes"]) < settings.min_bytes
    if settings.min_side_px or settings.max_aspect_ratio < _NO_RATIO:
        width, height = (_numbers(pairs[name]) for name in ("original_width", "original_height"))
        short, long = np.minimum(width, height), np.maximum(width, height)
        yield "image_too_small", "image_too_small", short < settings.min_side_px
        yield "aspect_ratio", "aspect_ratio", long > settings.max_aspect_ratio * short
    if settings.min_chars:
        yield "few_chars", "few_chars", pc.utf8_length(pairs["caption"]).to_numpy() < settings.min_chars
    if settings.min_words:
        # Split at most as often as the limit needs; the rest of the caption stays one piece.
        cut = pc.utf8_split_whitespace(pc.utf8_trim_whitespace(pairs["caption"]), max_splits=settings.min_words - 1)
        words = pc.list_value_length(cut)
        yield "few_words", "few_words", words.to_numpy() < settings.min_words
    if settings.languages is not None:
        allowed = pc.is_in(pairs["language"], value_set=pa.array(settings.languages, pa.string()))
        yield "language", "language", ~allowed.to_numpy()
    if settings.text_entities is not None:
        entities = _words(Path(settings.text_entities), files.digest)
        yield "no_entity", "no_entity", ~any_word(pairs["caption"], entities)


def _too_close(pairs: pa.Table, settings: filters.Filter) -> np.ndarray:
    close = np.zeros(pairs.num_rows, bool)
    if settings.evaluation_max_distance is not None:
        close |= _numbers(pairs["evaluation_distance"]) <= settings.evaluation_max_distance
    if settings.evaluation_min_cosine is not None:
        close |= _numbers(pairs["evaluation_cosine"]) >= np.float32(settings.evaluation_min_cosine)
    return close


def any_word(texts: pa.ChunkedArray, words: pa.Array) -> np.ndarray:
    """Return bool (rows,): whether a token of the text, split at white space, is among the words."""
    tokens = pc.utf8_split_whitespace(texts).combine_chunks()
    lists = tokens if isinstance(tokens, pa.ListArray) else tokens.chunk(0)
    rows = pc.list_parent_indices(lists).to_numpy()
    matches = np.zeros(len(texts), bool)
    matches[rows[pc.is_in(lists.flatten(), value_set=words).to_numpy(zero_copy_only=False)]] = True
    return matches


def outside(column: pa.ChunkedArray, limits: filters.Threshold) -> np.ndarray:
    """Return bool (rows,): the number is outside of the limits, or, if `missing` is drop, none.

    Limits are taken in the column's own precision: a score of 4.1 is at least 4.1.
    """
    values = _numbers(column)
    kind = values.dtype.type if values.dtype.kind == "f" else np.float64
    inside = np.ones(len(values), bool)
    for limit, test in (
        (limits.min, np.greater_equal),
        (limits.above, np.greater),
        (limits.max, np.less_equal),
        (limits.below, np.less),
    ):
        if limit is not None:
            inside &= test(values, kind(limit))
    missing = np.isnan(values)
    return np.where(missing, limits.missing == "drop", ~inside)


def _numbers(column: pa.ChunkedArray) -> np.ndarray:
    """Return a column of numbers; null as NaN, so that comparisons with it are false."""
    if column.null_count:
        kind = column.type if pa.types.is_floating(column.type) else pa.float64()
        column = pc.fill_null(column.cast(kind), pa.scalar(float("nan"), kind))
    return np.asarray(column.to_numpy())


def _splits(pairs: pa.Table) -> np.ndarray:
    places = pc.index_in(pairs["split"], value_set=pa.array(SPLITS))
    return np.asarray(places.to_numpy())


def _asked(splits: np.ndarray, asked: str | Sequence[str]) -> np.ndarray:
    return np.isin(splits, [place for place, name in enumerate(SPLITS) if asked == "all" or name in asked])


@functools.lru_cache(maxsize=2)
def _words(path: Path, digest: str) -> pa.Array:  # noqa: ARG001 - a changed file has another digest
    return pa.array(balance.read_entries(path), pa.string())
