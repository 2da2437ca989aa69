"""What several test modules share: the folder of real inputs, checked parameters."""

from __future__ import annotations

from pathlib import Path

import pytest

from laion_dask import params

ROOT = Path(__file__).parents[1]


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Real inputs beside the checkout; tests that read them are skipped where they are absent."""
    folder = ROOT.parent / "shared" / "data"
    if not folder.is_dir():
        pytest.skip("no folder ../shared/data with real inputs")
    return folder


@pytest.fixture(scope="session")
def defaults() -> params.Params:
    """Read params.yaml as committed."""
    return params.load(ROOT / "params.yaml")
