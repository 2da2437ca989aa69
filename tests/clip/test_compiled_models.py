"""Compiled networks: code that torch has stored on disk is run again, so nobody else may have written it."""

from __future__ import annotations

from pathlib import Path

import pytest
from made.images import small_clips

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
    models.load(model, "max-autotune")
    assert (tmp_path / "mine").stat().st_mode & 0o777 == 0o700
