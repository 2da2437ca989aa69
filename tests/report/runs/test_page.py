"""Where a page of MLflow is: a server that runs, or a database that is opened."""

from __future__ import annotations

from pathlib import Path

import pytest

from laion_dask.report.runs import page


@pytest.mark.parametrize(
    ("uri", "server"),
    [
        ("http://10.0.0.1:5000", "http://10.0.0.1:5000"),
        ("https://me:hunter2@mlflow.example/team", "https://mlflow.example/team"),
        ("sqlite:////p/mlflow.db", ""),
        ("postgresql://me:hunter2@10.0.0.1/mlflow", ""),
    ],
)
def test_a_server_is_shown_without_the_account_in_its_address(uri: str, server: str) -> None:
    found = page.Page(uri, Path("/p"), "1")
    assert found.server == server
    assert "hunter2" not in found.address(found.server)


def test_before_anything_was_logged_it_says_what_to_do(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    with pytest.raises(page.PageError, match="Remedy: `make repro` builds and logs one"):
        page.find(tmp_path, "laion-dask")
    (tmp_path / "mlflow.db").write_bytes(b"no database, though as long as the header of one" * 30)
    with pytest.raises(page.PageError, match=r"cannot be read as MLflow's database .*Remedy: end what"):
        page.find(tmp_path, "laion-dask")
