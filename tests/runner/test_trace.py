"""What a part takes is measured on its worker: time, processor time, memory, bytes; and what that costs."""

from __future__ import annotations

import mmap
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import Client
from made.processes import programs
from made.processes.squares import numbers, square

from laion_dask.runner import parts, tasks, trace
from laion_dask.runner.progress import Progress
from laion_dask.runner.trace import Measured

BURN = "import time\nwhile time.process_time() < {}: pass"


def spin(seconds: float) -> None:
    """Use processor time of this thread."""
    until = time.thread_time() + seconds
    while time.thread_time() < until:
        pass


def in_child(seconds: float) -> None:
    programs.finished([sys.executable, "-c", BURN.format(seconds)], check=True)


@pytest.mark.parametrize(
    ("work", "least"),
    [(lambda: spin(0.3), 0.3), (lambda: in_child(0.3), 0.3), (lambda: time.sleep(0.3), 0.0)],
    ids=["own time", "time of a child that has ended", "waiting"],
)
def test_processor_time_is_that_of_the_process_and_its_children(
    tmp_path: Path, work: Callable[[], None], least: float
) -> None:
    with trace.measured(tmp_path / "key") as part:
        work()
    assert part.ended - part.started >= 0.3
    assert least <= part.processor_seconds < least + 1.5


def test_the_time_of_a_child_that_lives_on_counts_for_the_part_that_it_worked_for(tmp_path: Path) -> None:
    # A decoder lives for many parts: only what it does meanwhile belongs to one of them.
    code = "import sys\n" + BURN.format(0.4) + "\nprint('half', flush=True)\nsys.stdin.read(1)\n" + BURN.format(0.8)
    with subprocess.Popen(
        [sys.executable, "-c", code + "\nprint('done', flush=True)\nsys.stdin.read()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as child:
        assert child.stdin
        assert child.stdout
        assert child.stdout.readline() == "half\n"
        with trace.measured(tmp_path / "key") as part:
            child.stdin.write("x")
            child.stdin.flush()
            assert child.stdout.readline() == "done\n"
        child.stdin.close()
    assert 0.3 < part.processor_seconds < 0.7


def test_parts_that_run_at_once_in_a_process_share_its_time_and_none_is_counted_twice(tmp_path: Path) -> None:
    parts: list[Measured] = []
    both = threading.Barrier(2, timeout=60)

    def run(name: str) -> None:
        with trace.measured(tmp_path / name) as part:
            parts.append(part)
            both.wait()
            spin(0.3)
            both.wait()

    threads = [threading.Thread(target=run, args=(name,)) for name in ("a", "b")]
    before = time.process_time()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    used = time.process_time() - before
    assert sum(part.processor_seconds for part in parts) == pytest.approx(used, abs=0.1)
    assert all(part.processor_seconds > 0.2 for part in parts)


@pytest.mark.skipif(sys.platform != "linux", reason="elsewhere the peak is that of the whole process")
def test_the_peak_of_memory_is_that_of_the_part_and_not_of_the_one_before(tmp_path: Path) -> None:
    # Pages of its own: malloc would give memory that earlier tests have freed and that is still resident.
    with trace.measured(tmp_path / "large") as large, mmap.mmap(-1, 200_000_000) as block:
        for start in range(0, len(block), mmap.PAGESIZE):
            block[start] = 1
    with trace.measured(tmp_path / "small") as small:
        pass
    assert large.peak_bytes - small.peak_bytes > 150_000_000


def test_bytes_are_those_of_the_parts_files_and_a_part_that_was_there_is_told_apart(tmp_path: Path) -> None:
    folder = tmp_path / "key"

    def finish(attempt: int, *, redo: bool = False) -> Measured:
        with trace.measured(folder, attempt) as part:
            tasks.finish_part(square, folder, {"number": 12}, redo=redo)
        return part

    first = finish(2)
    assert (first.made, first.bytes, first.attempt) == (True, 3, 2)
    assert finish(3) == first, "another worker finds it: the answer of the first one was lost with that"
    shutil.rmtree(tmp_path / trace.MEASURES)
    assert (finish(3).made, finish(4, redo=True).made) == (False, True)
    assert finish(5).attempt == 4


def test_a_part_that_raises_is_measured_too(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no"), trace.measured(tmp_path / "key", attempt=3) as part:
        raise ValueError("no")
    assert part.ended >= part.started > time.time() - 60
    assert (part.bytes, part.attempt, part.worker) == (0, 3, "")


class Heard(Progress):
    """The progress of a stage, and which parts its workers have begun with."""

    def __init__(self) -> None:
        super().__init__("squares", "numbers")
        self.begun: list[str] = []

    def started(self, name: str, seconds_ago: float = 0.0) -> None:
        self.begun.append(name)
        super().started(name, seconds_ago)


def begin(name: str, run: str) -> str:
    trace.announce(name, run)
    with trace.measured(Path("nowhere")) as part:
        return part.worker


def test_a_worker_says_which_parts_it_begins_with_and_elsewhere_nobody_is_told(client: Client) -> None:
    told: list[str] = []
    with trace.heard(client, "one", told.append):
        address = client.submit(begin, "00002", "another", pure=False).result()
        client.submit(begin, "00001", "one", pure=False).result()
        programs.until(lambda: bool(told), "the event arrives")
    assert address in client.scheduler_info(n_workers=-1)["workers"]
    assert told == ["00001"], "that of another run on the same scheduler is not heard"
    trace.announce("00003", "one")


def test_a_run_hears_which_parts_its_workers_begin_with(client: Client, tmp_path: Path) -> None:
    progress = Heard()
    parts.run(square, numbers(*range(5)), tmp_path, client, progress=progress)
    # A worker says so before it says that the part is finished, on the same connection.
    assert sorted(progress.begun) == [part.name for part in numbers(*range(5))]


@pytest.mark.slow
def test_measuring_a_part_takes_less_than_five_milliseconds_of_a_processor(tmp_path: Path) -> None:
    times = []
    for number in range(100):
        began = time.thread_time()
        with trace.measured(tmp_path / str(number)):
            pass
        times.append(time.thread_time() - began)
    assert sorted(times)[50] < 0.005
