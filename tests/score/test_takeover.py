"""Pictures that were scored once are not scored again, and what is taken over has the bits of what is computed."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made.images import small_clips

from laion_dask import params
from laion_dask.runner import part_files, takeover
from laion_dask.runner.attempts import finish_part
from laion_dask.runner.part import Part, with_code
from laion_dask.runner.stage import home
from laion_dask.score import part
from laion_dask.storage import embeddings, shards
from laion_dask.storage.files import digest
from laion_dask.workers import code_digest

pytestmark = pytest.mark.slow

ROWS = 40


@pytest.fixture(scope="module")
def pairs(tmp_path_factory: pytest.TempPathFactory) -> list[tuple[dict[str, Any], bytes]]:
    """Rows and pictures of a shard; of some the download failed, and one picture cannot be decoded."""
    images, tar = small_clips.shard(tmp_path_factory.mktemp("shard"), "00000", ROWS, failed=[4, 5], bad=[9])
    pictures = dict(shards.read_shard(tar))
    return [(row, pictures.get(row["key"], b"")) for row in pq.read_table(images).to_pylist()]


@pytest.fixture(autouse=True)
def _home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LAION_DASK_HOME", str(tmp_path / "home"))


def write(folder: Path, name: str, pairs: Sequence[tuple[dict[str, Any], bytes]]) -> tuple[Path, Path]:
    """Write a shard of some pairs, with the keys that they have in it."""
    folder.mkdir(exist_ok=True)
    shards.write_shard(
        folder, name, ((row | {"key": shards.key(name, place, ROWS)}, body) for place, (row, body) in enumerate(pairs))
    )
    return folder / f"{name}.parquet", folder / f"{name}.tar"


def run(images: Path, tar: Path, settings: params.Score) -> tuple[Path, dict[str, Any]]:
    """Score a shard as the stage does, with what earlier parts have; return the folder of its part and its counts."""
    args = {"name": images.stem, "images": images, "tar": tar, "shard_rows": ROWS, "settings": settings, "rules": "r"}
    todo = takeover.with_earlier("score", [Part(images.stem, digest(images, tar, settings), args)], [images], "r")
    (coded,) = with_code(todo, code_digest.of_stage("score"))
    folder = home() / "parts" / "score" / coded.key
    folder.parent.mkdir(parents=True, exist_ok=True)
    return folder, finish_part(part.score, folder, coded.args)


def published(folder: Path) -> dict[str, str]:
    """Return the digests of what the stage publishes of a part."""
    files = [*folder.glob("*.parquet"), *(path for path in (folder / embeddings.STORE).rglob("*") if path.is_file())]
    return {
        path.relative_to(folder).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(files)
    }


CHANGES: dict[str, tuple[Callable[[list[tuple[dict[str, Any], bytes]]], list[tuple[dict[str, Any], bytes]]], int]] = {
    "some rows": (lambda pairs: pairs[::3], 0),
    "one row": (lambda pairs: pairs[7:8], 0),
    "another order": (lambda pairs: pairs[::-1], 0),
    "another text": (lambda pairs: [(row | {"caption": f"{row['caption']} 2"}, body) for row, body in pairs[:11]], 8),
    "another picture": (lambda pairs: [(row, pairs[-1][1] if body else b"") for row, body in pairs[:11]], 9),
    "another split": (lambda pairs: [(row | {"split": "multi"}, body) for row, body in pairs[:4]], 3),
}
"""The next version's pairs, and how many of them must be scored at most."""


@pytest.mark.parametrize("name", CHANGES)
def test_a_next_version_scores_what_is_new_and_has_the_bytes_of_one_from_nothing(
    name: str, tmp_path: Path, pairs: list[tuple[dict[str, Any], bytes]], defaults: params.Params
) -> None:
    _, first = run(*write(tmp_path / "first", "00003", pairs), defaults.score)
    assert first[takeover.TAKEN] == {"made": ROWS - 2, "taken_over": 0}
    change, new = CHANGES[name]
    shard = write(tmp_path / "next", "00001", change(pairs))
    folder, counts = run(*shard, defaults.score)
    pictures = sum(1 for _ in shards.read_shard(shard[1]))
    taken = counts[takeover.TAKEN]
    assert taken["made"] + taken["taken_over"] == pictures
    assert taken["made"] <= new + 1
    assert (taken["made"] == 0) is (new == 0)
    grown = published(folder)
    part_files.remove(home() / "parts")
    folder, fresh = run(*shard, defaults.score)
    assert fresh[takeover.TAKEN]["taken_over"] == 0
    assert published(folder) == grown
    assert fresh["images"] == counts["images"]


@pytest.mark.parametrize("file", ["00003.parquet", "inputs/00003.parquet", "embeddings.zarr/demo/image/c/0/0"])
def test_what_is_damaged_in_an_earlier_part_is_scored_again(
    file: str, tmp_path: Path, pairs: list[tuple[dict[str, Any], bytes]], defaults: params.Params
) -> None:
    folder, _ = run(*write(tmp_path / "first", "00003", pairs), defaults.score)
    path = folder / file
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    _, counts = run(*write(tmp_path / "next", "00001", pairs[::2]), defaults.score)
    assert counts[takeover.TAKEN]["taken_over"] == 0
