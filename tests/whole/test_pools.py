"""Pools that change: workers that come late, leave, die, are refused or restart; real processes on three addresses."""

from __future__ import annotations

import gc
import os
import signal
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from made.places import ROOT, TESTS
from made.processes import programs
from made.processes.elsewhere import copy_of_code, names, scheduler, scheduler_process, worker
from made.processes.pool_runs import Background, connected, deadly, patient, pids, run
from made.processes.squares import numbers

from laion_dask.runner import attempts, parts
from laion_dask.runner.parts import PartsFailedError
from laion_dask.runner.probe import try_out
from laion_dask.runner.progress import Progress
from laion_dask.workers import patience
from laion_dask.workers import pool as pools
from laion_dask.workers.checks import WorkerRefusedError
from laion_dask.workers.patience import WorkersGoneError
from laion_dask.workers.pool import SchedulerLostError, open_pool

pytestmark = pytest.mark.slow

FIRST, SECOND = ["--host", "tcp://127.0.0.2"], ["--host", "tcp://127.0.0.3"]


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with scheduler(tmp_path_factory.mktemp("scheduler"), host="127.0.0.2") as found:
        yield found


@pytest.fixture
def diary(tmp_path: Path) -> Path:
    (tmp_path / "diary").mkdir()
    return tmp_path / "diary"


def test_two_hosts_share_the_parts_and_a_worker_that_comes_late_gets_some(
    tmp_path: Path, diary: Path, address: str
) -> None:
    with ExitStack() as pool, connected(address) as client:
        pool.enter_context(worker(address, tmp_path / "first", more=FIRST))
        background = Background(lambda: run(client, tmp_path / "work", 40, diary=diary))
        programs.until(lambda: len(pids(diary)) == 1, "the first worker works")
        pool.enter_context(worker(address, tmp_path / "second", more=SECOND))
        done = background.end()
    assert [part.counts["sum"] for part in done] == [n**2 for n in range(40)]
    assert len(pids(diary)) == 2
    assert len([*diary.iterdir()]) == 40


