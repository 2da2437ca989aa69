"""The frame of a stage: counts that must fit, an out that is whole or the old one, errors that end in one message."""

from __future__ import annotations

import json
import shutil
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from made.places import ROOT
from made.processes import programs
from made.processes.dask_clients import threads_of_this_process

from laion_dask import params
from laion_dask.blocklists import known_lists
from laion_dask.catalog import part
from laion_dask.clip.clip import ModelError
from laion_dask.params import Params
from laion_dask.runner import stage as frame
from laion_dask.runner import trace_file
from laion_dask.runner.part import Done, Part
from laion_dask.runner.parts import PartsFailedError
from laion_dask.runner.stage import Resources, Stage, StageError
from laion_dask.schema.ledger import LedgerError
from laion_dask.storage.files import digest
from workflow import program

if TYPE_CHECKING:
    from distributed import Client


def find(_: Params, __: Resources) -> list[Part]:
    return [Part(name, digest(name), {"name": name}) for name in ("a", "b")]


def write(out: Path, *, name: str, failing: bool = False) -> dict[str, Any]:
    if failing:
        message = "no"
        raise ValueError(message)
    (out / f"{name}.txt").write_text(name)
    return {"pairs": {"seen": 3, "kept": 2, "dropped": {"unsafe": 1}}, "bytes": 1}


STAGE = Stage(name="filter", unit="pairs", find_parts=find, function=write)


def done(*counts: Mapping[str, Any]) -> list[Done]:
    return [Done(Part(f"{number}", "key"), Path("work"), dict(found)) for number, found in enumerate(counts)]


def ledger(seen: int, kept: int, **dropped: int) -> dict[str, Any]:
    return {"seen": seen, "kept": kept, "dropped": dropped}


@pytest.fixture
def project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty project folder to stand in, with the committed parameters."""
    shutil.copy(ROOT / "params.yaml", tmp_path)
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("LAION_DASK_HOME", raising=False)
    return tmp_path


def metrics_of(stage: str, counts: Mapping[str, Any]) -> None:
    Path("metrics").mkdir(exist_ok=True)
    (Path("metrics") / f"{stage}.json").write_text(json.dumps(counts))


# Counts


def test_ledgers_and_numbers_of_parts_add_up_and_figures_stay() -> None:
    counts = frame.total(
        STAGE,
        done(
            {"bytes": 5, "pairs": ledger(3, 2, unsafe=1), "records": ledger(9, 9), "auc": {"en": 0.5}, "error": "one"},
            {"bytes": 7, "pairs": ledger(4, 1, unsafe=1, watermark=2), "records": ledger(1, 1)},
        ),
    )
    assert counts == {
        "parts": 2,
        "pairs": ledger(7, 3, unsafe=2, watermark=2),
        "auc": {"en": 0.5},
        "bytes": 12,
        "records": ledger(10, 10),
    }
    assert list(counts)[:2] == ["parts", "pairs"]


@pytest.mark.parametrize("broken", [ledger(3, 2), ledger(3, 3, unsafe=1), ledger(2, 2, unsafe=1)])
def test_a_ledger_that_does_not_add_up_fails_the_stage(broken: dict[str, Any]) -> None:
    with pytest.raises(LedgerError, match=r"^filter\.pairs: "):
        frame.total(STAGE, done({"pairs": ledger(3, 3)}, {"pairs": broken}))


FOLLOWER = replace(STAGE, follows=("pairs", "score", "images"))


@pytest.mark.usefixtures("project")
def test_as_many_rows_are_seen_as_the_stage_before_kept() -> None:
    metrics_of("score", {"images": ledger(9, 7, timeout=2)})
    counts = frame.total(FOLLOWER, done({"pairs": ledger(3, 3)}, {"pairs": ledger(4, 3, unsafe=1)}))
    assert counts["pairs"]["seen"] == 7


@pytest.mark.usefixtures("project")
@pytest.mark.parametrize("counts", [[], [{"bytes": 1}], [{"pairs": ledger(6, 6)}], [{"pairs": ledger(8, 8)}]])
def test_rows_that_vanish_between_stages_fail_the_stage(counts: list[dict[str, Any]]) -> None:
    metrics_of("score", {"images": ledger(7, 7)})
    seen = counts[0]["pairs"]["seen"] if counts and "pairs" in counts[0] else 0
    with pytest.raises(LedgerError, match=rf"^filter\.pairs: 7 rows came from the stage before, {seen} were seen here"):
        frame.total(FOLLOWER, done(*counts))


@pytest.mark.usefixtures("project")
def test_a_stage_without_parts_counts_nothing_when_nothing_came() -> None:
    metrics_of("score", {"images": ledger(5, 0, timeout=5)})
    assert frame.total(FOLLOWER, []) == {"parts": 0, "pairs": ledger(0, 0)}


@pytest.mark.parametrize(
    ("counts", "line"),
    [
        ({"parts": 1, "pairs": ledger(1234, 1234)}, "filter      1,234 pairs seen, 1,234 kept in 2.5 s"),
        (
            {"parts": 1, "pairs": ledger(9, 6, unsafe=2, watermark=1)},
            "filter          9 pairs seen, 6 kept in 2.5 s (dropped: unsafe 2, watermark 1)",
        ),
    ],
)
def test_the_summary_tells_what_was_dropped_and_why(counts: dict[str, Any], line: str) -> None:
    assert frame.summary(STAGE, counts, 2.5) == line


def test_the_summary_of_a_stage_without_a_ledger_says_that_it_is_done() -> None:
    assert frame.summary(STAGE, {"parts": 24}, 0.04).split() == ["filter", "done", "in", "0.0", "s"]


# Folders


@pytest.mark.usefixtures("project")
def test_the_out_of_a_stage_that_has_not_run_is_missing_with_the_remedy() -> None:
    with pytest.raises(StageError, match=r"data/score is missing\. Remedy: run the stages in order with `dvc repro`"):
        frame.data("score")
    Path("data/score").mkdir(parents=True)
    assert frame.data("score") == Path.cwd() / "data" / "score"


def test_work_in_progress_lies_where_the_environment_says(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LAION_DASK_HOME", raising=False)
    assert frame.home() == Path.cwd() / ".laion_dask"
    monkeypatch.setenv("LAION_DASK_HOME", "/somewhere/else")
    assert frame.home() == Path("/somewhere/else")
    monkeypatch.setenv("LAION_DASK_HOME", "")  # as a batch file leaves it that sets nothing
    assert frame.home() == Path.cwd() / ".laion_dask"


# A run from parameters to out and metrics


@pytest.fixture(scope="module")
def client() -> Iterator[Client]:
    with threads_of_this_process(1) as client:
        yield client


@pytest.fixture
def here(client: Client, project: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A project folder where stages run on threads of this process."""

    @contextmanager
    def opened(_: str, *, gpu: bool = False) -> Iterator[Client]:
        assert not gpu
        yield client

    monkeypatch.setattr(frame, "open_client", opened)
    return project


