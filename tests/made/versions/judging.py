"""Tables of a shard in, its verdicts out, by rules that a test changes where it matters."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
from made.versions import tables

from laion_dask import params
from laion_dask.blocklists import known_content
from laion_dask.filter import filter_checks, part, rules
from laion_dask.schema.reasons import KEEP

NOTHING = rules.Files(digest="none")
RULES = params.Filter(
    similarity=params.Similarity(en=0.28, multi=0.26, nolang=0.3),
    min_chars=0,
    min_words=3,
    min_bytes=0,
    min_side_px=200,
    max_aspect_ratio=3.0,
    languages=None,
    max_punsafe=0.5,
    max_pwatermark=0.8,
    laion400m="keep",
    keywords=None,
    text_entities=None,
    keep_uids=(),
    drop_uids=(),
    computed=(),
    thresholds=(),
    where=None,
    image_based=None,
    top=(),
    duplicate_images="drop",
    near_duplicates="keep",
    near_max_distance=31,
    near_min_cosine=0.9,
    semantic_duplicates=None,
    evaluation_max_distance=None,
    evaluation_min_cosine=None,
    balance=None,
    sample=None,
)
"""Each rule of the first version, at the values of a paper; all later ones are off."""


def changed(**changes: Any) -> params.Filter:  # noqa: ANN401 - values of any rule
    """Return RULES with other values, checked as they are in params.yaml."""
    return params.Filter.model_validate(RULES.model_dump() | changes)


def columns(scores: pa.Table, wanted: params.Filter, files: rules.Files = NOTHING) -> list[str]:
    """Return the columns that the stage reads for these rules, where the scores look like these."""
    return rules.columns(wanted, filter_checks.joined(scores.schema).names, files)


def grouped(images: pa.Table) -> pa.Table:
    """Return the table of the stage group for images that are near no other, but may be equal."""
    # A name that all pairs of an image share, in whatever shard: the stage writes the lowest uid.
    named = zip(images["uid"].to_pylist(), images["sha256"].to_pylist(), strict=True)
    return tables.groups(*({"uid": uid, "image": (sha256 or uid)[:32]} for uid, sha256 in named))


def decide(
    images: pa.Table,
    scores: pa.Table,
    settings: params.Filter = RULES,
    files: rules.Files = NOTHING,
    embedded: Mapping[str, np.ndarray] | None = None,
) -> tuple[list[str], list[set[str]]]:
    """Return for each row its verdict, and the names of all rules that would drop it."""
    pairs = part.join(images, scores)
    judged = pc.equal(pairs["reason"], KEEP).to_numpy()
    found = rules.local(pairs, settings, files, embedded or {}, known_content.of_rows(files.listed, pairs))
    reasons, mask, _ = part.decide(found, judged, settings)
    bits = {bit: name for name, (_, bit) in rules.bits(settings).items()}
    names = [{name for bit, name in bits.items() if int(row) >> bit & 1} for row in mask]
    return pc.if_else(pa.array(judged), reasons, pairs["reason"]).to_pylist(), names


def verdicts(
    images: pa.Table, scores: pa.Table, settings: params.Filter = RULES, files: rules.Files = NOTHING
) -> list[str]:
    """Return the verdict of each row."""
    return decide(images, scores, settings, files)[0]