def test_a_run_waits_for_the_first_worker_and_says_so(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(patience, "_SAY_S", 0.5)
    with connected(address, patience="5 minutes") as client:
        background = Background(lambda: run(client, tmp_path / "work", 2))
        time.sleep(2.5)
        with worker(address, tmp_path / "late"):
            assert len(background.end()) == 2
    said = capsys.readouterr().err
    assert "slow: no worker for 1 s; 1 tasks wait, for at most 5 min 00 s" in said
    assert f"(laion-dask.cluster.patience). Scheduler: {address}" in said


def test_a_run_whose_patience_ends_says_what_to_do(tmp_path: Path, address: str) -> None:
    with (
        connected(address, patience="1.5 s") as client,
        pytest.raises(WorkersGoneError, match=r"(?s)no worker for 2 s, and 1 tasks wait.*raise laion-dask"),
    ):
        run(client, tmp_path / "work", 2)


def test_a_resource_that_nobody_has_ends_the_run_with_a_message_and_one_that_a_worker_has_is_used(
    tmp_path: Path, diary: Path, address: str
) -> None:
    asked = {"resources": {"NET": 1}, "patience": "2 s"}
    with worker(address, tmp_path / "without") as without, connected(address, **asked) as client:
        with pytest.raises(WorkersGoneError, match=r"(?s)no worker with the resources \{NET: 1\} .*1 without"):
            run(client, tmp_path / "work", 2)
        with worker(address, tmp_path / "with", more=["--resources", "NET=1"]):
            assert len(run(client, tmp_path / "work", 4, diary=diary, seconds=0.0)) == 4
    assert without.pid not in pids(diary)
    assert len(pids(diary)) == 1


def test_a_worker_with_other_code_gets_nothing_and_the_others_go_on(
    tmp_path: Path, diary: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = copy_of_code(tmp_path / "code")
    (code / "laion_dask" / "added.py").write_text("")
    with ExitStack() as pool, connected(address) as client:
        other = pool.enter_context(worker(address, tmp_path / "other", code))
        good = pool.enter_context(worker(address, tmp_path / "good"))
        background = Background(lambda: run(client, tmp_path / "work", 20, diary=diary))
        pool.enter_context(worker(address, tmp_path / "late", code))
        assert len(background.end()) == 20
    assert pids(diary) == {good.pid}
    said = capsys.readouterr().err
    assert f"process {other.pid} is refused: its code is not the driver's: laion_dask's files " in said
    assert "Remedy: install the same commit of this project" in said


def test_processors_of_several_kinds_are_told_once(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with ExitStack() as pool, connected(address) as client:
        for number, kind in enumerate(("Haswell", "Zen", "Zen")):
            pool.enter_context(worker(address, tmp_path / f"w{number}", OPENBLAS_CORETYPE=kind))
        assert len(run(client, tmp_path / "work", 6, seconds=0.1)) == 6
    said = capsys.readouterr().err
    assert said.count("slow: workers have processors of several kinds (") == 1
    assert "OPENBLAS_CORETYPE=Zen" in said
    assert "Remedy: use workers of one kind for a version" in said


def test_a_processor_that_is_not_the_driver_s_is_told_once(
    tmp_path: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with worker(address, tmp_path / "w", OPENBLAS_CORETYPE="Zen"), connected(address) as client:
        assert len(run(client, tmp_path / "work", 2)) == 2
    said = capsys.readouterr().err
    assert said.count("workers have another processor (") == 1
    assert "OPENBLAS_CORETYPE=Zen" in said


def test_a_worker_whose_code_has_changed_on_disk_since_it_started_is_restarted_once(
    tmp_path: Path, diary: Path, address: str, capsys: pytest.CaptureFixture[str]
) -> None:
    code = copy_of_code(tmp_path / "code")
    (code / "laion_dask" / "added.py").write_text("")
    with ExitStack() as pool:
        pool.enter_context(worker(address, tmp_path / "w", code, nanny=True))
        with connected(address) as client:
            (old,) = client.run(load).values()
            (code / "laion_dask" / "added.py").unlink()
            assert len(run(client, tmp_path / "work", 3, diary=diary)) == 3
    (new,) = pids(diary)
    assert new != old
    assert "restarts, because its code is not the driver's: laion_dask's files " in capsys.readouterr().err


def load() -> int:
    """Read the code of a worker, as an earlier run would have done."""
    from laion_dask.workers import code_digest

    code_digest.of_process()
    return os.getpid()


@pytest.mark.parametrize(
    ("nanny", "expected"),
    [
        (True, {"no profile", "no profile-cycle", "may start processes"}),
        (False, {"no profile", "no profile-cycle", "OMP_NUM_THREADS=1"}),
    ],
)
def test_what_a_worker_was_started_without_is_set_there(
    tmp_path: Path,
    address: str,
    nanny: bool,  # noqa: FBT001
    expected: set[str],
) -> None:
    given = {"OMP_NUM_THREADS": "1" if nanny else "4"}
    with worker(address, tmp_path / "w", nanny=nanny, **given), connected(address) as client:
        assert [*client.run(state).values()] == [(True, nanny, given["OMP_NUM_THREADS"])]
        with open_pool(client, tmp_path, "slow", print) as pool:
            tried = try_out(pool, tmp_path, Progress("slow", "tiny"))
            assert [*client.run(state).values()] == [(False, False, "1")]
    (member,) = tried.members
    assert expected <= {*member.changed}
    assert tried.refused == ()


def state(dask_worker: Any) -> tuple[bool, bool, str | None]:  # noqa: ANN401 - the name is Dask's
    import multiprocessing

    daemon = multiprocessing.current_process().daemon
    return "profile" in dask_worker.periodic_callbacks, daemon, os.environ.get("OMP_NUM_THREADS")


@pytest.mark.parametrize("how", [signal.SIGKILL, signal.SIGTERM])
def test_a_worker_that_ends_in_the_middle_of_a_part_costs_that_part_once(
    tmp_path: Path, diary: Path, address: str, how: signal.Signals
) -> None:
    with ExitStack() as pool, connected(address) as client:
        first = pool.enter_context(worker(address, tmp_path / "first", more=FIRST))
        pool.enter_context(worker(address, tmp_path / "second", more=SECOND))
        background = Background(lambda: run(client, tmp_path / "work", 8, diary=diary, seconds=2.0))
        programs.until(lambda: first.pid in pids(diary), "the first worker works")
        os.kill(first.pid, how)
        done = background.end()
    assert [part.counts["sum"] for part in done] == [n**2 for n in range(8)]
    assert len([*diary.iterdir()]) <= 9 + 1  # SIGTERM lets a part end that another worker has begun again


def test_workers_whose_time_is_over_are_not_deaths_of_their_part(tmp_path: Path, diary: Path, address: str) -> None:
    # As at the end of a job's time: a batch system sends SIGTERM, and SIGKILL after a while.
    with connected(address) as client:
        progress = Progress("slow", "numbers")
        work, shared = tmp_path / "work", {"go": tmp_path / "go", "diary": diary}
        background = Background(lambda: parts.run(patient, numbers(2), work, client, shared=shared, progress=progress))
        for number in range(4):
            with worker(address, tmp_path / f"short-{number}") as short:
                programs.until(lambda: short.pid in pids(diary), "it works")
                os.kill(short.pid, signal.SIGTERM)
                programs.until(lambda: not any((work / attempts.ATTEMPTS).iterdir()), "its note is withdrawn")
                os.kill(short.pid, signal.SIGKILL)
        (tmp_path / "go").touch()
        with worker(address, tmp_path / "long"):
            (done,) = background.end()
    assert done.counts["sum"] == 4
    assert len([*diary.iterdir()]) == 5


def test_a_worker_process_that_a_batch_system_ends_before_its_nanny_is_no_death_of_its_part(
    tmp_path: Path, diary: Path, address: str
) -> None:
    with worker(address, tmp_path / "w", nanny=True), connected(address) as client:
        work, shared = tmp_path / "work", {"go": tmp_path / "go", "diary": diary}
        progress = Progress("slow", "numbers")
        background = Background(lambda: parts.run(patient, numbers(2), work, client, shared=shared, progress=progress))
        for number in range(4):
            programs.until(lambda: len([*diary.iterdir()]) == number + 1, "it works")  # noqa: B023 - called at once
            newest = max(diary.iterdir(), key=lambda path: int(path.name.split(".")[2]))
            os.kill(int(newest.name.split(".")[1]), signal.SIGTERM)
        programs.until(lambda: len([*diary.iterdir()]) == 5, "it works again")
        (tmp_path / "go").touch()
        (done,) = background.end()
    assert done.counts["sum"] == 4


def test_a_scheduler_that_dies_ends_the_run_with_a_message_and_the_next_run_goes_on(
    tmp_path: Path, diary: Path
) -> None:
    with (
        scheduler_process(tmp_path / "one") as (address, process),
        worker(address, tmp_path / "w"),
        connected(address) as client,
    ):
        background = Background(lambda: run(client, tmp_path / "work", 30, diary=diary))
        programs.until(lambda: len([*diary.iterdir()]) > 3, "parts are finished")
        os.kill(process.pid, signal.SIGKILL)
        with pytest.raises(
            SchedulerLostError, match=r"the connection to the scheduler .* is lost\. Remedy: .* are kept"
        ):
            background.end()
    before = len([*diary.iterdir()])
    with scheduler(tmp_path / "two") as address, worker(address, tmp_path / "w2"), connected(address) as client:
        assert [part.counts["sum"] for part in run(client, tmp_path / "work", 30, diary=diary)] == [
            n**2 for n in range(30)
        ]
    assert len([*diary.iterdir()]) - before < 30 - 2


def test_a_scheduler_is_found_by_its_file_in_a_folder_with_a_space(tmp_path: Path) -> None:
    folder = tmp_path / "a folder"
    with (
        scheduler(folder) as address,
        worker(address, tmp_path / "w"),
        connected(str(folder / "scheduler.json")) as one,
    ):
        assert len(run(one, tmp_path / "work", 2)) == 2


def test_a_part_that_kills_its_workers_still_fails_where_workers_come_back(tmp_path: Path, address: str) -> None:
    progress = Progress("slow", "numbers")
    with (
        worker(address, tmp_path / "w", nanny=True),
        connected(address) as client,
        pytest.raises(PartsFailedError, match="killed its worker 3 times"),
    ):
        parts.run(deadly, numbers(1, 2), tmp_path / "work", client, progress=progress)


# dask-jobqueue leaves the files of its certificate to the garbage collection.
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_jobs_of_dask_jobqueue_run_the_parts(tmp_path: Path, diary: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAION_DASK_HOME", str(tmp_path / "home"))
    pytest.importorskip("dask_jobqueue", reason="dask-jobqueue is not installed")
    monkeypatch.setenv("PYTHONPATH", f"{ROOT}:{TESTS}")
    options = {
        "cores": 1,
        "processes": 1,
        "memory": "1GB",
        "interface": "lo",
        "local_directory": str(tmp_path / "scratch"),
        "log_directory": str(tmp_path / "logs"),
    }
    jobs = {"options": options, "workers": 2}
    with connected("dask_jobqueue.local.LocalCluster", **jobs) as client:
        assert client.scheduler_info()["address"].startswith("tls://")
        assert len(run(client, tmp_path / "work", 30, diary=diary)) == 30
        assert len(names(client)) >= 1
    gc.collect()
    assert 1 <= len(pids(diary)) <= 2
    programs.until(lambda: not any(programs.is_there(pid) for pid in pids(diary)), "the jobs have ended")
    assert [*(tmp_path / "home").iterdir()] == []


def test_an_adaptive_pool_grows_from_none_and_every_part_runs(tmp_path: Path, diary: Path) -> None:
    adapt = {"adapt": {"minimum": 0, "maximum": 2, "interval": "200 ms", "target_duration": "100 ms"}}
    options = {"n_workers": 0, "threads_per_worker": 1, "dashboard_address": "127.0.0.1:0"}
    with connected("distributed.LocalCluster", options=options, **adapt) as client:
        assert names(client) == set()
        assert len(run(client, tmp_path / "work", 12, diary=diary)) == 12
    assert len(pids(diary)) == 2


@pytest.mark.parametrize(
    ("kind", "options", "said"),
    [
        (
            "dask_jobqueue.SLRUMCluster",
            {},
            "is not a class of Dask clusters. Remedy: did you mean dask_jobqueue.SLURM",
        ),
        ("distributed.Client", {}, "is not a class of Dask clusters. Remedy: "),
        ("no_such_package.Cluster", {}, "cannot be imported .*install the package of no_such_package"),
        (
            "distributed.LocalCluster",
            {"cores": 3},
            "cannot be started with laion-dask\\.cluster.options = {'cores': 3}",
        ),
        ("nowhere/scheduler.json", {}, "there is no such file. Remedy: start the scheduler with `dask scheduler"),
    ],
)
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_a_cluster_that_cannot_be_had_is_refused_with_key_value_and_remedy(
    kind: str, options: dict[str, Any], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LAION_DASK_HOME", str(tmp_path / "home"))
    from laion_dask.cluster.settings import ClusterError

    more = {"options": options, "workers": 1} if "/" not in kind else {}
    with pytest.raises(ClusterError, match=rf"laion-dask\.cluster\.kind = '{kind}'.*{said}"), connected(kind, **more):
        pass
    gc.collect()


def test_a_worker_that_reads_another_file_than_the_driver_s_is_refused(
    tmp_path: Path, address: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def replace(folder: Path) -> None:
        for sign in folder.glob(".handshake-*"):
            sign.write_text("of another run")

    monkeypatch.setattr(pools, "sync_names", replace)
    with (
        worker(address, tmp_path / "w"),
        connected(address) as client,
        open_pool(client, tmp_path / "seen", "slow", print) as pool,
        pytest.raises(WorkerRefusedError, match=r"it does not see the driver's folder .*/seen\. Remedy: "),
    ):
        try_out(pool, tmp_path / "seen", Progress("slow", "tiny"))