def tree(folder: Path) -> dict[str, str]:
    """Return the files of a folder, without the trace of the stages."""
    files = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    return {name: path.read_text() for name, path in files.items() if not name.startswith("trace/")}


@pytest.mark.usefixtures("here")
def test_a_run_publishes_into_a_fresh_folder_and_writes_its_metrics(capsys: pytest.CaptureFixture[str]) -> None:
    for stale in ("data/filter/old.txt", "data/.filter.new/half.txt"):
        Path(stale).parent.mkdir(parents=True)
        Path(stale).write_text("stale")
    counts = frame.run(STAGE)
    assert tree(Path("data")) == {"filter/a.txt": "a", "filter/b.txt": "b"}
    assert counts == frame.metrics("filter") == {"parts": 2, "pairs": ledger(6, 4, unsafe=2), "bytes": 2}
    assert "6 pairs seen, 4 kept" in capsys.readouterr().out


@pytest.mark.usefixtures("here")
def test_a_second_run_finds_its_parts_finished_and_gives_the_same_files() -> None:
    frame.run(STAGE)
    metrics, files = Path("metrics/filter.json").read_bytes(), tree(Path("data"))
    shutil.rmtree("data")
    frame.run(replace(STAGE, function=forbidden))
    assert Path("metrics/filter.json").read_bytes() == metrics
    assert tree(Path("data")) == files


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("lost", [False, True])
def test_what_parts_took_lies_beside_the_version_and_changes_nothing_of_it(lost: bool) -> None:  # noqa: FBT001 - a case
    frame.run(STAGE)
    first = trace_file.read(Path("data/trace/filter.parquet"))
    assert first
    assert [row["part"] for row in first.rows] == ["a", "b"]
    assert first.belongs_to(Path("data"), Path("metrics"))
    before = tree(Path("data")), tree(Path("metrics"))
    if lost:
        shutil.rmtree("data/trace")
    frame.run(STAGE)
    second = trace_file.read(Path("data/trace/filter.parquet"))
    assert second
    assert (second.rows == first.rows) is not lost
    assert (second.identity, tree(Path("data")), tree(Path("metrics"))) == (first.identity, *before)


def forbidden(out: Path, *, name: str) -> dict[str, Any]:
    message = f"{name} ran again in {out}"
    raise AssertionError(message)


