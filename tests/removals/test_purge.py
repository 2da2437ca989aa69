"""A purge says what it will do, does it and proves it; killed anywhere and run again, it ends as if it had not been."""

from __future__ import annotations

import hashlib
import json
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from itertools import count
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from made.projects.removed_pairs import GONE, ROWS, build, uid, url
from made.servers.faulty_hosts import picture
from made.versions import traces
from typer.testing import CliRunner

from laion_dask.cli import purge as cli_purge
from laion_dask.cli.main import app
from laion_dask.removals import purge, purge_record
from laion_dask.removals.purge_record import RECORD
from laion_dask.storage import embeddings, shards


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return build(tmp_path_factory.mktemp("made") / "p")


class KilledError(BaseException):
    """The process is dead: nothing that it does reaches the disk any more."""


class Kill:
    """Counts what changes files below a folder, and lets the process die before the one with a number."""

    def __init__(self) -> None:
        self.folder, self.left, self.seen = "", 0, 0
        sys.addaudithook(self._heard)

    def _heard(self, event: str, arguments: tuple[Any, ...]) -> None:
        changes = event in {"os.rename", "os.remove", "os.rmdir"}
        writes = event == "open" and isinstance(arguments[1], str) and arguments[1][0] in "wxa"
        if not self.folder or not (changes or writes):
            return
        if (path := str(arguments[0])).startswith("/") and not path.startswith(self.folder):
            return  # Python's own: what it has compiled
        self.seen += 1
        self.left -= 1
        if self.left < 0:
            raise KilledError

    @contextmanager
    def before(self, number: int, folder: Path) -> Iterator[None]:
        self.folder, self.left, self.seen = str(folder), number, 0
        try:
            yield
        finally:
            self.folder = ""


KILL: Final = Kill()
"""One for the session: a hook cannot be taken away."""


def state(project: Path) -> dict[str, str]:
    return {
        path.relative_to(project).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(project.rglob("*"))
        if path.is_file()
    }


def purged(made: Path, project: Path, monkeypatch: pytest.MonkeyPatch, kill: int = 10**9) -> int:
    """Copy the project, purge it and return how often it changed a file; -1 where it was killed."""
    shutil.copytree(made, project)
    monkeypatch.chdir(project)
    try:
        with KILL.before(kill, project):
            cli_purge.purge(dry_run=False, remote=None)
    except KilledError:
        return -1
    return KILL.seen


