"""negCLIPLoss, NormSim and clusters against what their papers write down, in a few lines of NumPy."""

from __future__ import annotations

import random
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest

from laion_dask.filter import clip_losses, uid_sets
from laion_dask.filter.clip_losses import EmbeddingsError


def vectors(rows: int, seed: int, features: int = 8) -> np.ndarray:
    return clip_losses.unit(np.random.default_rng(seed).normal(size=(rows, features)))


def test_negcliploss_of_a_whole_batch_is_the_loss_of_clip() -> None:
    """For a row of the batch: minus the loss times the temperature, by the definition of both."""
    images, texts, temperature = vectors(9, 1), vectors(9, 2), 0.05
    logits = (images @ texts.T).astype(np.float64) / temperature
    by_image = logits.diagonal() - np.log(np.exp(logits).sum(axis=1))
    by_text = logits.diagonal() - np.log(np.exp(logits).sum(axis=0))
    slots = np.arange(9)
    found = clip_losses.negcliploss(images, texts, slots, [(slots, images, texts)], temperature)
    np.testing.assert_allclose(found, temperature * (by_image + by_text) / 2, atol=1e-5)


def test_a_row_outside_of_a_batch_counts_as_if_it_stood_in_it_and_batches_are_averaged() -> None:
    images, texts = vectors(12, 1), vectors(12, 2)
    slots = np.arange(12)
    batches = [(slots[rows], images[rows], texts[rows]) for rows in (slice(1, 6), slice(6, 11))]
    one = [
        clip_losses.negcliploss(
            images[:1],
            texts[:1],
            slots[:1],
            [(np.append(0, of), np.vstack([images[:1], i]), np.vstack([texts[:1], t]))],
            0.1,
        )
        for of, i, t in batches
    ]
    both = clip_losses.negcliploss(images[:1], texts[:1], slots[:1], batches, 0.1)
    np.testing.assert_allclose(both, np.mean(one, axis=0), atol=1e-6)


def test_a_row_without_an_embedding_has_no_loss_and_many_rows_are_as_one() -> None:
    images, texts = vectors(1100, 3), vectors(1100, 4)
    images[7] = np.nan
    batch = [(np.arange(2000, 2005), vectors(5, 5), vectors(5, 6))]
    whole = clip_losses.negcliploss(images, texts, np.arange(1100), batch, 0.07)
    assert np.isnan(whole).nonzero()[0].tolist() == [7]
    alone = clip_losses.negcliploss(images[1050:1060], texts[1050:1060], np.arange(1050, 1060), batch, 0.07)
    np.testing.assert_allclose(whole[1050:1060], alone, atol=1e-6)


def test_a_text_that_fits_every_image_gets_less_than_one_that_fits_its_own() -> None:
    """What the paper corrects: equal similarities, told apart by what else is similar."""
    batch = vectors(50, 7)
    common = clip_losses.unit(batch.mean(axis=0, keepdims=True))
    rare = clip_losses.unit(-batch.mean(axis=0, keepdims=True))
    images, texts = np.vstack([common, rare]), np.vstack([common, rare])
    found = clip_losses.negcliploss(images, texts, np.array([100, 101]), [(np.arange(50), batch, batch)], 0.1)
    assert found[1] > found[0]


@pytest.mark.parametrize("norm", ["inf", 2])
def test_normsim_is_the_norm_of_the_similarities(monkeypatch: pytest.MonkeyPatch, norm: str | int) -> None:
    monkeypatch.setattr(clip_losses, "_TARGETS_AT_ONCE", 4)
    images, targets = vectors(20, 1), vectors(11, 2)
    images[3] = np.nan
    similarities = images @ targets.T
    expected = similarities.max(axis=1) if norm == "inf" else np.linalg.norm(similarities, axis=1)
    np.testing.assert_allclose(clip_losses.normsim(images, targets, norm), expected, atol=1e-6)


def test_an_image_is_on_target_where_its_nearest_centroid_is_nearest_to_a_target(tmp_path: Path) -> None:
    np.save(tmp_path / "centroids.npy", np.eye(4, 8).astype(np.float16))
    np.save(tmp_path / "targets.npy", clip_losses.unit(np.eye(4, 8)[[1, 1, 3]] + 0.1).astype(np.float16))
    images = clip_losses.unit(np.eye(4, 8)[[0, 1, 2, 3]] + 0.2)
    images = np.vstack([images, np.full((1, 8), np.nan, np.float32)])
    found = clip_losses.on_target(images, tmp_path / "centroids.npy", tmp_path / "targets.npy", str(tmp_path))
    assert found.tolist() == [False, True, False, True, False]


@pytest.mark.parametrize("array", [np.zeros((3, 7), np.float32), np.zeros(8, np.float32), np.zeros((3, 8), int), None])
def test_embeddings_of_another_model_are_refused(tmp_path: Path, array: np.ndarray | None) -> None:
    if array is not None:
        np.save(tmp_path / "targets.npy", array)
    with pytest.raises(EmbeddingsError, match=r"targets\.npy.*Remedy: "):
        clip_losses.read(tmp_path / "targets.npy", 8)


def test_a_sample_is_the_same_whatever_the_order_of_the_shards() -> None:
    uids = uid_sets.halves(pa.array([f"{random.Random(row).getrandbits(128):032x}" for row in range(1000)]))
    found = []
    for order in (np.arange(1000), np.random.default_rng(1).permutation(1000)):
        sample = clip_losses.RandomSample(100, 5)
        for some in np.array_split(order, 7):
            sample.add(uids[some], some)
        found.append(sample.slots.tolist())
    assert found[0] == found[1]
    assert len({*found[0]}) == 100
    other = clip_losses.RandomSample(100, 6)
    other.add(uids, np.arange(1000))
    assert {*other.slots.tolist()} != {*found[0]}