def broken_publish(_: Params, __: Sequence[Done], out: Path) -> Mapping[str, Any]:
    (out / "half.txt").write_text("half")
    message = "the disk is full"
    raise OSError(message)


@pytest.mark.usefixtures("here")
def test_a_second_run_of_the_same_stage_waits_for_the_first_and_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    order: list[str] = []

    def second() -> None:
        with frame.stage_lock(Path("work"), "square"):
            order.append("second")

    with frame.stage_lock(Path("work"), "square"), frame.stage_lock(Path("work"), "another stage"):
        waiting = threading.Thread(target=second)
        waiting.start()
        programs.until(lambda: "waiting for it to end" in capsys.readouterr().err, "the second says that it waits")
        order.append("first")
    waiting.join()
    assert order == ["first", "second"]


@pytest.mark.usefixtures("here")
def test_links_and_files_where_an_out_belongs_are_replaced_and_what_a_link_names_stays() -> None:
    Path("elsewhere").mkdir()
    Path("elsewhere/mine.txt").write_text("mine")
    Path("data").mkdir(exist_ok=True)
    Path("data/filter").symlink_to(Path("elsewhere").absolute())
    Path("data/.filter.new").write_text("")
    frame.run(STAGE)
    assert sorted(path.name for path in Path("data/filter").iterdir()) == ["a.txt", "b.txt"]
    assert Path("elsewhere/mine.txt").read_text() == "mine"


@pytest.mark.usefixtures("here")
def test_a_run_that_fails_leaves_the_old_out_and_metrics_as_they_were() -> None:
    frame.run(STAGE)
    before = tree(Path("data/filter")), tree(Path("metrics"))
    with pytest.raises(OSError, match="the disk is full"):
        frame.run(replace(STAGE, publish=broken_publish))
    metrics_of("score", {"images": ledger(99, 99)})
    with pytest.raises(LedgerError):
        frame.run(FOLLOWER)
    Path("metrics/score.json").unlink()
    assert (tree(Path("data/filter")), tree(Path("metrics"))) == before


@contextmanager
def failing(_: Params, __: Client) -> Iterator[Resources]:
    yield {"failing": True}


@pytest.mark.usefixtures("here")
def test_resources_reach_every_part_and_parts_that_fail_fail_the_stage() -> None:
    with pytest.raises(PartsFailedError, match="2 of 2 parts failed"):
        frame.run(replace(STAGE, resources=failing))
    record = trace_file.read(Path("data/trace/filter.parquet"))
    assert record
    assert [(row["part"], row["outcome"]) for row in record.rows] == [("a", "failed"), ("b", "failed")]
    assert not Path("data/filter").exists()
    assert not Path("metrics").exists()


@pytest.mark.usefixtures("project")
def test_workers_end_before_the_servers_that_they_talk_to(client: Client, monkeypatch: pytest.MonkeyPatch) -> None:
    ended = []

    @contextmanager
    def opened(_: str, *, gpu: bool = False) -> Iterator[Client]:
        assert not gpu
        yield client
        ended.append("workers")

    @contextmanager
    def served(_: Params, __: Client) -> Iterator[Resources]:
        yield {}
        ended.append("server")

    monkeypatch.setattr(frame, "open_client", opened)
    frame.run(replace(STAGE, resources=served))
    assert ended == ["workers", "server"]


# As a program


@pytest.mark.parametrize(
    ("error", "status", "message"),
    [
        (StageError("gone. Remedy: run it"), 1, "\nfilter: gone. Remedy: run it\n"),
        (params.ParamsError("refused"), 1, "\nfilter: refused\n"),
        (part.CatalogError("no database"), 1, "\nfilter: no database\n"),
        (known_lists.ListError("line 3"), 1, "\nfilter: line 3\n"),
        (ModelError("no model"), 1, "\nfilter: no model\n"),
        (LedgerError("rows vanished"), 1, "\nfilter: rows vanished\n"),
        (OSError("disk is full"), 1, "\nfilter: disk is full. Finished parts are kept; mend the cause and run"),
        (KeyboardInterrupt(), 130, "\nfilter: interrupted. Finished parts are kept; `make repro` goes on from here"),
    ],
    ids=lambda value: type(value).__name__,
)
def test_what_a_user_can_mend_ends_in_one_message(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    error: BaseException,
    status: int,
    message: str,
) -> None:
    def fail(_: Stage) -> None:
        raise error

    monkeypatch.setattr(frame, "run", fail)
    with pytest.raises(SystemExit) as ended:
        program.main(STAGE)
    assert ended.value.code == status
    assert capsys.readouterr().err.startswith(message)


def test_a_bug_keeps_its_traceback(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: Stage) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(frame, "run", fail)
    with pytest.raises(ZeroDivisionError):
        program.main(STAGE)
