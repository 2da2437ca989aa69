"""The manifest: what made the release stands in it, and `laion-dask verify` finds each file that is another one."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq
import pytest
from made.versions import published, tables
from typer.testing import CliRunner

from laion_dask import params
from laion_dask.cli.main import app
from laion_dask.release import manifest, merkle


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, defaults: params.Params) -> Path:
    """A release of 30 kept pairs, two removed and one listed."""
    rows = [*published.rows(30), *({"reason": reason} for reason in ("removed_hash", "removed_hash", "listed_hash"))]
    for number, row in enumerate(rows):
        row["uid"] = tables.uid(number)
    return published.build(tmp_path_factory.mktemp("built"), rows, defaults)


@pytest.fixture
def copy(built: Path, tmp_path: Path) -> Path:
    """A copy elsewhere: nothing in it may speak of where it was made."""
    return shutil.copytree(built, tmp_path / "copied")


def run(*arguments: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, ["verify", *arguments])
    return done.exit_code, done.output


def test_every_file_stands_in_the_manifest_with_its_digest(built: Path) -> None:
    found = json.loads((built / "manifest.json").read_text())
    on_disk = {path.relative_to(built).as_posix(): path for path in built.rglob("*") if path.is_file()}
    del on_disk["manifest.json"]
    assert {
        "README.md",
        "croissant.json",
        "tombstones.parquet",
        "en-00000.parquet",
        "laion-5b/en-00000.parquet",
    } <= set(on_disk)
    assert found["files"].keys() == on_disk.keys()
    for name, path in on_disk.items():
        file = found["files"][name]
        assert file["sha256"] == hashlib.sha256(path.read_bytes()).hexdigest()
        assert file["bytes"] == path.stat().st_size
        assert file.get("rows") == (pq.read_metadata(path).num_rows if path.suffix == ".parquet" else None)


def test_a_digest_that_is_known_is_taken_over_and_only_other_files_are_read(copy: Path) -> None:
    known = {"en-00000.parquet": "0" * 64}
    found = manifest.describe(copy, known)
    whole = manifest.describe(copy)
    assert {name for name, file in found.items() if file != whole[name]} == {"en-00000.parquet"}
    assert found["en-00000.parquet"] == whole["en-00000.parquet"] | {"sha256": "0" * 64}


def test_what_made_it_stands_in_the_manifest(built: Path, defaults: params.Params) -> None:
    found = json.loads((built / "manifest.json").read_text())
    assert found["merkle"]["root"] == merkle.root(sorted(map(tables.uid, range(30))))[0]
    assert found["merkle"]["leaves"] == 30
    assert found["crawls"] == {"demo": 2}
    assert found["wats"] == {"count": 2, "sha256": hashlib.sha256(b"demo a.wat.gz\ndemo b.wat.gz\n").hexdigest()}
    assert found["models"] == published.MODELS
    assert found["recipe"] == []
    assert found["tombstones"] == 3
    assert {"dask", "duckdb", "mmh3", "open_clip_torch", "pyarrow", "torch"} <= found["packages"].keys()
    assert "report" not in found["parameters"]
    again = params.parse({**found["parameters"], "report": defaults.report.model_dump()})
    assert again.release == defaults.release


def test_lists_are_counted_and_never_told(built: Path) -> None:
    text = (built / "manifest.json").read_text()
    found = json.loads(text)
    lists = built.parents[1]
    (known,) = found["lists"]
    assert (known["entries"], known["sha256"]) == (2, hashlib.sha256((lists / "known.txt").read_bytes()).hexdigest())
    ledger = hashlib.sha256((lists / "removals.csv").read_bytes()).hexdigest()
    assert found["removals"] == {"entries": 1, "sha256": ledger}
    for path in (path for path in built.rglob("*") if path.is_file()):
        body = path.read_bytes()
        assert b"a" * 32 not in body
        assert b"https://a.example/" not in body


def test_a_second_build_gives_the_same_bytes(built: Path, defaults: params.Params) -> None:
    before = {path: path.read_bytes() for path in built.rglob("*") if path.is_file()}
    rows = [*published.rows(30), *({"reason": reason} for reason in ("removed_hash", "removed_hash", "listed_hash"))]
    for number, row in enumerate(rows):
        row["uid"] = tables.uid(number)
    published.build(built.parents[1], rows, defaults)
    assert {path: path.read_bytes() for path in built.rglob("*") if path.is_file()} == before


def test_a_copy_elsewhere_is_what_the_manifest_says(copy: Path) -> None:
    assert manifest.check(copy) == []
    status, said = run(str(copy))
    assert status == 0
    assert "30 pairs, Merkle root" in said


def flip(path: Path) -> None:
    body = bytearray(path.read_bytes())
    body[len(body) // 2] ^= 1
    path.write_bytes(body)


@pytest.mark.parametrize(
    ("harm", "expected"),
    [
        (lambda folder: flip(folder / "README.md"), [("README.md", "content differs")]),
        (
            lambda folder: flip(folder / "laion-5b" / "en-00000.parquet"),
            [("laion-5b/en-00000.parquet", "content differs")],
        ),
        (lambda folder: (folder / "croissant.json").write_text("{}"), [("croissant.json", "size differs")]),
        (lambda folder: (folder / "tombstones.parquet").unlink(), [("tombstones.parquet", "missing")]),
        (lambda folder: (folder / "datacomp" / "new.parquet").write_bytes(b"x"), [("datacomp/new.parquet", "extra")]),
        (
            lambda folder: (folder / "multi-00000.parquet").unlink(),
            [("multi-00000.parquet", "missing"), ("the main table", "uids differ")],
        ),
        (
            lambda folder: shutil.copy(folder / "en-00000.parquet", folder / "en-00001.parquet"),
            [("en-00001.parquet", "extra"), ("the main table", "uids differ")],
        ),
        (
            lambda folder: (folder / "en-00000.parquet").write_bytes(b"no Parquet"),
            [("en-00000.parquet", "size differs"), ("the main table", "uids differ")],
        ),
    ],
)
def test_each_file_that_differs_is_named(
    copy: Path, harm: Callable[[Path], Any], expected: list[tuple[str, str]]
) -> None:
    harm(copy)
    assert [(finding.path, finding.what) for finding in manifest.check(copy)] == expected
    status, said = run(str(copy))
    assert status == 1
    assert all(f"{path}: {what}" in said for path, what in expected)
    status, said = run(str(copy), "--json")
    assert status == 1
    found = json.loads(said[: said.rindex("}") + 1])
    assert [(one["path"], one["what"]) for one in found["findings"]] == expected


def test_a_manifest_that_was_changed_with_its_files_has_another_root(copy: Path, built: Path) -> None:
    root = json.loads((built / "manifest.json").read_text())["merkle"]["root"]
    assert run(str(copy), "--root", root)[0] == 0
    status, said = run(str(copy), "--root", "0" * 64)
    assert status == 1
    assert "the Merkle root: uids differ" in said


def test_progress_hears_of_every_byte(copy: Path) -> None:
    read: list[int] = []
    manifest.check(copy, read.append)
    assert sum(read) == manifest.size(copy) - (copy / "manifest.json").stat().st_size


@pytest.mark.parametrize(("number", "present"), [(0, "in"), (29, "in"), (30, "out"), (4000, "out")])
def test_a_pair_can_be_proved_to_be_in_a_release_or_not(built: Path, number: int, present: str) -> None:
    status, said = run(str(built), "--json", "--uid", tables.uid(number))
    assert status == 0
    answer = json.loads(said)
    proof = merkle.Proof.from_dict(answer["proof"])
    assert proof.present == (present == "in")
    assert proof.root == answer["root"]
    assert proof.holds()


@pytest.mark.parametrize(
    ("body", "message"),
    [
        (None, "is missing. Remedy"),
        ("no JSON", "is not a manifest"),
        ("[]", "is not a manifest"),
        ('{"files": {"../../etc/passwd": {"sha256": "0"}}}', "is not a manifest"),
        ('{"files": {"/etc/passwd": {"sha256": "0"}}}', "is not a manifest"),
    ],
)
def test_a_folder_without_a_manifest_is_refused_with_the_remedy(tmp_path: Path, body: str | None, message: str) -> None:
    if body is not None:
        (tmp_path / "manifest.json").write_text(body)
    status, said = run(str(tmp_path))
    assert status == 1
    assert message in said
    assert "Remedy" in said


def test_a_release_of_the_first_format_is_checked_by_what_its_manifest_names(copy: Path) -> None:
    found = json.loads((copy / "manifest.json").read_text())
    tables_ = {name: file for name, file in found["files"].items() if name.endswith(".parquet")}
    (copy / "manifest.json").write_text(json.dumps({"name": "demo", "files": tables_}))
    for name in ("croissant.json", "figures/scores.svg"):
        (copy / name).unlink()
    assert manifest.check(copy) == []
    flip(copy / "multi-00000.parquet")
    assert [(one.path, one.what) for one in manifest.check(copy)] == [("multi-00000.parquet", "content differs")]


def test_a_file_that_was_purged_is_told_and_no_difference(copy: Path, tmp_path: Path) -> None:
    named = json.loads((copy / manifest.NAME).read_text())["files"]
    main = next(
        name for name in named if name.endswith(".parquet") and "/" not in name and name != "tombstones.parquet"
    )
    record = {"files": [{"sha256": named[main]["sha256"]}], "objects": []}
    (tmp_path / "purges.json").write_text(json.dumps([record]))
    (copy / main).unlink()
    assert CliRunner().invoke(app, ["verify", str(copy)]).exit_code == 1
    done = CliRunner().invoke(app, ["verify", str(copy), "--purges", str(tmp_path / "purges.json")])
    assert done.exit_code == 0, done.output
    assert f"{main}: purged, see" in done.output
    (copy / "tombstones.parquet").unlink()
    done = CliRunner().invoke(app, ["verify", str(copy), "--purges", str(tmp_path / "purges.json")])
    assert done.exit_code == 1
    assert "tombstones.parquet: missing" in done.output


def edited(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the manifest as whoever wrote it with wrong numbers."""
    path = folder / "manifest.json"
    found = json.loads(path.read_text())
    change(found)
    path.write_text(json.dumps(found))


