"""Check before anything runs that every column that the section `filter` names will exist."""

from __future__ import annotations

from collections.abc import Sequence
from difflib import get_close_matches
from typing import Final

import pyarrow as pa

from laion_dask import schema
from laion_dask.filter import where
from laion_dask.filter.rules import GROUPED
from laion_dask.params import filters
from laion_dask.schema import groups


class FilterError(Exception):
    """A rule of filter names a column that does not exist; the message has key, value and remedy."""


def joined(scores: pa.Schema) -> pa.Schema:
    """Return the columns that rules may use: those of the images table, of the scores, and of the stage group."""
    images = schema.IMAGES.schema
    others = [field for field in scores if field.name not in images.names]
    return pa.schema([*images, *others, *(field for field in groups.GROUPS.schema if field.name in GROUPED)])


def check(rules: filters.Filter, known: pa.Schema) -> None:
    """Raise `FilterError`, or `where.WhereError`, if a rule names a column that is missing or not a number."""
    models = [name.removeprefix("similarity_") for name in known.names if name.startswith("similarity_")]
    for key, model in rules.models():
        if model not in models:
            raise _refused(f"filter.{key}", model, "no model of score.models has this name", models)
    own = [pa.field(one.column, pa.float32()) for one in rules.computed]
    for one in own:
        if one.name in known.names:
            remedy = "another name, one that no column has yet"
            raise FilterError(f"filter.computed: there is a column {one.name} already. Remedy: {remedy}")
    every = pa.schema([*known, *own])
    named = [(f"filter.thresholds, {rule.name}", rule.column) for rule in rules.thresholds]
    named += [(f"filter.top, {rule.name}", rule.column) for rule in rules.top]
    named += [("filter.sample", rules.sample.column)] if rules.sample is not None else []
    named += [("filter.laion400m", "laion400m_drop")] if rules.laion400m == "drop" else []
    numbers = [field.name for field in every if pa.types.is_integer(field.type) or pa.types.is_floating(field.type)]
    for key, column in named:
        if column == "laion400m_drop" and column not in every.names:
            remedy = "score.tags with an entry of kind laion400m (docs/heads.md), or laion400m: keep"
            raise FilterError(f"filter.laion400m = drop: the scores have no column {column}. Remedy: {remedy}")
        if column not in numbers and column != "laion400m_drop":
            cause = "it is not a column of numbers" if column in every.names else "this column does not exist"
            raise _refused(f"{key}: column", column, cause, numbers)
    for rule in rules.thresholds:
        _check_range(rule)
    if rules.where is not None:
        where.check(rules.where, every)


# (column or its prefix, lowest, highest value) of columns whose range is known.
_RANGES: Final = (
    ("similarity", -1.0, 1.0),
    ("punsafe", 0.0, 1.0),
    ("pwatermark", 0.0, 1.0),
    ("language_confidence", 0.0, 1.0),
    ("pdq_quality", 0.0, 100.0),
)


def _check_range(rule: filters.Threshold) -> None:
    """Refuse a limit outside of the column's range, which would drop all pairs or none."""
    for column, low, high in _RANGES:
        if rule.column == column or (column == "similarity" and rule.column.startswith("similarity_")):
            for key in ("min", "above", "max", "below"):
                limit = getattr(rule, key)
                if limit is not None and not low <= limit <= high:
                    named = f"filter.thresholds, {rule.name}: {key} = {limit:g}"
                    raise FilterError(
                        f"{named}: {rule.column} goes from {low:g} to {high:g}. Remedy: a limit in between"
                    )


def _refused(key: str, value: str, cause: str, known: Sequence[str]) -> FilterError:
    near = get_close_matches(value, known, n=1, cutoff=0.5)
    remedy = f"{near[0]}, perhaps" if near else f"one of {', '.join(known)}"
    return FilterError(f"{key} = {value}: {cause}. Remedy: {remedy}")
