"""The files of a finished part: whatever differs from what was written is found, said, and made again."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from distributed import Client
from made.processes.squares import calls, numbers, run, square, tree

from laion_dask.runner import part_files, parts
from laion_dask.runner.attempts import finish_part
from laion_dask.runner.part import Done
from laion_dask.runner.part_files import COUNTS_FILE
from laion_dask.runner.parts import PartsFailedError
from laion_dask.runner.progress import Progress

FILE = "folder/2.txt"


def flipped(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


def half(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def other_counts(path: Path) -> None:
    path.write_text(path.read_text().replace('"sum": 4', '"sum": 5'))


def of_an_earlier_version(path: Path) -> None:
    path.write_text(json.dumps({"numbers": {"seen": 1, "kept": 1, "dropped": {}}, "sum": 4}))


def gone(part: Path) -> Path:
    """Remove a part and return where it lay."""
    shutil.rmtree(part)
    return part


DAMAGES: dict[str, tuple[Callable[[Path], None], str]] = {
    "a flipped bit": (lambda part: flipped(part / FILE), f"the content of {FILE} differs from what was written"),
    "a truncated file": (lambda part: (part / FILE).write_bytes(b""), f"{FILE} has 0 bytes, 1 were written"),
    "a longer file": (lambda part: (part / FILE).write_bytes(b"44"), f"{FILE} has 2 bytes, 1 were written"),
    "a missing file": (lambda part: (part / FILE).unlink(), f"{FILE} is missing"),
    "an extra file": (lambda part: (part / "more.txt").write_text("5"), "more.txt is not one of its files"),
    "empty counts": (lambda part: (part / COUNTS_FILE).write_bytes(b""), "counts.json of 0 bytes is not complete"),
    "half of the counts": (lambda part: half(part / COUNTS_FILE), "is not complete"),
    "counts that are no object": (lambda part: (part / COUNTS_FILE).write_text("[1]"), "is not complete"),
    "counts that are no text": (lambda part: (part / COUNTS_FILE).write_bytes(b"\xff\x00"), "is not complete"),
    "a changed count": (lambda part: other_counts(part / COUNTS_FILE), "the content of counts.json differs"),
    "counts without digests": (lambda part: of_an_earlier_version(part / COUNTS_FILE), "is not complete"),
    "counts that nest without end": (lambda part: (part / COUNTS_FILE).write_bytes(b"[" * 100_000), "is not complete"),
    "counts with a size beyond all": (
        lambda part: (part / COUNTS_FILE).write_text('{"sha256": "", "counts": {}, "files": {"a": [1e999, ""]}}'),
        "is not complete",
    ),
    "a file in the place of the part": (lambda part: gone(part).write_text(""), "cannot be read"),
    "a link in the place of the part": (lambda part: gone(part).symlink_to(".."), "counts.json is missing"),
    "no counts": (lambda part: (part / COUNTS_FILE).unlink(), "counts.json is missing"),
}
each_damage = pytest.mark.parametrize(("damage", "said"), DAMAGES.values(), ids=DAMAGES)


@pytest.fixture(autouse=True)
def no_calls() -> None:
    calls.clear()


@each_damage
def test_a_damaged_part_is_made_again_and_said_when_it_is_taken_over(
    damage: Callable[[Path], None], said: str, tmp_path: Path, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    whole = run(numbers(1, 2), tmp_path, client)
    before = tree(tmp_path)
    damage(whole[1].folder)
    calls.clear()
    again = run(numbers(1, 2), tmp_path, client)
    assert (calls, again, tree(tmp_path)) == ([2], whole, before)
    told = capsys.readouterr().err
    assert told.startswith("square: part 02 is damaged: ")
    assert said in told
    assert "made again" in told


@each_damage
def test_a_damaged_part_is_made_again_and_said_before_it_is_published(
    damage: Callable[[Path], None], said: str, tmp_path: Path, client: Client, capsys: pytest.CaptureFixture[str]
) -> None:
    rounds: list[list[Done]] = []

    def make() -> list[Done]:
        rounds.append(run(numbers(1, 2), tmp_path / "work", client))
        if len(rounds) == 1:
            damage(rounds[0][1].folder)
        return rounds[-1]

    progress = Progress("square", "numbers")
    parts.publish_files(parts.undamaged(make, client, progress), tmp_path / "out")
    assert tree(tmp_path / "out") == {"folder/1.txt": b"1", "folder/2.txt": b"4"}
    assert calls.count(2) == 2
    assert calls.count(1) == progress.again == 1
    assert said in capsys.readouterr().err


def test_parts_that_are_damaged_again_and_again_end_the_run(tmp_path: Path, client: Client) -> None:
    def make() -> list[Done]:
        done = run(numbers(1, 2), tmp_path, client)
        flipped(done[1].folder / FILE)
        return done

    with pytest.raises(
        PartsFailedError, match=r"1 of 2 parts were damaged 3 times .*\n  02: the content of .*\nRemedy"
    ):
        parts.undamaged(make, client, Progress("square", "numbers"))


@each_damage
def test_an_attempt_replaces_what_lies_where_its_part_belongs(
    damage: Callable[[Path], None], said: str, tmp_path: Path
) -> None:
    (part,) = numbers(2)
    whole = finish_part(square, tmp_path / part.key, part.args)
    before = tree(tmp_path)
    damage(tmp_path / part.key)
    assert said in part_files.damage(tmp_path / part.key)
    assert finish_part(square, tmp_path / part.key, part.args) == whole
    assert tree(tmp_path) == before


def test_files_and_folders_are_on_the_disk_before_a_part_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[str] = []
    sync = os.fsync

    def noted(descriptor: int) -> None:
        synced.append(Path(f"/proc/self/fd/{descriptor}").readlink().relative_to(tmp_path).as_posix())
        sync(descriptor)

    monkeypatch.setattr(os, "fsync", noted)
    (part,) = numbers(2)
    finish_part(square, tmp_path / part.key, part.args)
    temporary = synced[0].split("/")[0]
    inside = {name.removeprefix(temporary) for name in synced[:-1]}
    assert inside == {"", "/folder", "/folder/2.txt", "/counts.json"}
    assert temporary.endswith(".tmp")
    assert synced[-1] == "."


def test_what_an_nfs_client_leaves_of_removed_files_is_no_damage(tmp_path: Path) -> None:
    (part,) = numbers(2)
    finish_part(square, tmp_path / part.key, part.args)
    (tmp_path / part.key / ".nfs0000000000ab").write_text("was open")
    assert part_files.damage(tmp_path / part.key) == ""


def test_published_files_cannot_be_opened_for_writing_and_their_part_stays_as_it_is(
    tmp_path: Path, client: Client
) -> None:
    (done,) = run(numbers(2), tmp_path / "work", client)
    parts.publish_files([done], tmp_path / "out")
    (tmp_path / "out" / "joined.txt").write_text("of the driver alone")
    parts.protect(tmp_path / "out")
    assert (tmp_path / "out" / FILE).stat().st_mode & 0o777 == 0o444
    assert (tmp_path / "out" / "joined.txt").stat().st_mode & 0o200
    assert part_files.damage(done.folder) == ""