@pytest.mark.parametrize(
    ("change", "where", "said"),
    [
        (
            lambda of: of["counts"]["filter"]["pairs"].update(kept=31),
            "the main table",
            "pairs that filter kept says 31",
        ),
        (lambda of: of["counts"]["release"]["pairs"].update(kept=29), "the main table", "that release kept says 29"),
        (lambda of: of["counts"]["release"].update({"rows.en": 9}), "the main table", "files of en have 10 rows"),
        (lambda of: of["counts"]["release"].update({"rows.aesthetic_5": 1}), "aesthetic_5", "rows.aesthetic_5 says 1"),
        (lambda of: of["counts"]["release"].update({"rows.all": 32}), "the main table", "counts.release.rows.all says"),
        (lambda of: of.update(tombstones=4), "tombstones.parquet", "it has 3 rows, the manifest says 4 tombstones"),
        (lambda of: of["parameters"]["release"]["tables"].append("other"), "other", "its files have 0 rows"),
    ],
)
def test_a_manifest_whose_numbers_do_not_add_up_is_no_proof(
    copy: Path, change: Callable[[dict[str, Any]], object], where: str, said: str
) -> None:
    edited(copy, change)
    status, output = run(str(copy))
    assert status == 1
    assert [one.path for one in manifest.check(copy) if one.what == "counts differ"] == [where]
    assert said in output.replace("\n", " ")


