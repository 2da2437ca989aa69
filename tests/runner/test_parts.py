"""Parts are written once: skipped when finished, resumed after a kill, quarantined when they raise."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import pytest
from distributed import Client
from hypothesis import given, settings
from hypothesis import strategies as st
from made.processes import programs
from made.processes.squares import calls, numbers, run, square, tree

from laion_dask import params
from laion_dask.runner import parts
from laion_dask.runner.attempts import finish_part
from laion_dask.runner.part_files import COUNTS_FILE
from laion_dask.runner.parts import PartsFailedError
from laion_dask.runner.progress import Progress
from laion_dask.runner.trace import MEASURES
from laion_dask.storage import files
from laion_dask.workers import checks as worker_checks


@pytest.fixture(autouse=True)
def no_calls(monkeypatch: pytest.MonkeyPatch) -> None:
    calls.clear()
    # A task of a run that has failed waits so long for the file that this run has removed.
    monkeypatch.setattr(worker_checks, "_WAIT_S", 0.5)


def test_results_come_in_the_order_of_names_with_the_counts_of_each(tmp_path: Path, client: Client) -> None:
    done = run(numbers(3, 1, 2), tmp_path, client)
    assert [part.part.name for part in done] == ["01", "02", "03"]
    assert [part.counts["sum"] for part in done] == [1, 4, 9]
    assert [[path.name for path in parts.files(part)] for part in done] == [["1.txt"], ["2.txt"], ["3.txt"]]


def test_the_largest_part_goes_first(tmp_path: Path, client: Client) -> None:
    run(numbers(1, 5, 3), tmp_path, client)
    if len(client.scheduler_info(n_workers=-1)["workers"]) == 1:
        assert calls == [5, 3, 1]
    assert sorted(calls) == [1, 3, 5]


def test_more_parts_than_fit_the_window_all_run_once(tmp_path: Path, client: Client) -> None:
    done = run(numbers(*range(40)), tmp_path, client)
    assert sorted(calls) == list(range(40))
    assert sum(part.counts["sum"] for part in done) == sum(n**2 for n in range(40))


def test_finished_parts_are_skipped_and_give_the_same_counts(tmp_path: Path, client: Client) -> None:
    first = run(numbers(1, 2), tmp_path, client)
    calls.clear()
    second = run(numbers(1, 2, 3), tmp_path, client)
    assert calls == [3]
    assert second[:2] == first


def test_a_part_to_redo_runs_again_and_replaces_its_folder(tmp_path: Path, client: Client) -> None:
    (done,) = run(numbers(2), tmp_path, client)
    (done.folder / "stale.txt").write_text("of the first run")
    calls.clear()
    (again,) = run(numbers(2, redo=True), tmp_path, client)
    assert calls == [2]
    assert [path.name for path in parts.files(again)] == ["2.txt"]


def test_a_folder_without_counts_is_not_a_finished_part(tmp_path: Path) -> None:
    (part,) = numbers(2)
    (tmp_path / part.key).mkdir()
    assert finish_part(square, str(tmp_path / part.key), part.args)["sum"] == 4
    assert (tmp_path / part.key / COUNTS_FILE).is_file()


def test_a_failing_part_is_quarantined_with_its_traceback_while_others_finish(tmp_path: Path, client: Client) -> None:
    with pytest.raises(PartsFailedError) as failed:
        run(numbers(1, 2, 3, 4), tmp_path, client, bad=3)
    message = str(failed.value)
    assert message.startswith("1 of 4 parts failed; 3 are finished and kept:\n  03: ValueError: cannot square 3 (")
    assert "second line" not in message
    assert "Remedy: fix the cause and run again" in message
    traceback = (tmp_path / "03.error.txt").read_text()
    assert "in square\n" in traceback
    assert "second line" in traceback
    assert not list(tmp_path.glob("*.tmp"))
    calls.clear()
    assert [part.counts["sum"] for part in run(numbers(1, 2, 3, 4), tmp_path, client)] == [1, 4, 9, 16]
    assert calls == [3]
    assert not (tmp_path / "03.error.txt").exists()


def fail(out: Path, *, number: int) -> dict[str, Any]:
    calls.append(number)
    message = f"no {out.name}"
    raise OSError(message)


def test_a_stage_stops_when_part_after_part_fails(tmp_path: Path, client: Client) -> None:
    with pytest.raises(PartsFailedError, match="3 of 60 parts failed; 0 are finished"):
        parts.run(fail, numbers(*range(60)), tmp_path, client, progress=Progress("square", "numbers"))
    assert len(calls) < 60


@pytest.mark.slow
def test_a_killed_part_leaves_a_temporary_folder_that_the_next_run_removes(tmp_path: Path, client: Client) -> None:
    (part,) = numbers(2)
    code = f"""
