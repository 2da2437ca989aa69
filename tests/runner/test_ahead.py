"""Parts of the next stage that run meanwhile: which ones, how many at once, and what a failure does."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path

import pytest

from laion_dask.runner.ahead import Ahead
from laion_dask.runner.part import Done, Part


def done(name: str) -> Done:
    return Done(Part(name, f"key-{name}"), Path(name), {})


def named(one: Done) -> Part | None:
    return None if one.part.name.startswith("later") else Part(one.part.name, f"next-{one.part.name}")


def test_each_final_part_is_run_and_one_that_may_still_change_is_not() -> None:
    ran: list[str] = []
    last = threading.Event()

    def run(parts: Sequence[Part]) -> None:
        ran.extend(part.key for part in parts)
        if "next-c" in ran:
            last.set()

    ahead = Ahead(named, run, lambda: 1, print)
    with ahead.running():
        for name in ("a", "later-b", "c"):
            ahead.add(done(name))
        assert last.wait(30)
    assert ran == ["next-a", "next-c"]
    assert ahead.ready == 2


def test_the_stage_waits_for_the_parts_that_have_begun_and_begins_no_others() -> None:
    began, goes_on, sizes = threading.Event(), threading.Event(), []

    def run(parts: Sequence[Part]) -> None:
        sizes.append(len(parts))
        began.set()
        assert goes_on.wait(30)

    ahead = Ahead(named, run, lambda: 2, print)
    for number in range(7):
        ahead.add(done(str(number)))
    with ahead.running():
        assert began.wait(30)
        threading.Timer(0.2, goes_on.set).start()
    assert sizes == [2]
    assert ahead.ready == 2


def test_a_part_that_fails_is_reported_and_ends_only_what_runs_ahead() -> None:
    said: list[str] = []
    told = threading.Event()

    def run(_: Sequence[Part]) -> None:
        raise ValueError("no such model")

    def say(message: str) -> None:
        said.append(message)
        told.set()

    ahead = Ahead(named, run, lambda: 1, say)
    with ahead.running():
        ahead.add(done("a"))
        assert told.wait(30)
        ahead.add(done("b"))
    assert said == ["nothing more runs ahead: ValueError: no such model. The next stage runs it again."]


def test_a_stage_that_fails_does_not_wait() -> None:
    goes_on = threading.Event()
    ahead = Ahead(named, lambda _: goes_on.wait(30), lambda: 1, print)
    ahead.add(done("a"))
    with pytest.raises(OSError, match="disk"), ahead.running():
        raise OSError("disk")
    assert not goes_on.is_set()
    goes_on.set()
