"""Estimate pairs, bytes and core hours of a number of WATs from measured values and sizes of a sample."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from types import MappingProxyType
from typing import Any, Final, NamedTuple


class MeasuredValue(NamedTuple):
    """A measured value, its unit, and where it was measured."""

    value: float
    unit: str
    source: str


MEASURED: Final[Mapping[str, MeasuredValue]] = MappingProxyType(
    {
        # 18.50 TiB in 56,320 WATs; the crawl of September 2016 (10.35 TiB in 30,374 WATs) has 375 MB to a WAT.
        "wat_bytes": MeasuredValue(
            361e6,
            "bytes a WAT",
            "mean WAT of CC-MAIN-2018-39, commoncrawl.org: September 2018 crawl archive now available",
        ),
        "image_links": MeasuredValue(
            733_994.0,
            "image links a WAT",
            "CC-MAIN-20220924151538-20220924181538-00000, cc2dataset, tests/test_single_warc.py (image_only)",
        ),
        "alt_links": MeasuredValue(
            405_232.0,
            "alt texts a WAT",
            "CC-MAIN-20220924151538-20220924181538-00000, cc2dataset, tests/test_single_warc.py (image)",
        ),
        "kept": MeasuredValue(
            0.74, "pairs an alt text", "image links with alt text, default rules: make bench-extract"
        ),
        "different": MeasuredValue(
            0.20, "pairs that differ", "130,000 WATs, 40 G pairs, 8 G of them different: cc2dataset, README"
        ),
        "bytes_per_second": MeasuredValue(
            22.0e6, "WAT bytes/s and core", "of the WAT as stored; all rules, language, Parquet: make bench-extract"
        ),
        "efficiency": MeasuredValue(
            0.91, "of a core alone", "when all are busy; two workers against one: make bench-extract"
        ),
        "bytes_per_pair": MeasuredValue(107.0, "bytes a pair", "pairs/*.parquet of make bench-extract"),
    }
)
"""The basis of estimates. Links were counted in one WAT; 130,000 others had 308,000 per WAT (see `different`)."""


@dataclass(frozen=True, slots=True)
class CrawlEstimate:
    """Expected results and cost of reading a number of WATs, before duplicates across WATs are merged."""

    wats: int
    asked: int
    """WATs of the sample whose sizes are known; with 0, the size comes from `MEASURED`."""
    wat_bytes: float
    """Mean size of a WAT as stored, bytes."""
    wat_bytes_error: float
    """Standard error of that mean; NaN unless it comes from at least two WATs."""
    read_bytes: float
    image_links: float
    alt_links: float
    pairs: float
    """Pairs by the default rules."""
    written_bytes: float
    core_hours: float
    cores: int
    hours: float
    """Hours on these cores."""
    bytes_per_second: float
    """Network rate that keeps these cores busy."""

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON, with floats rounded to four significant digits."""
        return {
            name: None if isinstance(value, float) and math.isnan(value) else _rounded(value)
            for name, value in asdict(self).items()
        }


def estimate(wats: int, cores: int, asked_bytes: Sequence[int] = ()) -> CrawlEstimate:
    """Estimate from `MEASURED`, and from the sizes in bytes of a sample of the WATs, if given.

    Time is proportional to bytes, pairs to the number of WATs; each of several cores counts as
    `MEASURED["efficiency"]` of a single one.
    """
    sample = len(asked_bytes)
    mean = sum(asked_bytes) / sample if sample else value("wat_bytes")
    spread = math.sqrt(sum((size - mean) ** 2 for size in asked_bytes) / (sample - 1)) if sample > 1 else math.nan
    speed = value("bytes_per_second")
    share = value("efficiency") if cores > 1 else 1.0
    alt_links = wats * value("alt_links")
    pairs = alt_links * value("kept")
    core_hours = wats * mean / speed / 3600
    return CrawlEstimate(
        wats=wats,
        asked=sample,
        wat_bytes=mean,
        wat_bytes_error=spread / math.sqrt(sample) if sample else math.nan,
        read_bytes=wats * mean,
        image_links=wats * value("image_links"),
        alt_links=alt_links,
        pairs=pairs,
        written_bytes=pairs * value("bytes_per_pair"),
        core_hours=core_hours,
        cores=cores,
        hours=core_hours / (cores * share),
        bytes_per_second=cores * share * speed,
    )


def value(name: str) -> float:
    """Return a value of `MEASURED`."""
    return MEASURED[name].value


def _rounded(number: float) -> float:
    """Round floats to four significant digits; counts of WATs and cores stay."""
    return number if isinstance(number, int) else float(f"{number:.4g}")