def test_what_goes_and_what_stays(made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before = state(made)
    purged(made, tmp_path / "p", monkeypatch)
    data = tmp_path / "p" / "data"
    for shard in range(2):
        stays = [at for at in range(ROWS) if (shard, at) not in GONE]
        assert [key[-1] for key, _ in shards.read_shard(data / "download" / f"{shard:05d}.tar")] == list(
            map(str, stays)
        )
        rows = pq.read_table(data / "download" / f"{shard:05d}.parquet").to_pylist()
        assert [row["uid"] for row in rows] == [uid(shard, at) for at in range(ROWS)]
        assert [at for at, row in enumerate(rows) if row["url"] and row["caption"] and row["sha256"]] == stays
    arrays = zarr.open_group(data / "score" / embeddings.STORE, mode="r")
    gone = [shard * ROWS + at for shard, at in GONE]
    for name in ("b32/image", "b32/text"):
        empty = np.isnan(np.asarray(embeddings.array(arrays, name)[:])).all(axis=1)
        assert np.flatnonzero(empty).tolist() == gone
        assert embeddings.shard_file(data / "score" / embeddings.STORE, name, 1).is_file()
    assert json.loads((data / "download" / shards.SIZES).read_text()) == {"00000.tar": 3, "00001.tar": 0}
    project = tmp_path / "p"
    assert sorted(path.name for path in (project / "mlruns").iterdir()) == ["new.html"]
    assert list((project / ".laion_dask" / "parts" / "download").iterdir()) == []
    # The record names each file that had anything, by the digest that it had.
    (entry,) = json.loads((project / RECORD).read_text())
    assert entry["uids_sha256"] == sorted(hashlib.sha256(uid(*one).encode()).hexdigest() for one in GONE)
    assert {one["path"]: one["sha256"] for one in entry["files"]} == {
        name: digest
        for name, digest in before.items()
        if state(project).get(name) != digest and name not in {"removals.csv", "data/download/sizes.json"}
    }
    assert entry["proof"]["left"] == 0
    assert entry["ledger_sha256"] == hashlib.sha256((project / "removals.csv").read_bytes()).hexdigest()
    assert not (project / ".laion_dask" / purge_record.TRACES).exists()


@pytest.mark.slow
def test_killed_anywhere_and_run_again_it_ends_where_it_would_have_ended(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The first purge of a process opens files of libraries too: it is not the one that is counted.
    purged(made, tmp_path / "first", monkeypatch)
    changes = purged(made, tmp_path / "whole", monkeypatch)
    wanted, before = state(tmp_path / "whole"), state(made)
    assert changes > 40
    # Two at every step would take a minute; steps that neighbours share are left out.
    for kill in count(0, 3):
        project = tmp_path / f"killed-{kill}"
        if purged(made, project, monkeypatch, kill) != -1:
            break
        # Whatever is gone or other by now stands in the record.
        told = json.loads((project / RECORD).read_text())[-1]["files"] if (project / RECORD).is_file() else []
        now = state(project)
        lost = {name for name, digest in before.items() if now.get(name) != digest}
        assert lost <= {one["path"] for one in told} | {"removals.csv", "data/download/sizes.json"}, kill
        assert CliRunner().invoke(app, ["purge"]).exit_code == 0
        assert state(project) == wanted, kill
        shutil.rmtree(project)
    assert changes <= kill <= changes + 2


@pytest.mark.slow
def test_a_second_purge_finds_nothing_and_adds_no_entry(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    purged(made, tmp_path / "p", monkeypatch)
    before = state(tmp_path / "p")
    done = CliRunner().invoke(app, ["purge"])
    assert done.exit_code == 0
    assert '"left": []' in done.output
    assert state(tmp_path / "p") == before


@pytest.mark.parametrize("name", ["download/00000.warc.gz", "download/notes.txt", "extract/losses.parquet"])
def test_what_cannot_be_written_anew_is_named_before_anything_is_touched(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    path = project / "data" / name
    if path.suffix == ".parquet":
        pq.write_table(pq.read_table(project / "data" / "extract" / "pairs" / "00.parquet").select(["url"]), path)
    else:
        path.write_text(f"WARC-Target-URI: {url(0, 1)}\r\n")
    before = state(project)
    monkeypatch.chdir(project)
    for more in ([], ["--dry-run"]):
        done = CliRunner().invoke(app, ["purge", *more])
        assert done.exit_code == 1
        assert f"data/{name}" in done.output
        assert "Nothing was purged. Remedy: " in done.output
        assert state(project) == before


def test_the_trace_of_a_run_stays_and_one_that_has_a_removed_pair_is_deleted(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = shutil.copytree(made, tmp_path / "p")
    traces.write(project / "data", project / "metrics", "download")
    traces.write(project / "data", project / "metrics", "score", host=url(0, 1))
    (project / "data" / "trace" / "timeline-0.svg").write_text("<svg/>")
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["purge"])
    assert done.exit_code == 0, done.output
    assert sorted(path.name for path in Path("data/trace").iterdir()) == ["download.parquet", "timeline-0.svg"]
    assert "data/trace/score.parquet" in Path(RECORD).read_text()


def test_a_picture_that_a_pair_of_another_shard_has_too_is_no_trace(made: Path) -> None:
    data = made / "data"
    shared = hashlib.sha256(picture(5)).hexdigest()
    alone = {hashlib.sha256(picture(seed)).hexdigest() for seed in (1, 10, 12, 13)}
    assert purge.gather(frozenset(uid(*one) for one in GONE), data).pictures == alone
    assert shared in purge.gather(frozenset([uid(1, 1), uid(0, 3)]), data).pictures


def test_what_is_searched_for_is_readable_by_its_user_only_while_a_purge_is_under_way(
    made: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Killed at its last step.
    changes = purged(made, tmp_path / "whole", monkeypatch)
    assert purged(made, tmp_path / "p", monkeypatch, changes - 1) == -1
    kept = tmp_path / "p" / ".laion_dask" / purge_record.TRACES
    assert kept.stat().st_mode & 0o777 == 0o600
    assert url(0, 1) in kept.read_text()
    assert purge_record.pending(kept.parent).uids == {uid(*one) for one in GONE}
    assert [path.name for path in (tmp_path / "whole" / ".laion_dask").iterdir()] == ["parts"]
