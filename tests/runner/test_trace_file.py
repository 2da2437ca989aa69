"""The trace of a run: a row for each part, kept when a run is resumed, written whatever ends the run."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from distributed import Client
from made.processes.squares import calls, numbers, square
from made.versions import traces

from laion_dask.runner import parts, trace_file
from laion_dask.runner.part import Part
from laion_dask.runner.parts import PartsFailedError
from laion_dask.runner.progress import Progress
from laion_dask.runner.trace import MEASURES, Measured
from laion_dask.runner.trace_file import Row, StageTrace, Trace, TraceError
from laion_dask.schema.traces import FAILED, FINISHED, OUTCOMES, TRACE, UNMEASURED


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    calls.clear()
    Path("data/square").mkdir(parents=True)
    Path("metrics").mkdir()
    Path("metrics/square.json").write_text("{}")
    return tmp_path


def run(todo: list[Part], client: Client, **shared: object) -> StageTrace:
    """Run parts as a stage does, and return the trace that it leaves, also if it fails."""
    try:
        with trace_file.recorded("square") as record:
            progress = Progress("square", "numbers")
            parts.run(square, todo, Path("work"), client, shared=shared, progress=progress, record=record)
            Path("data/square/out.txt").write_text("out")
    except PartsFailedError:
        pass
    found = trace_file.read(Path("data/trace/square.parquet"))
    assert found is not None
    return found


def named(found: StageTrace) -> dict[str, Row]:
    rows = {row["part"]: row for row in found.rows}
    assert len(rows) == len(found.rows)
    return rows


def test_every_part_has_a_row_with_all_columns(client: Client) -> None:
    todo = numbers(*range(12))
    found = run(todo, client)
    assert {(row["part"], row["key"]) for row in found.rows} == {(part.name, part.key) for part in todo}
    workers = client.scheduler_info(n_workers=-1)["workers"]
    for row in found.rows:
        assert None not in row.values()
        assert (row["stage"], row["outcome"], row["attempt"]) == ("square", FINISHED, 1)
        assert row["worker"] in workers
        assert found.began <= row["submitted"] <= row["started"] <= row["ended"] <= found.ended
        assert row["seconds"] == pytest.approx(row["ended"] - row["started"])
        assert row["bytes"] == len(str(int(row["part"]) ** 2))
        assert row["peak_bytes"] > 10**6
    assert found.belongs_to(Path("data"), Path("metrics"))
    assert found.earlier == []


def test_a_resumed_run_keeps_the_rows_of_the_parts_that_it_takes_over(client: Client) -> None:
    first = named(run(numbers(1, 2, 3), client))
    second = run(numbers(2, 3, 4), client)
    rows = named(second)
    assert list(rows) == ["02", "03", "04"]
    assert [rows[name] for name in ("02", "03")] == [first[name] for name in ("02", "03")]
    assert [row["part"] for row in second.earlier] == ["02", "03"]


def test_a_part_that_fails_has_a_row_and_the_next_run_has_one_row_for_it_again(client: Client) -> None:
    failed = run(numbers(1, 2, 3), client, bad=2)
    rows = named(failed)
    assert {name: row["outcome"] for name, row in rows.items()} == {"01": FINISHED, "02": FAILED, "03": FINISHED}
    assert rows["02"]["seconds"] >= 0
    assert rows["02"]["bytes"] == 0
    assert failed.identity == ""
    assert not failed.belongs_to(Path("data"), Path("metrics"))
    again = named(run(numbers(1, 2, 3), client))
    assert {name: row["outcome"] for name, row in again.items()} == dict.fromkeys(("01", "02", "03"), FINISHED)
    assert again["01"] == rows["01"]


def test_without_the_earlier_trace_the_parts_that_are_taken_over_have_their_rows_but_for_the_submission(
    client: Client,
) -> None:
    first = named(run(numbers(1, 2), client))
    shutil.rmtree("data/trace")
    found = run(numbers(1, 2, 3), client)
    rows = named(found)
    assert [rows[name] for name in ("01", "02")] == [first[name] | {"submitted": None} for name in ("01", "02")]
    assert [row["part"] for row in found.earlier] == ["01", "02"]


@pytest.mark.parametrize("lost", [lambda path: path.unlink(), lambda path: path.write_text('{"worker": "t')])
def test_a_part_whose_measurement_is_lost_has_a_row_that_says_so(
    client: Client, lost: Callable[[Path], object]
) -> None:
    run(numbers(1, 2), client)
    shutil.rmtree("data/trace")
    for path in Path("work", MEASURES).iterdir():
        lost(path)
    rows = named(run(numbers(1, 2, 3), client))
    assert {name: row["outcome"] for name, row in rows.items()} == {"01": UNMEASURED, "02": UNMEASURED, "03": FINISHED}
    assert rows["01"]["seconds"] is None
    assert set(OUTCOMES) == {FINISHED, FAILED, UNMEASURED}


def measured(**values: Any) -> Measured:  # noqa: ANN401 - of several types
    return replace(Measured("tcp://node:1", "node", 7, 1, 100.0, 102.5), **values)


def test_what_a_part_took_comes_from_the_attempt_that_made_it() -> None:
    part, trace = Part("00001", "key"), Trace("square")
    trace.submit(part)
    trace.finish(part, measured(attempt=2), failed=False)
    assert [(row["seconds"], row["attempt"]) for row in trace.rows()] == [(2.5, 2)]
    # The same run makes it again, as after a damage, and then takes it over.
    trace.finish(part, measured(attempt=1), failed=False)
    trace.take_over(part, Path("work/key"))
    assert [(row["seconds"], row["attempt"]) for row in trace.rows()] == [(2.5, 1)]
    # It is found finished, and what it took is lost.
    trace.finish(part, measured(made=False), failed=False)
    assert [(row["outcome"], row["seconds"]) for row in trace.rows()] == [(UNMEASURED, None)]
    # A task that could not begin.
    trace.finish(part, None, failed=True)
    (row,) = trace.rows()
    assert (row["outcome"], row["seconds"], row["worker"]) == (FAILED, None, None)


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit, RuntimeError])
def test_what_was_done_is_written_whatever_ends_the_run(error: type[BaseException]) -> None:
    def end() -> None:
        with trace_file.recorded("square") as trace:
            trace.finish(Part("a", "key"), measured(), failed=False)
            raise error

    with pytest.raises(error):
        end()
    found = trace_file.read(Path("data/trace/square.parquet"))
    assert found
    assert [row["part"] for row in found.rows] == ["a"]
    assert found.identity == ""
    assert [path.name for path in Path("data/trace").iterdir()] == ["square.parquet"]


def test_a_run_that_ends_before_its_first_part_leaves_the_trace_as_it_was() -> None:
    traces.write(Path("data"), Path("metrics"), "square")
    before = Path("data/trace/square.parquet").read_bytes()
    with pytest.raises(RuntimeError), trace_file.recorded("square"):
        raise RuntimeError
    assert Path("data/trace/square.parquet").read_bytes() == before


@pytest.mark.parametrize(
    "change",
    [
        lambda: Path("data/square/out.txt").write_text("longer"),
        lambda: Path("data/square/more.txt").write_text(""),
        lambda: Path("data/square/out.txt").rename("data/square/other.txt"),
        lambda: Path("metrics/square.json").write_text('{"parts": 1}'),
        lambda: Path("metrics/square.json").unlink(),
        lambda: shutil.rmtree("data/square"),
    ],
    ids=["a file of another size", "a further file", "another name", "other counts", "no counts", "no out"],
)
def test_a_trace_of_another_version_is_recognised(change: Any) -> None:  # noqa: ANN401 - a lambda
    Path("data/square/out.txt").write_text("out")
    traces.write(Path("data"), Path("metrics"), "square")
    found = trace_file.read(Path("data/trace/square.parquet"))
    assert found
    assert found.belongs_to(Path("data"), Path("metrics"))
    change()
    assert not found.belongs_to(Path("data"), Path("metrics"))


def test_a_damaged_trace_is_an_error_for_readers_and_a_message_for_a_run(capsys: pytest.CaptureFixture[str]) -> None:
    path = Path("data/trace/square.parquet")
    assert trace_file.read(path) is None
    path.parent.mkdir()
    traces.write(Path("data"), Path("metrics"), "square")
    for damage in (b"PAR1 nonsense PAR1", path.read_bytes()[:-20], b""):
        path.write_bytes(damage)
        with pytest.raises(TraceError, match=r"square\.parquet cannot be read \(.*Remedy: remove it"):
            trace_file.read(path)
    pq.write_table(TRACE.schema.empty_table(), path)  # without what it belongs to
    with pytest.raises(TraceError):
        trace_file.read(path)
    with trace_file.recorded("square") as trace:
        trace.finish(Part("a", "key"), measured(), failed=False)
    assert "square.parquet cannot be read" in capsys.readouterr().err
    assert trace_file.read(path) is not None


def test_a_trace_that_cannot_be_written_fails_no_run(capsys: pytest.CaptureFixture[str]) -> None:
    Path("data/trace").write_text("a file where the folder belongs")
    with trace_file.recorded("square") as trace:
        trace.finish(Part("a", "key"), measured(), failed=False)
    assert "square: its trace was not written: " in capsys.readouterr().err
