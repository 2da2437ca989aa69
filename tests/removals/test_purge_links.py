"""What DVC links into the project stays whole in a purge: the kept pairs are byte for byte what they were."""

from __future__ import annotations

import hashlib
import shutil
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow.parquet as pq
import pytest
import zarr
from made.processes import programs
from made.projects.dvc_projects import dvc, under_dvc
from made.projects.removed_pairs import GONE, ROWS, build, text, uid, url
from typer.testing import CliRunner

from laion_dask.cli.main import app
from laion_dask.removals.purge_record import RECORD
from laion_dask.storage import embeddings, shards

LINKS: Final = {
    "symlink": lambda path, _: path.is_symlink(),
    "hardlink": lambda path, cached: not path.is_symlink() and path.samefile(cached),
    "reflink": lambda path, cached: not path.is_symlink() and not path.samefile(cached),
    "copy": lambda path, cached: not path.is_symlink() and not path.samefile(cached),
}


def cached(project: Path, path: Path) -> Path:
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    return project / ".dvc" / "cache" / "files" / "md5" / digest[:2] / digest[2:]


def kept(project: Path) -> dict[str, Any]:
    """Everything that the project holds of pairs that stay."""
    data = project / "data"
    found: dict[str, Any] = {}
    for shard in range(2):
        stays = {at for at in range(ROWS) if (shard, at) not in GONE}
        for key, body in shards.read_shard(data / "download" / f"{shard:05d}.tar"):
            if int(key[-1]) in stays:
                found[f"picture {key}"] = body
        for table in (data / "download" / f"{shard:05d}.parquet", data / "score" / f"{shard:05d}.parquet"):
            rows = pq.read_table(table).to_pylist()
            found[str(table.relative_to(project))] = repr([rows[at] for at in stays])
    pairs = pq.read_table(data / "extract" / "pairs" / "00.parquet").to_pylist()
    gone = {uid(*one) for one in GONE}
    found["pairs"] = repr([row for row in pairs if row["uid"] not in gone])
    group = zarr.open_group(data / "score" / embeddings.STORE, mode="r")
    slots = [shard * ROWS + at for shard in range(2) for at in range(ROWS) if (shard, at) not in GONE]
    for name in ("b32/image", "b32/text"):
        found[name] = np.asarray(embeddings.array(group, name)[:])[slots].tobytes()
    return found


@pytest.mark.slow
@pytest.mark.parametrize("kind", LINKS)
def test_links_of_every_kind_keep_what_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str) -> None:
    project = build(tmp_path / "p")
    if kind == "reflink" and not can_reflink(tmp_path):
        pytest.skip("the file system of the temporary folder has no reflinks")
    under_dvc(project, kind)
    tar = project / "data" / "download" / "00000.tar"
    assert LINKS[kind](tar, cached(project, tar))
    before = kept(project)
    objects = {path for path in (project / ".dvc" / "cache").rglob("*") if path.is_file()}
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["purge"])
    assert done.exit_code == 0, done.output
    assert kept(project) == before
    assert not [path for path in (project / "data").rglob("*") if not path.exists()], "a link leads nowhere"
    assert objects - {path for path in (project / ".dvc" / "cache").rglob("*") if path.is_file()}
    # DVC finds the version that it has recorded, and can put it there again from its cache alone.
    assert "up to date" in dvc(project, "status")
    shutil.rmtree(project / "data")
    dvc(project, "checkout")
    assert kept(project) == before
    tar = project / "data" / "download" / "00000.tar"
    assert LINKS[kind](tar, cached(project, tar))
    again = CliRunner().invoke(app, ["purge"])
    assert again.exit_code == 0, again.output


def can_reflink(folder: Path) -> bool:
    (folder / "one").write_bytes(b"x" * 4096)
    done = programs.finished(("cp", "--reflink=always", str(folder / "one"), str(folder / "two")))
    return done.returncode == 0


@pytest.mark.slow
def test_an_object_that_another_file_of_the_project_links_to_is_left_and_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    project = under_dvc(build(tmp_path / "p"), "symlink")
    shard = cached(project, project / "data" / "download" / "00000.tar")
    (project / "mine.tar").symlink_to(shard)
    content = shard.read_bytes()
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["purge"])
    assert done.exit_code == 1
    assert "mine.tar" in done.output
    assert (project / "mine.tar").read_bytes() == content
    (project / "mine.tar").unlink()
    assert CliRunner().invoke(app, ["purge"]).exit_code == 0
    assert not shard.exists()


@pytest.mark.parametrize("name", ["data/download/00000.tar", "mlruns/old.html"])
def test_a_file_that_is_a_link_to_one_elsewhere_is_named_before_anything_is_touched(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    project = build(tmp_path / "p")
    elsewhere = tmp_path / "large_disk" / "moved"
    elsewhere.parent.mkdir()
    (project / name).rename(elsewhere)
    (project / name).symlink_to(elsewhere)
    before = elsewhere.read_bytes()
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["purge"])
    assert done.exit_code == 1
    assert f"{name} to {elsewhere}" in " ".join(done.output.split())
    assert not (project / RECORD).exists()
    (project / name).unlink()
    elsewhere.rename(project / name)
    assert CliRunner().invoke(app, ["purge"]).exit_code == 0
    assert not (project / name).exists() or (project / name).read_bytes() != before


def test_a_folder_that_is_a_link_is_purged_where_it_leads_to(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    project = build(tmp_path / "p")
    (project / "data").rename(tmp_path / "large_disk")
    (project / "data").symlink_to(tmp_path / "large_disk")
    before = kept(project)
    monkeypatch.chdir(project)
    done = CliRunner().invoke(app, ["purge"])
    assert done.exit_code == 0, done.output
    assert kept(project) == before
    assert (project / "data").is_symlink()
    rows = pq.read_table(tmp_path / "large_disk" / "download" / "00000.parquet").to_pylist()
    assert rows[1]["url"] == rows[1]["caption"] == ""
    assert text(0, 1).encode() not in (tmp_path / "large_disk" / "download" / "00000.tar").read_bytes()
    assert url(0, 2).encode() in (tmp_path / "large_disk" / "download" / "00000.tar").read_bytes()
