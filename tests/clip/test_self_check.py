"""Golden vectors: this machine's libraries give the stored embeddings, and one that does not is refused."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from laion_dask.clip import models, self_check
from laion_dask.clip.clip import ModelError


def test_this_machine_gives_the_stored_vectors() -> None:
    self_check.check()


def test_the_file_holds_what_the_model_gives_and_can_be_written_anew(tmp_path: Path) -> None:
    self_check.write(tmp_path / "golden.npz")
    with np.load(tmp_path / "golden.npz") as fresh, np.load(self_check.FILE) as stored:
        assert set(fresh.files) == set(stored.files)
        assert stored["image"].shape == stored["text"].shape == (4, 128)
        assert np.allclose(fresh["image"], stored["image"], atol=self_check.TOLERANCE)
    assert self_check.FILE.stat().st_size < 50_000


def turned(preparation: Any) -> Any:  # noqa: ANN401 - a preparation
    steps = preparation.steps
    return replace(preparation, steps=lambda image: steps(image).rotate(180))


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(turned, id="another resize"),
        pytest.param(lambda one: replace(one, mean=(0.48, 0.46, 0.41)), id="another mean"),
        pytest.param(lambda one: replace(one, std=(0.27, 0.26, 0.28)), id="another deviation"),
    ],
)
def test_a_changed_preprocessing_cannot_slip_through(change: Callable[[Any], Any]) -> None:
    model = models.load(self_check.DEMO)
    with pytest.raises(ModelError, match=r"the image embeddings of the demo's model are off by .* Remedy: install"):
        self_check.compare(replace(model, preparation=change(model.preparation)))


def test_a_changed_tokenizer_cannot_slip_through() -> None:
    model = models.load(self_check.DEMO)
    changed = replace(model, tokenizer=lambda texts: model.tokenizer([text.upper() + "!" for text in texts]))
    with pytest.raises(ModelError, match="the text embeddings of the demo's model are off by"):
        self_check.compare(changed)


def test_another_dimension_is_refused(tmp_path: Path) -> None:
    with np.load(self_check.FILE) as stored:
        arrays = {name: stored[name] for name in stored.files}
    np.savez(tmp_path / "other.npz", **(arrays | {"text": arrays["text"][:, :64]}))
    with pytest.raises(ModelError, match=r"have shape \(4, 128\), not \(4, 64\)"):
        self_check.compare(models.load(self_check.DEMO), tmp_path / "other.npz")
