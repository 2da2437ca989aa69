"""Signals that end a run: at any moment one line, the status that is expected, and no process of the run is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest
from made.places import ROOT
from made.processes import programs
from made.projects.project import SMALL, Project

from laion_dask.cluster import interrupts

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def hears(process: int) -> bool:
    """Say whether the process has taken SIGTERM into its own hands."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def processes(number: int) -> Callable[[int, Path], bool]:
    return lambda process, _: len(programs.family(process)) >= number


MOMENTS: dict[str, Callable[[int, Path], bool]] = {
    "while it imports": lambda process, _: hears(process),
    "while the cluster starts": processes(2),
    "while the workers connect": processes(4),
    "while parts are under way": lambda _, folder: any((folder / ".laion_dask" / "parts" / "crawl").glob("*")),
}


def ended_at(run: subprocess.Popen[str], folder: Path, moment: str, number: signal.Signals, *, group: bool) -> str:
    """Send a signal at a moment, and return what the run has said; nothing of it may be left."""
    programs.until(lambda: MOMENTS[moment](run.pid, folder) or run.poll() is not None, moment, run)
    below = programs.family(run.pid)
    (os.killpg if group else os.kill)(run.pid, number)
    said = programs.ended(run)
    assert run.returncode == STATUS[number], said
    all_gone(below, said)
    return said


def all_gone(processes: list[int], said: str) -> None:
    """Wait until none of these processes is left."""
    try:
        programs.until(
            lambda: not any(map(programs.is_there, processes)), f"processes {processes} end; their run said:\n{said}"
        )
    finally:
        for process in filter(programs.is_there, processes):
            os.kill(process, signal.SIGKILL)


@pytest.mark.parametrize("moment", MOMENTS)
@pytest.mark.parametrize(
    ("number", "group"),
    [(signal.SIGINT, True), (signal.SIGTERM, False), (signal.SIGTERM, True), (signal.SIGHUP, True)],
    ids=["Ctrl-C", "SIGTERM to the stage", "SIGTERM to all its processes", "SIGHUP"],
)
def test_a_stage_ends_in_order_at_any_moment(moment: str, number: signal.Signals, group: bool, tmp_path: Path) -> None:  # noqa: FBT001 - a case of the table
    project = Project.create(tmp_path / "p", {**SMALL, "crawl.demo_pages": 2400})
    said = ended_at(project.start("crawl"), project.folder, moment, number, group=group)
    assert "Traceback" not in said
    assert "rror" not in said, said
    told = {signal.SIGINT: "interrupted"}.get(number, f"ended by {number.name}")
    assert f"crawl: {told}" in said or "crawl: interrupted." in said


@pytest.mark.parametrize("moment", ["while it imports", "while the workers connect"])
def test_a_command_ends_like_a_stage(moment: str, tmp_path: Path) -> None:
    run = programs.start(
        [sys.executable, "-m", "laion_dask.cli.main", "crawl"],
        cwd=Project.create(tmp_path / "p", SMALL).folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DASK_LAION_DASK__CLUSTER__WORKERS": "2"},
    )
    said = ended_at(run, tmp_path / "p", moment, signal.SIGTERM, group=False)
    assert "Traceback" not in said


def test_a_stage_ends_when_dvc_that_started_it_is_gone(tmp_path: Path) -> None:
    project = Project.create(tmp_path / "p", {**SMALL, "crawl.demo_pages": 2400})
    code = (
        "import subprocess, sys\n"
        f"run = subprocess.Popen(['sh', '-c', {sys.executable!r} + ' -m workflow.crawl; true'])\n"
        "print(run.pid, flush=True)\nrun.wait()"
    )
    with (tmp_path / "said.txt").open("w+") as said:
        dvc = programs.start(
            [sys.executable, "-c", code],
            cwd=project.folder,
            env={**os.environ, "PYTHONPATH": str(ROOT), "DVC_STAGE": "crawl", "DASK_LAION_DASK__CLUSTER__WORKERS": "1"},
            stderr=said,
        )
        shell = int(programs.line_of(dvc))
        programs.until(lambda: len(programs.family(shell)) >= 4, "a worker of the stage has started", dvc)
        below = programs.family(shell)
        dvc.terminate()
        # What the stage says on its way out comes through the pipe of the program that has started it.
        programs.ended(dvc)
        all_gone(below, (tmp_path / "said.txt").read_text())


def held_while(number: signal.Signals, work: Callable[[], object]) -> None:
    with interrupts.defer_signals():
        os.kill(os.getpid(), number)
        work()


class TestHeld:
    """A signal waits for the end of a block, and is not lost."""

    @pytest.mark.parametrize(
        ("number", "raised"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, interrupts.Ended)]
    )
    def test_a_signal_in_a_block_is_raised_at_its_end(
        self, number: signal.Signals, raised: type[BaseException]
    ) -> None:
        reached = []
        with interrupts.raise_on_signals(), pytest.raises(raised):
            held_while(number, lambda: reached.append(True))
        assert reached

    def test_a_block_that_fails_meanwhile_ends_with_the_signal(self) -> None:
        def fail() -> None:
            raise OSError

        with interrupts.raise_on_signals(), pytest.raises(interrupts.Ended) as ended:
            held_while(signal.SIGTERM, fail)
        assert ended.value.status == 143

    def test_handlers_are_those_from_before_afterwards(self) -> None:
        before = [signal.getsignal(number) for number in interrupts.SIGNALS]
        with interrupts.raise_on_signals(), interrupts.defer_signals():
            pass
        assert [signal.getsignal(number) for number in interrupts.SIGNALS] == before

    def test_what_was_ignored_stays_ignored(self) -> None:
        before = signal.signal(signal.SIGHUP, signal.SIG_IGN)
        try:
            with interrupts.raise_on_signals():
                os.kill(os.getpid(), signal.SIGHUP)
        finally:
            signal.signal(signal.SIGHUP, before)

    def test_other_threads_decide_on_no_signals(self) -> None:
        found = []

        def work() -> None:
            with interrupts.raise_on_signals(), interrupts.defer_signals():
                found.append(signal.getsignal(signal.SIGTERM))

        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found == [signal.getsignal(signal.SIGTERM)]


def test_a_program_that_only_imports_us_keeps_its_handlers() -> None:
    code = "import signal, workflow.program; print(signal.getsignal(signal.SIGTERM) == signal.SIG_DFL)"
    assert programs.finished([sys.executable, "-c", code], cwd=ROOT, check=True).stdout.strip() == "True"
