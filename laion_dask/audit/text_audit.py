"""Estimate the share of hateful or toxic captions in released tables, with intervals."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.audit import hate
from laion_dask.audit.text_models import KINDS, Kind, TextModel, TextModelError
from laion_dask.statistics.intervals import names_first

TEXT: Final = "TEXT"
"""The alt text in released tables."""
# Of the hate content rate; DataComp's threshold of Detoxify, and a tenth of it (DataComp paper, appendix E).
THRESHOLDS: Final[dict[Kind, tuple[float, ...]]] = {"hate": hate.THRESHOLDS, "toxicity": (0.01, 0.1, 0.5)}


@dataclass(frozen=True, slots=True)
class TextAudit:
    """Shares above every threshold over all files, and for each file the share of any kind above `threshold`."""

    kind: Kind
    files: int
    captions: int
    seed: int
    threshold: float
    shares: tuple[hate.ContentShare, ...]
    by_file: tuple[tuple[str, float | None], ...]

    def as_dict(self) -> dict[str, Any]:
        """Return plain JSON."""
        return asdict(self, dict_factory=names_first)


def audit(
    files: Sequence[Path],
    model: TextModel,
    kind: Kind,
    *,
    each: int = hate.CAPTIONS_A_FILE,
    seed: int = hate.SEED,
    column: str = TEXT,
) -> TextAudit:
    """Score a seeded sample of the texts of each Parquet file, one column; one file is in memory at a time.

    Raises `TextModelError` if there is no file, or one without captions. The result has no captions.
    """
    if not files:
        raise TextModelError("there is no released table. Remedy: run the stage release, or name Parquet files")
    threshold = hate.THRESHOLD if kind == "hate" else 0.1
    whole = hate.Counts(KINDS[kind], THRESHOLDS[kind])
    by_file = []
    try:
        rows = [pq.read_metadata(path).num_rows for path in files]
        for path, places in zip(files, hate.draws(rows, each, seed), strict=True):
            texts = pq.read_table(path, columns=[column])[column].take(pa.array(places)).to_pylist()
            scores = model.score([text or "" for text in texts])
            counts = hate.Counts(KINDS[kind], THRESHOLDS[kind])
            counts.add(scores)
            whole.add(scores)
            by_file.append((path.name, counts.shares(threshold)[-1].rate))
    except (OSError, pa.ArrowException, KeyError) as error:
        raise TextModelError(f"{error}. Remedy: Parquet files with a column {column}, as in data/release") from error
    shares = tuple(share for level in THRESHOLDS[kind] for share in whole.shares(level))
    return TextAudit(kind, len(files), whole.total, seed, threshold, shares, tuple(by_file))
