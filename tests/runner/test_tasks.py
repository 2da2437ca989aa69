"""How parts are handed to workers: many in a task, and what becomes of the others when one fails or kills."""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import re
import signal
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import dask
import pytest
from distributed import Client, Future
from made.processes.dask_clients import threads_of_this_process
from made.processes.squares import calls, numbers, run, square, tree

from laion_dask.cluster import kinds
from laion_dask.runner import parts, tasks
from laion_dask.runner.attempts import ATTEMPTS, finish_part
from laion_dask.runner.part_files import COUNTS_FILE
from laion_dask.runner.parts import PartsFailedError
from laion_dask.runner.progress import Progress
from laion_dask.runner.trace_file import Trace
from laion_dask.workers.checks import Ticket
from laion_dask.workers.patience import WorkersGoneError


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@pytest.fixture
def sizes(client: Client, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many parts each task took that was handed out."""
    found: list[int] = []
    submit = client.submit

    def counted(function: Callable[..., Any], what: object, some: Sequence[Any], **how: object) -> Future[Any]:
        found.append(len(some))
        return submit(function, what, some, **how)

    monkeypatch.setattr(client, "submit", counted)
    return found


@pytest.mark.slow
def test_small_parts_share_tasks_and_the_last_tasks_are_small_again(
    tmp_path: Path, client: Client, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_TASK_SECONDS", 60.0)
    done = run(numbers(*range(300)), tmp_path, client)
    assert sorted(part.counts["sum"] for part in done) == [n**2 for n in range(300)]
    assert sum(sizes) == 300
    assert sizes[0] == sizes[-1] == 1
    assert max(sizes) > 10


def test_parts_that_fill_a_task_have_one_each(
    tmp_path: Path, client: Client, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_TASK_SECONDS", 0.0)
    run(numbers(*range(30)), tmp_path, client)
    assert sizes == [1] * 30


@pytest.mark.slow
def test_a_part_that_fails_does_not_stop_those_of_its_task(
    tmp_path: Path, client: Client, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_TASK_SECONDS", 60.0)
    with pytest.raises(PartsFailedError, match="1 of 300 parts failed; 299 are finished"):
        run(numbers(*range(300)), tmp_path, client, bad=150)
    assert max(sizes) > 10
    assert len(list(tmp_path.glob(f"*/{COUNTS_FILE}"))) == 299


def test_parts_to_redo_have_a_task_each(
    tmp_path: Path, client: Client, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_TASK_SECONDS", 60.0)
    run(numbers(*range(60), redo=True), tmp_path, client)
    assert sizes == [1] * 60


class PanicError(BaseException):
    """As native libraries raise that panic: no Exception."""


def panic(out: Path, *, number: int) -> dict[str, Any]:
    if number == 150:
        raise PanicError("out of bounds")
    return square(out, number=number)


@pytest.mark.slow
def test_a_panic_is_the_failure_of_its_part_alone(
    tmp_path: Path, client: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_TASK_SECONDS", 60.0)
    with pytest.raises(PartsFailedError, match=r"1 of 300 parts failed; 299 are .*\n  150: PanicError: out of bounds"):
        parts.run(panic, numbers(*range(300)), tmp_path, client, progress=Progress("square", "numbers"))


def test_a_task_that_fails_as_a_whole_is_asked_part_by_part(
    tmp_path: Path, client: Client, sizes: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tasks, "_TASK_SECONDS", 60.0)
    whole = tasks.finish_parts

    def finish(function: tasks.PartFunction, some: Sequence[Any], ticket: Ticket) -> tasks.Answer:
        if len(some) > 1:
            raise RuntimeError("not to be unpacked")
        return whole(function, some, ticket)

    monkeypatch.setattr(tasks, "finish_parts", finish)
    done = run(numbers(*range(60)), tmp_path, client)
    assert [part.counts["sum"] for part in done] == [n**2 for n in range(60)]
    assert max(sizes) > 1


def kill(out: Path, *, number: int, deadly: int, lives: int, diary: Path) -> dict[str, Any]:
    with (diary / str(number)).open("a") as stream:
        stream.write("x")
    if number == deadly and (diary / str(number)).stat().st_size <= lives:
        os.kill(os.getpid(), signal.SIGKILL)
    return square(out, number=number)


@pytest.fixture(scope="class")
def mortal() -> Iterator[Client]:
    workers = {"laion-dask.cluster.kind": "local", "laion-dask.cluster.workers": 2}
    with dask.config.set(workers), kinds.open_client() as client:
        yield client


class TestWorkersThatDie:
    def attempts(self, diary: Path) -> dict[int, int]:
        return {int(path.name): path.stat().st_size for path in diary.iterdir()}

    @pytest.mark.slow
    def test_a_worker_that_dies_costs_its_part_once(self, tmp_path: Path, mortal: Client) -> None:
        (diary := tmp_path / "diary").mkdir()
        shared = {"deadly": 3, "lives": 1, "diary": diary}
        work, record = tmp_path / "work", Trace("square")
        progress = Progress("square", "numbers")
        done = parts.run(kill, numbers(*range(6)), work, mortal, shared=shared, progress=progress, record=record)
        assert [part.counts["sum"] for part in done] == [0, 1, 4, 9, 16, 25]
        assert self.attempts(diary)[3] == 2
        assert [row["attempt"] for row in record.rows()] == [1, 1, 1, 2, 1, 1]
        assert not (work / ATTEMPTS).exists()

    @pytest.mark.slow
    def test_a_worker_that_dies_in_a_task_of_many_parts_costs_the_others_nothing(
        self, tmp_path: Path, mortal: Client, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(tasks, "_TASK_SECONDS", 60.0)
        (diary := tmp_path / "diary").mkdir()
        shared = {"deadly": 30, "lives": 1, "diary": diary}
        work = tmp_path / "work"
        done = parts.run(kill, numbers(*range(90)), work, mortal, shared=shared, progress=Progress("square", "numbers"))
        assert [part.counts["sum"] for part in done] == [n**2 for n in range(90)]
        assert self.attempts(diary) == {n: 2 if n == 30 else 1 for n in range(90)}

    @pytest.mark.slow
    def test_a_part_that_kills_three_workers_is_set_aside_and_the_others_finish(
        self, tmp_path: Path, mortal: Client
    ) -> None:
        (diary := tmp_path / "diary").mkdir()
        shared = {"deadly": 3, "lives": 99, "diary": diary}
        work = tmp_path / "work"
        with pytest.raises(PartsFailedError) as failed:
            parts.run(kill, numbers(*range(6)), work, mortal, shared=shared, progress=Progress("square", "numbers"))
        message = str(failed.value)
        assert message.startswith(
            "1 of 6 parts failed; 5 are finished and kept:\n  03: PartKilledError: killed its worker"
        )
        assert "3 times (traceback: " in message
        assert self.attempts(diary)[3] == 3
        told = (work / "03.error.txt").read_text()
        assert "PartKilledError" in told
        assert told.count("died in this part; its last traceback:") == 3

    @pytest.mark.slow
    def test_a_crash_in_native_code_leaves_its_traceback(self, tmp_path: Path) -> None:
        (part,) = numbers(2)
        process = multiprocessing.get_context("spawn").Process(
            target=finish_part, args=(crash, str(tmp_path / part.key), {})
        )
        process.start()
        process.join(60)
        assert process.exitcode == -signal.SIGSEGV
        (note,) = (tmp_path / ATTEMPTS).iterdir()
        assert "Segmentation fault" in note.read_text()
        assert "in crash" in note.read_text()


def crash(out: Path) -> dict[str, Any]:
    ctypes.string_at(0)
    return {"out": out.name}


def test_a_run_whose_workers_are_all_gone_ends_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tasks, "_POLL_SECONDS", 0.1)
    said = r"no worker for 1 s, and 1 tasks wait for one\..*raise laion-dask\.cluster\.patience \(1 s now\)"
    with (
        dask.config.set({"laion-dask.cluster.patience": "1 s"}),
        threads_of_this_process(0) as nobody,
        pytest.raises(WorkersGoneError, match=re.compile(said, re.DOTALL)),
    ):
        run(numbers(1, 2), tmp_path, nobody)


@pytest.mark.slow
def test_two_attempts_of_one_part_give_one_folder(tmp_path: Path) -> None:
    both = threading.Barrier(2, timeout=120)

    def meet(out: Path, number: int) -> dict[str, Any]:
        counts = square(out, number=number)
        both.wait()
        return counts

    with ThreadPoolExecutor(2) as pool:
        first, second = pool.map(lambda _: finish_part(meet, str(tmp_path / "key"), {"number": 3}), range(2))
    assert first == second
    assert calls == [3, 3]
    assert sorted(tree(tmp_path)) == ["key/counts.json", "key/folder/3.txt"]
