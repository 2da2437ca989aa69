"""Signals that end a run: at any moment one line, the status that is expected, and no process of the run is left."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path

import pytest
from made.places import ROOT
from made.projects.project import SMALL, Project

from laion_dask.runner import interrupts

STATUS = {signal.SIGINT: 130, signal.SIGTERM: 143, signal.SIGHUP: 129}


def family(process: int) -> list[int]:
    """List a process and all below it."""
    parents = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        try:
            words = path.read_text().rpartition(")")[2].split()
        except OSError:
            continue
        if words[0] not in "ZX":
            parents[int(path.parent.name)] = int(words[1])
    found = [process]
    for one in found:
        found += [child for child, parent in parents.items() if parent == one]
    return found


def hears(process: int) -> bool:
    """Say whether the process has taken SIGTERM into its own hands."""
    try:
        status = Path(f"/proc/{process}/status").read_text()
    except OSError:
        return False
    caught = next((line.split()[1] for line in status.splitlines() if line.startswith("SigCgt")), "0")
    return bool(int(caught, 16) >> (signal.SIGTERM - 1) & 1)


def processes(number: int) -> Callable[[int, Path], bool]:
    return lambda process, _: len(family(process)) >= number


MOMENTS: dict[str, Callable[[int, Path], bool]] = {
    "while it imports": lambda process, _: hears(process),
    "while the cluster starts": processes(2),
    "while the workers connect": processes(4),
    "while parts are under way": lambda _, folder: any((folder / ".laion_dask" / "parts" / "crawl").glob("*")),
}


def ended_at(run: subprocess.Popen[str], folder: Path, moment: str, number: signal.Signals, *, group: bool) -> str:
    """Send a signal at a moment, and return what the run has said; nothing of it may be left."""
    while not MOMENTS[moment](run.pid, folder) and run.poll() is None:
        time.sleep(0.01)
    below = family(run.pid)
    (os.killpg if group else os.kill)(run.pid, number)
    said, _ = run.communicate()
    assert run.returncode == STATUS[number], said
    for process in below:
        for _ in range(600):
            if not _is_there(process):
                break
            time.sleep(0.1)
        assert not _is_there(process), f"{process} is left"
    return said


def _is_there(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


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
    run = subprocess.Popen(
        [sys.executable, "-m", "laion_dask.cli.main", "crawl"],
        cwd=Project.create(tmp_path / "p", SMALL).folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DASK_LAION_DASK__CLUSTER__WORKERS": "2"},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
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
    dvc = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=project.folder,
        env={**os.environ, "PYTHONPATH": str(ROOT), "DVC_STAGE": "crawl", "DASK_LAION_DASK__CLUSTER__WORKERS": "1"},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert dvc.stdout is not None
    shell = int(dvc.stdout.readline())
    while len(below := family(shell)) < 4:
        time.sleep(0.05)
    dvc.terminate()
    dvc.communicate()
    for process in below:
        while _is_there(process):
            time.sleep(0.1)


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
    said = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True).stdout
    assert said.strip() == "True"