import os, signal
from laion_dask.runner.attempts import finish_part

def killed(out):
    (out / "half.txt").write_text("half")
    os.kill(os.getpid(), signal.SIGKILL)

finish_part(killed, {str(tmp_path / part.key)!r}, {{}})
"""
    died = programs.finished([sys.executable, "-c", code])
    assert died.returncode == -9
    (leftover,) = tmp_path.glob("*.tmp")
    assert leftover.name.startswith(part.key)
    assert leftover.suffix == ".tmp"
    run([part], tmp_path, client)
    assert {path.name for path in tmp_path.iterdir()} == {part.key, MEASURES}


@pytest.mark.slow
def test_one_worker_and_three_write_the_same_bytes(tmp_path: Path, client: Client) -> None:
    run(numbers(*range(8)), tmp_path / "here", client)
    for part in numbers(*range(8)):
        finish_part(square, str(tmp_path / "alone" / part.key), part.args)
    assert tree(tmp_path / "here") == tree(tmp_path / "alone")


def test_the_key_follows_the_bytes_of_the_inputs_and_the_parameters(tmp_path: Path, defaults: params.Params) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.write_bytes(b"same")
    second.write_bytes(b"same")
    key = files.digest(first, defaults.extract, 1)
    assert key == files.digest(second, defaults.extract, 1)
    second.write_bytes(b"Same")
    assert key != files.digest(second, defaults.extract, 1)
    changed = defaults.extract.model_copy(update={"min_chars": 6})
    assert key != files.digest(first, changed, 1)


values = st.dictionaries(st.text(max_size=8), st.integers() | st.text(max_size=8), max_size=6)


@settings(deadline=None)
@given(values, values)
def test_keys_are_equal_for_equal_values_only_whatever_their_order(
    left: dict[str, object], right: dict[str, object]
) -> None:
    assert files.digest(left) == files.digest(dict(reversed(left.items())))
    assert (files.digest(left) == files.digest(right)) == (left == right)


def test_files_are_published_by_link_without_the_counts(tmp_path: Path, client: Client) -> None:
    done = run(numbers(1, 2), tmp_path / "work", client)
    parts.publish_files(done, tmp_path / "out")
    assert tree(tmp_path / "out") == {"folder/1.txt": b"1", "folder/2.txt": b"4"}
    assert (tmp_path / "out" / "folder" / "2.txt").samefile(done[1].folder / "folder" / "2.txt")


def test_publishing_copies_where_the_file_system_has_no_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(*_: object) -> None:
        raise PermissionError

    (tmp_path / "source").write_bytes(b"bytes")
    monkeypatch.setattr(os, "link", refuse)
    files.link(tmp_path / "source", tmp_path / "new" / "target")
    assert (tmp_path / "new" / "target").read_bytes() == b"bytes"


def test_two_parts_that_publish_one_path_are_refused_and_stay_as_they_are(tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).write_text(name)
    files.link(tmp_path / "first", tmp_path / "out" / "file")
    with pytest.raises(FileExistsError):
        files.link(tmp_path / "second", tmp_path / "out" / "file")
    assert (tmp_path / "first").read_text() == "first"


def test_progress_tells_parts_rows_time_left_and_the_oldest_part() -> None:
    progress = Progress("extract", "links")
    progress.start(4, ready=[10], todo=[30, 20, 10])
    progress.begin("000002")
    progress.begin("000003")
    progress.started("000003", 0.0)
    progress.finish("000002", 30, {"links": {"seen": 1234, "kept": 1234, "dropped": {}}})
    line = progress.line()
    assert line.startswith("extract    2/4 parts  1,234 links, ")
    assert " s left  oldest 000003 " in line
    progress.stop()


def test_progress_tells_where_the_time_of_the_parts_went() -> None:
    progress = Progress("score", "images")
    progress.start(2, ready=[], todo=[1, 1])
    progress.begin("00000")
    progress.begin("00001")
    progress.started("00001", 0.0)
    ledger = {"seen": 500, "kept": 500, "dropped": {}}
    seconds = {"decode": 1.0, "transfer": 0.0, "forward": 8.0, "write": 1.0}
    progress.finish("00000", 1, {"images": ledger, "seconds": seconds})
    assert progress.shares() == "decode 10%, transfer 0%, forward 80%, write 10%"
    line = progress.line()
    assert line.startswith("score      1/2 parts  500 images, ")
    assert "/s  decode 10%, transfer 0%, forward 80%, write 10%  " in line
    assert " s left  oldest 00001 " in line