@pytest.mark.parametrize("name", ["en-00000.parquet", "laion-5b/multi-00000.parquet"])
def test_a_release_that_was_made_without_some_of_its_files_is_found(copy: Path, name: str) -> None:
    (copy / name).unlink()
    edited(copy, lambda of: of["files"].pop(name))
    if "/" not in name:
        leaves = manifest.root(copy)
        edited(copy, lambda of: of.update(merkle=leaves))
    assert "counts differ" in {one.what for one in manifest.check(copy)}
    assert run(str(copy))[0] == 1


def test_a_release_that_lacks_rows_is_not_made(
    built: Path, tmp_path: Path, defaults: params.Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert built.is_dir()
    rows = [row | {"uid": tables.uid(number)} for number, row in enumerate(published.rows(30))]
    honest = published.counts
    monkeypatch.setattr(published, "counts", lambda of: honest([*of, {}]))
    with pytest.raises(
        manifest.ManifestError, match=r"the main table: its files have 30 rows, the count of pairs that"
    ):
        published.build(tmp_path, rows, defaults)
    assert not (tmp_path / "data" / "release" / "manifest.json").exists()


def test_a_gap_in_the_numbers_of_files_is_found(copy: Path) -> None:
    edited(copy, lambda of: of["files"].update({"en-00002.parquet": of["files"]["en-00000.parquet"] | {"rows": 0}}))
    told = {(one.path, one.detail) for one in manifest.check(copy) if one.what == "counts differ"}
    assert told == {("the main table", "en-00001.parquet is missing among its files")}
