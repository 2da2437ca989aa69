"""Columns that rules of filter ask for: told with key, value and remedy where they will not be there."""

from __future__ import annotations

import re
from typing import Any

import pyarrow as pa
import pytest
from made.versions import judging

from laion_dask import schema
from laion_dask.filter import filter_checks

KNOWN = filter_checks.joined(schema.scores(["b32"]).schema)
LOSS = {"kind": "negcliploss", "batch": 9, "batches": 2, "temperature": 0.1, "seed": 1}


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"thresholds": [{"name": "t", "column": "asthetic", "min": 1}]},
         "filter.thresholds, t: column = asthetic: this column does not exist. Remedy: aesthetic, perhaps"),
        ({"thresholds": [{"name": "t", "column": "caption", "min": 1}]},
         "filter.thresholds, t: column = caption: it is not a column of numbers"),
        ({"top": [{"name": "t", "column": "similarity_l14", "fraction": 0.1}]},
         "filter.top, t: column = similarity_l14: this column does not exist. Remedy: similarity, perhaps"),
        ({"laion400m": "drop"},
         "filter.laion400m = drop: the scores have no column laion400m_drop. Remedy: score.tags"),
        ({"where": "punsave < 1"},
         "filter.where = 'punsave < 1': the column punsave does not exist. Remedy: punsafe, perhaps"),
        ({"computed": [{"column": "loss", "model": "l14", **LOSS}]},
         "filter.computed.0.model = l14: no model of score.models has this name. Remedy: one of b32"),
        ({"computed": [{"column": "punsafe", "model": "b32", **LOSS}]},
         "filter.computed: there is a column punsafe already"),
        ({"image_based": {"model": "c", "centroids": "a", "targets": "b"}}, "filter.image_based.model = c: no model"),
    ],
)  # fmt: skip
def test_what_will_not_be_there_is_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(Exception, match=re.escape(message)):
        filter_checks.check(judging.changed(**change), KNOWN)


def test_columns_of_images_scores_tags_and_computed_ones_are_known() -> None:
    known = pa.schema([*KNOWN, pa.field("laion400m_drop", pa.string())])
    wanted = judging.changed(
        thresholds=[{"name": "a", "column": "original_width", "min": 1}, {"name": "b", "column": "loss", "max": 1}],
        computed=[{"column": "loss", "model": "b32", **LOSS}],
        where="loss < 0 and similarity_b32 > 0 and url <> ''",
        laion400m="drop",
    )
    filter_checks.check(wanted, known)
