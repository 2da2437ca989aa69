"""Compiled networks: code that torch has stored on disk is run again, so nobody else may have written it."""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import pytest
from made.images import small_clips
from PIL import Image

from laion_dask import params
from laion_dask.clip import models
from laion_dask.clip.clip import ModelError


# torch's own compiler warns of torch's own deprecations.
@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_nothing_is_run_that_another_user_can_have_compiled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = params.Model(name="one", model=f"local-dir:{small_clips.folder(tmp_path / 'one', seed=1)}")
    (tmp_path / "open").mkdir()
    (tmp_path / "open").chmod(0o777)
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "open"))
    with pytest.raises(ModelError, match=r"other users can write to .*open, .*Remedy: set TORCHINDUCTOR_CACHE_DIR"):
        models.load(model, "max-autotune")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    monkeypatch.setattr(models, "_folder_of_torch", lambda: "/opt/torch")
    models.load(model, "max-autotune")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700


@pytest.mark.slow
def test_a_path_that_the_compiler_would_break_in_two_is_refused_with_the_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = params.Model(name="one", model=f"local-dir:{small_clips.folder(tmp_path / 'one', seed=1)}")
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "mine"))
    monkeypatch.setattr(models, "_folder_of_torch", lambda: "/home/a user/torch")
    with pytest.raises(
        ModelError, match=r"compile = default needs torch in a path .*/a user/torch\. Remedy: compile: none"
    ):
        models.load(model, "default")


@pytest.mark.slow
# torch's own compiler warns of torch's own deprecations.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.skipif(" " in sys.prefix, reason="torch cannot compile where its path has a space")
def test_a_compiled_model_gives_the_same_embeddings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = params.Model(name="one", model=f"local-dir:{small_clips.folder(tmp_path / 'one', seed=1)}")
    # Not what another checkout has compiled with other headers.
    monkeypatch.setenv("TORCHINDUCTOR_CACHE_DIR", str(tmp_path / "cache"))
    picture = [Image.new("RGB", (60, 90), "red")]
    plain = models.load(model).embed(picture, ["a"])
    compiled = models.load(model, "default").embed(picture, ["a"])
    assert all(np.allclose(one, two, atol=1e-5) for one, two in zip(plain, compiled, strict=True))
