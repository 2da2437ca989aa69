"""Counts of parts in, one line out: what a person who waits for a download wants to know."""

from __future__ import annotations

from typing import Any

from laion_dask.download.rates import DownloadRates
from laion_dask.runner.progress import Progress


def counts(kept: int, slow: list[tuple[str, int, float]], **dropped: int) -> dict[str, Any]:
    ledger = {"seen": kept + sum(dropped.values()), "kept": kept, "dropped": dropped}
    return {"images": ledger, "slow": [{"host": host, "tries": n, "seconds": s} for host, n, s in slow]}


def test_the_line_has_rate_success_reasons_slowest_hosts_and_time_left() -> None:
    progress = Progress("download", "images", DownloadRates())
    progress.start(4, [], [10, 10, 10, 10])
    assert progress.line() == "download 0/4 parts"
    progress.begin("00000")
    progress.finish("00000", 10, counts(6, [("a.example", 2, 9.0), ("b.example", 1, 0.5)], not_found=3, timeout=1))
    progress.finish("00001", 10, counts(9, [("c.example", 3, 3.0)], robots=1))
    words = progress.line().split("  ")
    assert words[0] == "download 2/4 parts"
    assert words[1].startswith("20 images, ")
    assert words[1].endswith("/s, 75% good")
    assert words[2] == "0 s left"
    assert words[3] == "not_found 3, timeout 1, robots 1"
    assert words[4] == "slowest a.example 4.5 s, c.example 1.0 s"


def test_a_further_round_counts_its_own_parts_and_joining_counts_no_image_again() -> None:
    progress = Progress("download", "images", DownloadRates())
    progress.start(1, [], [10])
    progress.finish("00000", 10, counts(8, [], timeout=2))
    progress.start(1, [], [2])
    progress.finish("00000-2", 2, counts(1, [], timeout=1))
    progress.start(1, [], [10])
    progress.finish("00000", 10, {"images": {"seen": 10, "kept": 9, "dropped": {"timeout": 1}}, "bytes": 5})
    assert progress.line().startswith("download 1/1 parts  12 images, ")
