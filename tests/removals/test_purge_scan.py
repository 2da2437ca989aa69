"""The progress of a search that reads terabytes: time left in minutes and hours."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from laion_dask.removals import purge_scan


@pytest.mark.parametrize(
    ("size", "left"),
    [
        (10**9 + 10**6, "about 0 s left"),
        (40 * 10**9, "about 6 min 30 s left"),
        (10**12, "about 2 h 46 min left"),
        (10**15, "about 2,777 h 46 min left"),
    ],
)
def test_time_left_is_said_in_minutes_and_hours(
    size: int, left: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(purge_scan, "_PRINTED_S", 0.0)
    monkeypatch.setattr(purge_scan, "time", SimpleNamespace(monotonic=iter([0.0, 10.0]).__next__))
    purge_scan.ScanProgress("searching", 3, size).add(10**9)
    assert f"searching: 1 of 3 files, 100 MB/s, {left}" in capsys.readouterr().err
