"""The audit page in a real browser: labels by keyboard, resumed after a reload, saved as CSV and scored."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from made.processes import browser, programs
from made.versions import sample_version

from laion_dask.audit import audit_page, audit_sample, audit_score, labels, questions
from laion_dask.params import Params

pytestmark = pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium on this machine")


async def saved(folder: Path) -> Path:
    def found() -> list[Path]:
        return list(folder.glob("labels-*.csv"))

    await asyncio.to_thread(programs.until, lambda: bool(found()), "the labels are saved")
    return (await asyncio.to_thread(found))[0]


async def label(tab: browser.Tab, page: str, downloads: Path) -> Path:
    await tab.open(page)
    blurred = "getComputedStyle(document.getElementById('picture')).filter"
    assert await tab.value(blurred) == "blur(28px)"
    await tab.press(" ")
    assert await tab.value(blurred) == "none"
    await tab.press("y", "n", "n")
    # The next pair, and blurred again.
    assert await tab.value("document.getElementById('place').textContent") == "pair 2 of 12"
    assert await tab.value(blurred) == "blur(28px)"
    await tab.press("n", "3", "y", "u")
    assert await tab.value("document.getElementById('count').textContent") == "2 done"
    await tab.press("y")
    await tab.open(page)
    assert await tab.value("document.getElementById('place').textContent") == "pair 3 of 12"
    assert await tab.value("document.getElementById('count').textContent") == "2 done"
    # Back to the first, where a second answer replaces the first.
    await tab.press("ArrowLeft", "ArrowLeft", "1", "n", "s")
    # The caption of the web is text, and the page's policy stops what it would have run.
    assert await tab.value("document.getElementById('caption').textContent") == ATTACK
    assert await tab.value("window.attacked") is None
    return await saved(downloads)


ATTACK = "</script><img src=x onerror='window.attacked=1'><script>window.attacked=1</script> a fox"


def test_labels_given_by_keyboard_are_kept_saved_and_scored(tmp_path: Path, defaults: Params) -> None:
    data, _ = sample_version.write(tmp_path, links=60, shards=1, text=ATTACK)
    drawn = audit_sample.sample(data, defaults, questions.read(), size=8, seed=1)
    drawn = audit_sample.AuditSample(
        drawn.name, drawn.seed, drawn.questions, drawn.drawn[:12], drawn.sizes, drawn.cells, drawn.outside
    )
    audit_page.write(tmp_path / "audit", drawn, defaults)
    downloads = tmp_path / "downloads"
    downloads.mkdir()

    async def walk() -> Path:
        async with browser.tab(tmp_path / "profile", downloads) as tab:
            return await label(tab, (tmp_path / "audit" / "audit.html").as_uri(), downloads)

    path = asyncio.run(walk())
    found = labels.read([path], drawn)
    answers = {(one.uid, one.question): one.answer for one in found}
    first, second, third = (pair.uid for pair in drawn.drawn[:3])
    assert answers == {
        (first, "matching"): "no",
        (first, "unsafe"): "no",
        (first, "watermark"): "no",
        (second, "matching"): "no",
        (second, "unsafe"): "unsure",
        (second, "watermark"): "yes",
        (third, "matching"): "yes",
    }
    scored = audit_score.score(audit_page.read(tmp_path / "audit"), found)
    assert {one.decision: (one.labelled, one.unsure) for one in scored.decisions}["unsafe"] == (1, 1)
