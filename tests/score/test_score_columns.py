"""Heads, detectors and tags in a scored shard: their columns, types and gaps, and what does not fit."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made.images import small_clips
from made.texts.prompt_lists import LISTS
from ruamel.yaml import YAML

from laion_dask import params, schema
from laion_dask.clip.clip import DEMO_MODEL, ModelError
from laion_dask.score import part, score_columns, watermark

ROWS, FAILED, BAD = 8, 2, 5
SCORED = [row for row in range(ROWS) if row not in {FAILED, BAD}]


def rules(**values: Any) -> params.Score:  # noqa: ANN401 - as in params.yaml
    model = {"name": "demo", "model": "demo"}
    return params.Score(
        **{
            "models": [model],
            "heads": [],
            "tags": [],
            "faces": None,
            "masked_text": None,
            "batch": 3,
            "decode": "full",
            "compile": "none",
        }
        | values
    )


@pytest.fixture(scope="module")
def scored(tmp_path_factory: pytest.TempPathFactory) -> pa.Table:
    folder = tmp_path_factory.mktemp("measures")
    np.savez(folder / "mine.npz", weight=np.eye(128)[:1], bias=np.array([2.0]))
    np.save(folder / "violence.npy", np.eye(128)[:2])
    YAML().dump(LISTS, folder / "prompts.yaml")
    torch.manual_seed(3)
    torch.save(watermark.architecture().state_dict(), folder / "watermark.pt")
    settings = rules(
        heads=[
            {"kind": "layers", "file": str(folder / "mine.npz"), "column": "mine"},
            {"kind": "violence", "file": str(folder / "violence.npy"), "model": "demo"},
            {"kind": "watermark", "file": str(folder / "watermark.pt")},
        ],
        tags=[
            {"kind": "zero_shot", "file": "demo"},
            {"kind": "laion400m", "file": str(folder / "prompts.yaml"), "rule": "code"},
        ],
    )
    images, tar = small_clips.shard(folder, "00000", ROWS, failed=[FAILED], bad=[BAD])
    (folder / "out").mkdir()
    part.score(folder / "out", name="00000", images=images, tar=tar, shard_rows=16, settings=settings)
    return schema.scores(["demo"], score_columns.columns(settings)).check(
        pq.read_table(folder / "out" / "00000.parquet")
    )


def test_heads_fill_their_columns_where_there_is_an_image_and_the_others_stay_empty(scored: pa.Table) -> None:
    for name in ("mine", "violence", "pwatermark", "tag_thing_star"):
        assert np.flatnonzero(np.isfinite(scored[name].to_numpy())).tolist() == SCORED, name
    for name in ("aesthetic", "punsafe"):
        assert np.isnan(scored[name].to_numpy()).all()
    # One reads the first feature plus 2, the other the second less the first.
    mine, violence = scored["mine"].to_numpy()[SCORED], scored["violence"].to_numpy()[SCORED]
    assert (np.abs(mine - 2) <= 1).all()
    assert (np.abs(violence + mine - 2) <= 1).all()
    assert len({*scored["pwatermark"].to_numpy()[SCORED].tolist()}) > 1


def test_the_files_of_heads_and_tags_are_known_by_their_digests_with_the_model_that_they_read(tmp_path: Path) -> None:
    np.savez(tmp_path / "mine.npz", weight=np.eye(128)[:1], bias=np.array([2.0]))
    YAML().dump(LISTS, tmp_path / "prompts.yaml")
    mine, prompts, demo = (
        hashlib.sha256(file.read_bytes()).hexdigest()
        for file in (tmp_path / "mine.npz", tmp_path / "prompts.yaml", DEMO_MODEL / "heads.safetensors")
    )
    settings = rules(
        models=[{"name": "demo", "model": "demo"}, {"name": "again", "model": "demo"}],
        heads=[
            {"kind": "demo"},
            {"kind": "layers", "file": str(tmp_path / "mine.npz"), "column": "mine", "model": "again"},
        ],
        tags=[{"kind": "laion400m", "file": str(tmp_path / "prompts.yaml"), "rule": "code"}],
    )
    first, again = score_columns.about(settings, "demo"), score_columns.about(settings, "again")
    assert json.loads(first["heads_sha256"]) == dict.fromkeys(("aesthetic", "punsafe", "pwatermark"), demo)
    assert json.loads(first["tags_sha256"]) == {"laion400m": prompts}
    assert again == {"heads_sha256": json.dumps({"mine": mine})}
    together = score_columns.merged({"demo": first, "again": again})
    assert (together["heads_sha256"]["mine"], together["heads_sha256"]["punsafe"]) == (mine, demo)
    assert score_columns.about(rules(), "demo") == score_columns.merged({"demo": {}}) == {}


def test_what_laion400m_drops_is_a_column_only_where_its_tag_is_asked_and_then_of_one_type() -> None:
    """Whoever reads the scores knows the column by its name: it is there with the tag, and never without."""
    asked = rules(tags=[{"kind": "laion400m", "file": "any.yaml", "rule": "published"}])
    names = [schema.scores(["demo"], score_columns.columns(settings)) for settings in (rules(), asked)]
    without, with_tag = ({column.name: column.type for column in table.columns} for table in names)
    assert "laion400m_drop" not in without
    assert with_tag["laion400m_drop"] == pa.string()
    assert {name: with_tag[name] for name in without} == without


def test_shares_of_a_group_add_up_to_1(scored: pa.Table) -> None:
    colors = [scored[f"tag_color_{color}"].to_numpy()[SCORED] for color in ("red", "blue", "green")]
    np.testing.assert_allclose(sum(colors), 1, atol=1e-5)


def test_the_nsfw_tag_follows_from_the_two_places_beside_it(scored: pa.Table) -> None:
    rows = scored.select(["laion400m_nsfw", "laion400m_first", "laion400m_second", "laion400m_drop"]).to_pylist()
    for number, row in enumerate(rows):
        places = [row["laion400m_first"], row["laion400m_second"]]
        if number in SCORED:
            wanted = ("NSFW", "UNSURE", "UNLIKELY")[sum(place < 19 for place in places)]
            assert (row["laion400m_nsfw"], max(places) < 35) == (wanted, True)
            assert row["laion400m_drop"] in {"", "words", "minors", "animals"}
        else:
            assert list(row.values()) == [None, -1, -1, None]


def test_a_head_for_another_number_of_features_is_refused(tmp_path: Path) -> None:
    np.savez(tmp_path / "v1.npz", weight=np.ones((1, 512)), bias=np.zeros(1))
    images, tar = small_clips.shard(tmp_path, "00000", 3)
    settings = rules(heads=[{"kind": "aesthetic_v1", "file": str(tmp_path / "v1.npz")}])
    with pytest.raises(ModelError, match=r"v1\.npz reads 512 features, demo gives 128\. Remedy: "):
        part.score(tmp_path, name="00000", images=images, tar=tar, shard_rows=16, settings=settings)


def test_two_tags_of_one_name_are_refused() -> None:
    with pytest.raises(ModelError, match=r"fills tag_color_blue, .* twice"):
        score_columns.columns(rules(tags=[{"kind": "zero_shot", "file": "demo"}] * 2))


def test_every_file_that_decides_a_column_is_part_of_what_a_shard_is_known_by() -> None:
    settings = rules(heads=[{"kind": "demo"}], tags=[{"kind": "zero_shot", "file": "demo"}])
    assert [file.name for file in score_columns.files(settings)] == ["heads.safetensors", "tags.yaml"]
