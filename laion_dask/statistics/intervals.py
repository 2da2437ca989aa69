"""Compute shares and totals with 95 % intervals, of whole tables and of sampled strata.

Rates of a version have Wilson's interval. Strata of a sample have the exact one, and are combined by the method of
variance estimates recovery (MOVER), which keeps the asymmetry of rare events: Zou and Donner, Statistics in Medicine 27
(2008), 1693; for strata Yan and Su, Statistics in Biopharmaceutical Research 2 (2010), 383.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any, Final, Self

_TAIL: Final = 0.025


@dataclass(frozen=True, slots=True)
class Share:
    """The share of `total` rows with a property, with its 95 % Wilson interval; without rows `rate` is None."""

    count: int
    total: int
    rate: float | None
    low: float
    high: float

    @classmethod
    def of(cls, count: int, total: int, **names: Any) -> Self:  # noqa: ANN401 - the fields that a class adds
        """Compute rate and interval from counts; `names` are the further fields of a subclass."""
        return cls(count, total, count / total if total else None, *wilson(count, total), **names)


_NUMBERS: Final = tuple(field.name for field in fields(Share))


def names_first(items: Sequence[tuple[str, Any]]) -> dict[str, Any]:
    """Order the fields of a dataclass, as `dict_factory` of `asdict`: of a share its names first, then its numbers."""
    values = dict(items)
    if not values.keys() >= {*_NUMBERS}:
        return values
    return {name: value for name, value in items if name not in _NUMBERS} | {name: values[name] for name in _NUMBERS}


def wilson(successes: int, total: int, confidence: float = 0.95) -> tuple[float, float]:
    """Return the Wilson score interval of a share; (0, 1) if the total is 0.

    Newcombe 1998, method 3, with the operations of SciPy's `binomtest(...).proportion_ci(method="wilson")` in the same
    order, for the same digits. SciPy also computes a test of each share, which took a third of the report's time.
    """
    if total == 0:
        return 0.0, 1.0
    z = _quantile(0.5 + 0.5 * confidence)
    share = successes / total
    scale = 2 * (total + z**2)
    middle = (2 * total * share + z**2) / scale
    half = z / scale * math.sqrt(4 * total * share * (1 - share) + z**2)
    return (0.0 if successes == 0 else middle - half), (1.0 if successes == total else middle + half)


@functools.cache
def _quantile(probability: float) -> float:
    from scipy.special import ndtri  # noqa: PLC0415 - only report, card and audits need it

    return float(ndtri(probability))


@dataclass(frozen=True, slots=True)
class Estimate:
    """A value with its 95 % interval; `value` is None without a sample."""

    value: float | None
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Stratum:
    """`total` pairs, of which `drawn` were examined and `found` have the property."""

    total: int
    drawn: int
    found: int


def share_of(stratum: Stratum) -> tuple[float, float]:
    """Return the exact interval of a stratum's share; a stratum that was examined completely has no uncertainty.

    Clopper and Pearson, Biometrika 26 (1934), 404: Wilson's covers 95 % only on average, and too few samples of strata
    with a few pairs (measured: 89 of 100). The finite population correction applies to the size of the sample,
    n (N - 1) / (N - n), after Korn and Graubard, Survey Methodology 24 (1998), 193.
    """
    from scipy.special import betaincinv  # noqa: PLC0415 - 1 s, and only audits need it

    total, drawn, found = stratum.total, stratum.drawn, stratum.found
    if not drawn:
        return 0.0, 1.0
    if drawn >= total:
        return found / drawn, found / drawn
    worth = drawn * (total - 1) / (total - drawn)
    hits = found / drawn * worth
    misses = worth - hits
    low = float(betaincinv(hits, misses + 1, _TAIL)) if found else 0.0
    high = float(betaincinv(hits + 1, misses, 1 - _TAIL)) if found < drawn else 1.0
    return low, high


def total(strata: Sequence[Stratum]) -> Estimate:
    """Estimate how many pairs of all strata have the property.

    A stratum without a sample is assumed to be like all others, and its share has the interval (0, 1).
    """
    drawn = sum(stratum.drawn for stratum in strata)
    if not drawn:
        rows = sum(stratum.total for stratum in strata)
        return Estimate(0.0 if not rows else None, 0.0, float(rows))
    # The share over all drawn pairs, weighted by stratum.
    sampled = [stratum for stratum in strata if stratum.drawn]
    like = sum(one.total * one.found / one.drawn for one in sampled) / sum(one.total for one in sampled)
    value = below = above = 0.0
    for one in strata:
        share = one.found / one.drawn if one.drawn else like
        low, high = share_of(one)
        value += one.total * share
        below += (one.total * (share - low)) ** 2
        above += (one.total * (high - share)) ** 2
    rows = sum(stratum.total for stratum in strata)
    return Estimate(value, max(0.0, value - math.sqrt(below)), min(float(rows), value + math.sqrt(above)))


def share(strata: Sequence[Stratum]) -> Estimate:
    """Estimate the share of all pairs with the property; (0, 1) without a sample."""
    rows = sum(stratum.total for stratum in strata)
    estimate = total(strata)
    if not rows or estimate.value is None:
        return Estimate(None, 0.0, 1.0)
    return Estimate(estimate.value / rows, estimate.low / rows, estimate.high / rows)


def part(some: Estimate, others: Estimate) -> Estimate:
    """Return some / (some + others) of two totals that were estimated separately, e.g. recall of found and missed.

    The interval is that of others / some by MOVER-R: Donner and Zou, Statistical Methods in Medical Research 21
    (2012), 347; solved for the root that stays finite if a limit is 0.
    """
    if some.value is None or others.value is None or some.value + others.value == 0:
        return Estimate(None, 0.0, 1.0)
    low, high = _ratio(others, some)
    return Estimate(some.value / (some.value + others.value), 1 / (1 + high), 1 / (1 + low))


def _ratio(above: Estimate, below: Estimate) -> tuple[float, float]:
    one, two = above.value or 0.0, below.value or 0.0
    middle = one * two
    least, most = above.low * (2 * one - above.low), above.high * (2 * one - above.high)
    bottom, top = below.low * (2 * two - below.low), below.high * (2 * two - below.high)
    root = middle + math.sqrt(max(0.0, middle**2 - top * least))
    low = least / root if root else 0.0
    high = (middle + math.sqrt(max(0.0, middle**2 - bottom * most))) / bottom if bottom > 0 else math.inf
    return low, high


def relative(found: int, drawn: int, other_found: int, other_drawn: int) -> Estimate:
    """Return the ratio of two shares with its interval by MOVER-R on their Wilson limits.

    Donner and Zou, Statistical Methods in Medical Research 21 (2012), 347. Unlike intervals on the log scale, it is
    wide where all of a few pairs have the property. The upper limit is infinite where the other share may be 0.
    """
    one, other = Share.of(found, drawn), Share.of(other_found, other_drawn)
    if not one.total or not other.count or one.rate is None or other.rate is None:
        return Estimate(None, 0.0, math.inf)
    limits = _ratio(Estimate(one.rate, one.low, one.high), Estimate(other.rate, other.low, other.high))
    return Estimate(one.rate / other.rate, *limits)
