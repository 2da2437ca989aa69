"""Workers of a scheduler's address: in other folders they write the same bytes, and one that would not is refused."""

from __future__ import annotations

import shutil
import socket
from collections.abc import Iterator
from pathlib import Path

import dask
import pyarrow.parquet as pq
import pytest
from distributed import Client
from made.checkout import SECTIONS
from made.processes import programs
from made.processes.elsewhere import copy_of_code, mounts, scheduler, worker
from made.processes.squares import numbers, run, tree
from made.projects.project import SMALL, Project

from laion_dask.cluster import kinds
from laion_dask.workers.checks import WorkerRefusedError

pytestmark = pytest.mark.slow

TINY = SMALL | {"crawl.demo_pages": 48, "crawl.demo_wats": 2}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    with scheduler(tmp_path_factory.mktemp("scheduler")) as found:
        yield found


@pytest.fixture
def client(address: str) -> Iterator[Client]:
    with dask.config.set({"laion-dask.cluster.kind": address}), kinds.open_client() as found:
        yield found


def test_two_workers_in_the_folder_of_another_version_write_what_local_ones_do(
    small: Project, tmp_path: Path, address: str
) -> None:
    kind = {"DASK_LAION_DASK__CLUSTER__KIND": address}
    there = Project.create(tmp_path / "there", SMALL)
    # Relative paths would lead into this one, which has all stages finished by other parameters.
    other = Project.create(tmp_path / "other", SMALL | {"crawl.seed": 5, "extract.min_chars": 30})
    stages = SECTIONS[:-1]
    with (
        worker(address, other.folder, more=["--host", "tcp://127.0.0.2"]),
        worker(address, other.folder, more=["--host", "tcp://127.0.0.3"]),
    ):
        other.run_in_one_process("crawl", "extract", **kind)
        before = other.digests("crawl", "extract")
        there.run_in_one_process(*stages, **kind)
    assert there.digests(*stages) == small.digests(*stages)
    assert [there.metrics(stage) for stage in stages] == [small.metrics(stage) for stage in stages]
    assert other.digests("crawl", "extract") == before
    assert there.metrics("extract")["links"] != other.metrics("extract")["links"]


def test_globs_are_those_of_the_project_whatever_lies_where_the_worker_runs(tmp_path: Path, address: str) -> None:
    files = {"crawl.source": "files", "crawl.files": ["wats/*.gz"]}
    here, other = (Project.create(tmp_path / name, TINY | files) for name in ("here", "other"))
    for project, pages in ((here, 1), (other, 2)):
        (project.folder / "wats").mkdir()
        for number in range(pages):
            (project.folder / "wats" / f"{number}.wat.gz").write_bytes(b"x" * pages)
    with worker(address, other.folder):
        here.run("crawl", DASK_LAION_DASK__CLUSTER__KIND=address)
    (row,) = pq.read_table(here.folder / "data" / "crawl" / "wats.parquet").to_pylist()
    assert row["location"] == "wats/0.wat.gz"
    assert row["bytes"] == 1


def test_a_worker_with_the_same_code_elsewhere_may_work(tmp_path: Path, address: str, client: Client) -> None:
    with worker(address, tmp_path / "w", copy_of_code(tmp_path / "code")):
        (done,) = run(numbers(3), tmp_path / "work", client)
    assert tree(done.folder).keys() == {"counts.json", "folder/3.txt"}


@pytest.mark.parametrize(
    "file", ["laion_dask/extract/text.py", "laion_dask/demo/tags.yaml", "laion_dask/standalone/extract.py"]
)
def test_a_worker_with_other_code_is_refused_before_it_writes(
    tmp_path: Path, address: str, client: Client, file: str
) -> None:
    code = copy_of_code(tmp_path / "code")
    with (code / file).open("a") as stream:
        stream.write("\n# of an earlier commit\n")
    with worker(address, tmp_path / "w", code), pytest.raises(WorkerRefusedError) as refused:
        run(numbers(3), tmp_path / "work", client)
    assert str(refused.value).startswith("the worker tcp://")
    assert "its code is not the driver's: laion_dask's files" in str(refused.value)
    assert "Remedy: install the same commit" in str(refused.value)
    assert list((tmp_path / "work").iterdir()) == []


def test_a_worker_with_code_of_before_these_checks_ends_the_run_with_the_remedy(
    tmp_path: Path, address: str, client: Client
) -> None:
    code = copy_of_code(tmp_path / "code")
    for name in ("workers/checks", "workers/code_digest", "runner/part_files"):
        (code / "laion_dask" / f"{name}.py").unlink()
    with (
        worker(address, tmp_path / "w", code),
        pytest.raises(WorkerRefusedError, match="it has no laion_dask that can compare itself"),
    ):
        run(numbers(3), tmp_path / "work", client)


def test_a_worker_with_other_code_that_comes_while_a_run_is_under_way_is_refused(
    tmp_path: Path, address: str, client: Client
) -> None:
    with worker(address, tmp_path / "first"):
        run(numbers(1), tmp_path / "work", client)
    code = copy_of_code(tmp_path / "code")
    (code / "laion_dask" / "added.py").write_text("")
    with worker(address, tmp_path / "w", code), pytest.raises(WorkerRefusedError) as refused:
        run(numbers(2), tmp_path / "work", client)
    assert f" on {socket.gethostname()}, process " in str(refused.value)


@mounts
def test_a_worker_that_does_not_see_the_folder_is_refused_with_host_path_and_remedy(
    tmp_path: Path, address: str, client: Client
) -> None:
    work = tmp_path / "project" / "work"
    work.mkdir(parents=True)
    hidden = ["-t", "tmpfs", "tmpfs", str(tmp_path / "project")]
    with worker(address, tmp_path / "w", mount=hidden), pytest.raises(WorkerRefusedError) as refused:
        run(numbers(3), work, client)
    assert f"it does not see the driver's folder {work}. Remedy: workers need the same files" in str(refused.value)
    assert list(work.iterdir()) == []


@mounts
def test_a_stage_whose_workers_do_not_see_the_project_publishes_nothing(tmp_path: Path, address: str) -> None:
    project = Project.create(tmp_path / "p", TINY)
    hidden = ["-t", "tmpfs", "tmpfs", str(project.folder)]
    with worker(address, tmp_path / "w", mount=hidden):
        process = project.start("crawl", DASK_LAION_DASK__CLUSTER__KIND=address)
        said = programs.ended(process)
    assert process.returncode == 1
    assert said.count("crawl: the worker tcp://127.0.0.1:") == 1
    assert "is refused: it does not see the driver's folder " in said
    assert "Traceback" not in said
    assert not (project.folder / "data").exists()
    assert not (project.folder / "metrics").exists()


@mounts
def test_a_worker_that_sees_another_file_under_the_same_path_is_refused(
    small: Project, tmp_path: Path, address: str
) -> None:
    project = Project.create(tmp_path / "p", SMALL)
    project.adopt(small, "crawl")
    # Of the same name, on a disk of the worker's own.
    shutil.copytree(project.folder / "data", tmp_path / "theirs")
    for path in (tmp_path / "theirs" / "crawl").rglob("*.gz"):
        path.write_bytes(path.read_bytes() + b"\0")
    other = ["--bind", str(tmp_path / "theirs"), str(project.folder / "data")]
    with worker(address, tmp_path / "w", mount=other):
        process = project.start("extract", DASK_LAION_DASK__CLUSTER__KIND=address)
        said = programs.ended(process)
    assert process.returncode == 1
    assert "is missing there, or another file than the driver's. Remedy: " in said
    assert not (project.folder / "data" / "extract").exists()
