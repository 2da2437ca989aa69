"""Captioning a shard: a row for each kept pair, its caption or a reason, with similarities to the stored embeddings."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import zarr
from made.images import small_captioners, small_clips
from made.images.small_captioners import settings
from made.versions import tables

from laion_dask import params
from laion_dask.caption import captioners, part
from laion_dask.caption.captioners import Captioner, Sample
from laion_dask.clip import preprocess as decoders
from laion_dask.params.filters import Keywords
from laion_dask.schema.new_texts import CAPTIONS
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import embeddings
from laion_dask.texts import new_texts

ROWS = 14
DROPPED = (3, 8)
BAD = (5,)
READER = params.Model(name="demo", model="demo")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_captioners.blip(tmp_path_factory.mktemp("captioner") / "blip")


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Mapping[str, Any]:
    """A shard with stored embeddings, as the stages before leave it: some pairs dropped, one picture damaged since."""
    base = tmp_path_factory.mktemp("shard")
    images, tar = small_clips.shard(base, "00000", ROWS, bad=BAD)
    uids = pq.read_table(images)["uid"].to_pylist()
    scores = [
        {"uid": uid, "slot": 40 + row, "similarity": 0.01 * row, "punsafe": 0.1 * (row % 10)}
        for row, uid in enumerate(uids)
    ]
    # The rows of a table need no order: stages are joined by uid.
    verdicts = [{"uid": uid, "reason": "few_words" if row in DROPPED else KEEP} for row, uid in enumerate(uids)]
    arrays = {"image": np.zeros((64, 128), np.float16), "text": np.zeros((64, 128), np.float16)}
    rng = np.random.default_rng(1)
    image = rng.normal(size=(ROWS, 128))
    arrays["image"][40 : 40 + ROWS] = image / np.linalg.norm(image, axis=1, keepdims=True)
    embeddings.write_shard(base / "store.zarr", {"demo": arrays}, {"demo": {}})
    return {
        "name": "00000",
        "images": images,
        "tar": tar,
        "scores": tables.write(base / "scores.parquet", tables.scores(*scores[::-1])),
        "verdicts": tables.write(base / "verdicts.parquet", tables.verdicts(*verdicts[::-1])),
        "store": base / "store.zarr",
        "words": None,
        "reader": READER,
    }


def run(out: Path, shard: Mapping[str, Any], rules: params.Caption) -> tuple[dict[str, Any], pa.Table]:
    out.mkdir(parents=True)
    counts = part.caption(out, **shard, settings=rules)
    return counts, CAPTIONS.check(pq.read_table(out / f"{shard['name']}.parquet"))


KEPT = [row for row in range(ROWS) if row not in DROPPED]


class TestRows:
    @pytest.fixture(scope="class")
    @staticmethod
    def found(shard: Mapping[str, Any], folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:  # noqa: ANN401
        return run(tmp_path_factory.mktemp("out") / "part", shard, settings(f"local-dir:{folder}", batch=4))

    def test_there_is_one_for_each_kept_pair_in_the_order_of_the_images(self, found: Any, shard: Any) -> None:  # noqa: ANN401
        counts, table = found
        uids = pq.read_table(shard["images"])["uid"].to_pylist()
        assert table["uid"].to_pylist() == [uids[row] for row in KEPT]
        reasons = ["undecodable_image" if row in BAD else KEEP for row in KEPT]
        assert table["reason"].to_pylist() == reasons
        assert counts["captions"] == {"seen": 12, "kept": 11, "dropped": {"undecodable_image": 1}}
        assert set(counts["seconds"]) == set(part.ACTIVITIES)
        assert min(counts["seconds"][name] for name in ("decode", "encode", "generate", "rank", "write")) > 0

    def test_a_picture_that_cannot_be_decoded_has_nulls(self, found: Any) -> None:  # noqa: ANN401
        row = found[1].to_pylist()[KEPT.index(BAD[0])]
        assert {value for name, value in row.items() if name not in {"uid", "reason", "similarity"}} == {None}

    def test_the_caption_is_the_best_of_all_samples(self, found: Any) -> None:  # noqa: ANN401
        for row in found[1].to_pylist():
            if row["reason"] == KEEP:
                assert row["top_caption"] == row["all_captions"][0]
                assert row["distinct"] == len(row["all_captions"]) == len(set(row["all_captions"]))
                assert row["all_similarities"] == sorted(row["all_similarities"], reverse=True)
                assert row["ranked_caption"] is None
                assert row["new_emails"] == 0

    def test_similarities_are_those_of_the_alt_text_and_to_the_stored_embedding(self, found: Any, shard: Any) -> None:  # noqa: ANN401
        table = found[1]
        assert np.allclose(table["similarity"].to_numpy(), [0.01 * row for row in KEPT])
        stored = np.asarray(embeddings.array(zarr.open_group(shard["store"], mode="r"), "demo/image")[:], np.float32)
        for row, values in zip(KEPT, table.to_pylist(), strict=True):
            if values["reason"] == KEEP:
                (text,) = new_texts.embedded([values["top_caption"]], READER)
                assert values["caption_similarity"] == pytest.approx(float(stored[40 + row] @ text), abs=1e-5)


def test_only_images_of_kept_pairs_are_decoded_once_for_captioner_and_rankers(
    shard: Mapping[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    decoded: list[bytes] = []
    real = decoders.decode

    def counting(body: bytes, needed_px: int | None = None) -> Any:  # noqa: ANN401 - an image
        decoded.append(body)
        return real(body, needed_px)

    monkeypatch.setattr(decoders, "decode", counting)
    run(tmp_path / "out", shard, settings(f"local-dir:{folder}"))
    assert decoded == [b"no image" if row in BAD else small_clips.jpeg(row) for row in KEPT]


@pytest.mark.parametrize("batch", [1, 3, None])
def test_batches_of_another_size_give_the_same_captions(
    shard: Mapping[str, Any], folder: Path, tmp_path: Path, batch: int | None
) -> None:
    _, whole = run(tmp_path / "whole", shard, settings(f"local-dir:{folder}"))
    _, found = run(tmp_path / "other", shard, settings(f"local-dir:{folder}", batch=batch))
    for name in ("reason", "top_caption", "all_captions", "distinct"):
        assert found[name].equals(whole[name]), name
    assert np.allclose(found["caption_similarity"].fill_null(0), whole["caption_similarity"].fill_null(0), atol=1e-6)


def test_the_same_shard_gives_the_same_bytes(shard: Mapping[str, Any], folder: Path, tmp_path: Path) -> None:
    rules = settings(f"local-dir:{folder}", max_tokens=[3, 8], end_above=0.2)
    digests = set()
    for name in ("first", "second"):
        run(tmp_path / name, shard, rules)
        digests.add(hashlib.sha256((tmp_path / name / "00000.parquet").read_bytes()).hexdigest())
    assert len(digests) == 1


class TestWrittenTexts:
    """What becomes of texts that no small captioner would write."""

    @pytest.fixture(autouse=True)
    @staticmethod
    def writes(monkeypatch: pytest.MonkeyPatch) -> None:
        loops = Sample("so so so", (9, 9, 9), cut=True)
        by_place = [
            [Sample("call me at +49 30 901820 or a@example.org", (1,), cut=False)],
            [Sample("", (), cut=False), Sample("A picture of", (1,), cut=False)],
            [Sample("", (), cut=False), loops],
            [Sample("a NAUGHTY fox", (1,), cut=False), loops],
        ]

        def generate(_: Captioner, pixels: Any, uids: list[str], watch: Any) -> Any:  # noqa: ANN401, ARG001
            return [by_place[int(uid, 16) % 4] for uid in uids]

        monkeypatch.setattr(captioners.Captioner, "generate", generate)

    def test_empty_and_repeating_ones_are_reasons_and_personal_data_is_counted(
        self, shard: Mapping[str, Any], folder: Path, tmp_path: Path
    ) -> None:
        counts, table = run(tmp_path / "out", shard, settings(f"local-dir:{folder}", keep_samples=False))
        assert counts["captions"]["dropped"] == {"undecodable_image": 1, "empty_caption": 3, "repeating_caption": 3}
        rows = {int(row["uid"], 16): row for row in table.to_pylist()}
        assert (rows[0]["new_emails"], rows[0]["new_phones"]) == (1, 1)
        assert [rows[row]["reason"] for row in (0, 1, 2, 7)] == [KEEP, "empty_caption", "repeating_caption", KEEP]
        assert (rows[1]["top_caption"], rows[1]["distinct"], rows[1]["new_emails"]) == (None, 0, None)
        assert rows[1]["caption_similarity"] is None
        assert rows[7]["top_caption"] == "a NAUGHTY fox"
        assert set(table["all_captions"].to_pylist()) == {None}

    def test_a_caption_with_a_listed_word_is_withheld_where_the_image_is_as_unsafe_as_the_rule_asks(
        self, shard: Mapping[str, Any], folder: Path, tmp_path: Path
    ) -> None:
        (tmp_path / "words.txt").write_text("naughty\n")
        words = Keywords(file=str(tmp_path / "words.txt"), above_punsafe=0.5)
        counts, table = run(tmp_path / "out", {**shard, "words": words}, settings(f"local-dir:{folder}"))
        rows = {int(row["uid"], 16): row for row in table.to_pylist()}
        assert counts["captions"]["dropped"]["keyword_in_caption"] == 1
        assert rows[7]["reason"] == "keyword_in_caption"
        texts = ("top_caption", "caption_similarity", "all_captions", "all_similarities", "new_emails")
        assert {rows[7][name] for name in texts} == {None}
        assert rows[11]["reason"] == KEEP, "its punsafe is 0.1"


def test_a_repair_keeps_the_text_before_it_where_it_changed(
    shard: Mapping[str, Any], folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def repaired(captions: list[str], _: params.Caption) -> list[str]:
        return [text.upper() if place % 2 else text for place, text in enumerate(captions)]

    _, plain = run(tmp_path / "plain", shard, settings(f"local-dir:{folder}"))
    monkeypatch.setattr(part.repair, "repaired", repaired)
    _, table = run(tmp_path / "out", shard, settings(f"local-dir:{folder}"))
    before = [text for text in plain["top_caption"].to_pylist() if text]
    rows = [row for row in table.to_pylist() if row["reason"] == KEEP]
    assert [row["ranked_caption"] or row["top_caption"] for row in rows] == before
    assert [row["ranked_caption"] is not None for row in rows] == [place % 2 == 1 for place in range(len(rows))]
    assert all(row["top_caption"] == row["ranked_caption"].upper() for row in rows[1::2])


def test_an_image_that_the_tar_lacks_is_an_error(shard: Mapping[str, Any], folder: Path, tmp_path: Path) -> None:
    _, tar = small_clips.shard(tmp_path / "other", "00000", ROWS - 2)
    with pytest.raises(ValueError, match="shard 00000: 2 of 12 kept images were not found in its tar"):
        run(tmp_path / "out", {**shard, "tar": tar}, settings(f"local-dir:{folder}"))


def test_a_shard_without_a_kept_pair_has_no_rows(shard: Mapping[str, Any], folder: Path, tmp_path: Path) -> None:
    uids = pq.read_table(shard["images"])["uid"].to_pylist()
    none = tables.verdicts(*({"uid": uid, "reason": "few_words"} for uid in uids))
    verdicts = tables.write(tmp_path / "verdicts.parquet", none)
    counts, table = run(tmp_path / "out", {**shard, "verdicts": verdicts}, settings(f"local-dir:{folder}"))
    assert counts["captions"] == {"seen": 0, "kept": 0, "dropped": {}}
    assert table.num_rows == 0
