"""Training of the small captioner: a few steps, twice; what it may say of a scene."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from laion_dask.demo.crawl.scenes import random_scene
from laion_dask.demo.training import captioner
from laion_dask.demo.training.evaluate_texts import named_right


def test_a_training_is_reproducible_and_a_seed_decides(tmp_path: Path) -> None:
    said: list[str] = []
    for name, seed in (("one", 1), ("again", 1), ("other", 2)):
        captioner.train(tmp_path / name, seed, steps=2, pictures=20, say=said.append)
    one, again, other = (
        {path.name: path.read_bytes() for path in (tmp_path / name).iterdir()} for name in ("one", "again", "other")
    )
    assert one == again
    assert one["model.safetensors"] != other["model.safetensors"]
    assert "step 2 of 2" in said[-1]


def test_captions_begin_with_the_prompt_and_differ() -> None:
    rng = np.random.default_rng(1)
    scene = random_scene(rng, color="orange")
    texts = {captioner.caption(scene, rng) for _ in range(200)}
    assert all(text.startswith("a picture of ") and text == text.lower() for text in texts)
    assert all(all(named_right(text, scene)) for text in texts)
    assert len(texts) == 7  # two wordings of three forms with a setting, and one form without
    assert not any(" a orange" in text for text in texts)


def test_every_word_of_a_caption_is_a_token() -> None:
    rng, words = np.random.default_rng(2), set(captioner.vocabulary())
    for _ in range(500):
        assert set(captioner.caption(random_scene(rng), rng).split()) <= words
    assert len(words) == len(captioner.vocabulary())


def test_pictures_are_the_same_for_a_seed_and_as_the_image_processor_gives_them() -> None:
    from transformers import BlipImageProcessor

    scenes, pixels = captioner.draw_pictures(1, 3)
    again, same = captioner.draw_pictures(1, 3)
    assert scenes == again
    assert torch.equal(pixels, same)
    side = captioner.SIDE_PX
    assert pixels.shape == (3, 3, side, side)
    processor = BlipImageProcessor(size={"height": side, "width": side})
    wanted = processor(list(pixels), return_tensors="pt")["pixel_values"]
    found = captioner.normalised(pixels)
    assert found == pytest.approx(wanted.numpy(), abs=1e-5)


def test_augmented_pictures_are_moved_and_mirrored_but_not_changed_in_size() -> None:
    _, pixels = captioner.draw_pictures(1, 4)
    found = captioner._augmented(pixels, np.random.default_rng(1))  # noqa: SLF001
    assert found.shape == pixels.shape
    assert not torch.equal(found, captioner.normalised(pixels))
