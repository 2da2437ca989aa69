"""The folder for the hub: `datasets` loads it, its pairs are those of the release, and the client is asked rightly."""

from __future__ import annotations

import hashlib
import json
import warnings
from dataclasses import replace
from pathlib import Path
from unittest.mock import create_autospec

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made.versions import published
from ruamel.yaml import YAML

from laion_dask import params
from laion_dask.release import manifest, publication
from laion_dask.share import hub

SPLITS = ("en", "multi", "nolang")


@pytest.fixture(scope="module")
def release(tmp_path_factory: pytest.TempPathFactory, defaults: params.Params) -> Path:
    rows = [*published.rows(30), {"uid": f"{900:032x}", "reason": "removed_hash"}]
    rows[1] |= {"language": "no"}
    return published.build(tmp_path_factory.mktemp("built"), rows, defaults)


@pytest.fixture(scope="module")
def made(release: Path, defaults: params.Params) -> manifest.Made:
    ledger = str(release.parents[1] / "removals.csv")
    catalog = defaults.catalog.model_copy(update={"removals": ledger})
    settings = defaults.model_copy(update={"catalog": catalog})
    counted = {**published.counts(published.rows(30)), "filter": {"lists": {}, "pairs": {"kept": 30, "dropped": {}}}}
    counted["filter"]["pairs"]["seen"] = 30
    return replace(publication.gather(release.parent, settings, counted), models=published.MODELS)


@pytest.fixture(scope="module")
def folder(release: Path, made: manifest.Made) -> Path:
    out = release.parents[1] / "hub"
    hub.prepare(release, out, made)
    return out


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_datasets_loads_each_split_as_a_configuration_with_the_rows_of_the_release(
    folder: Path, release: Path, split: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own dependencies
        import datasets

        assert datasets.get_dataset_config_names(str(folder)) == list(SPLITS)
        loaded = datasets.load_dataset(str(folder), split, split="train", cache_dir=str(tmp_path))
    assert loaded.to_list() == pq.read_table(release / f"{split}-00000.parquet").to_pylist()


def test_the_pairs_have_the_merkle_root_of_the_release(folder: Path, release: Path) -> None:
    assert manifest.root(folder) == manifest.read(release)["merkle"]
    assert json.loads((folder / hub.MANIFEST).read_text()) == manifest.read(release)


def test_no_picture_is_in_it_and_nothing_that_the_digests_do_not_list(folder: Path) -> None:
    listed = dict(reversed(line.split("  ")) for line in (folder / hub.SUMS).read_text().splitlines())
    there = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*") if path.is_file()}
    assert there.keys() == listed.keys() | {hub.SUMS}
    assert {path.suffix for path in there.values()} <= {".parquet", ".json", ".md", ".cff", ".svg", ""}
    for name, digest in listed.items():
        assert hashlib.sha256(there[name].read_bytes()).hexdigest() == digest
    columns = [field for name in there if name.endswith(".parquet") for field in pq.read_schema(there[name])]
    assert not [field.name for field in columns if pa.types.is_binary(field.type) or pa.types.is_nested(field.type)]


def test_row_groups_are_small_and_have_an_index_of_pages(tmp_path: Path) -> None:
    source = tmp_path / "en-00000.parquet"
    pq.write_table(pa.table({"uid": [f"{number:032x}" for number in range(hub.ROW_GROUP + 5)]}), source)
    hub._rewrite(source, tmp_path / "out.parquet")  # noqa: SLF001 - a table of that length is slow to release
    table = pq.ParquetFile(tmp_path / "out.parquet").metadata
    assert [table.row_group(place).num_rows for place in range(table.num_row_groups)] == [hub.ROW_GROUP, 5]
    column = table.row_group(0).column(0)
    assert (column.has_offset_index, column.has_column_index) == (True, True)
    assert pq.read_table(tmp_path / "out.parquet") == pq.read_table(source)


def test_the_longest_rows_fit_into_what_the_viewer_reads(defaults: params.Params) -> None:
    longest = 2 * defaults.extract.max_url_chars + 4 * (defaults.extract.max_chars or 0) + 500
    assert hub.ROW_GROUP * longest < 286 * 2**20


def test_the_card_is_read_as_yaml_1_1_with_the_language_no(folder: Path) -> None:
    header = (folder / "README.md").read_text().split("---\n")[1]
    about = YAML(typ="safe", pure=True).load("%YAML 1.1\n---\n" + header)
    assert "no" in about["language"]
    assert about["license"] == "cc-by-4.0"
    assert [config["config_name"] for config in about["configs"]] == list(SPLITS)
    assert [config.get("default", False) for config in about["configs"]] == [True, False, False]


def test_the_card_names_files_of_this_folder_and_how_to_cite_it(folder: Path) -> None:
    card = (folder / "README.md").read_text()
    assert "`manifest.json`" not in card
    assert "laion-dask verify ." not in card
    assert "@misc{demo-1-0-0," in card
    assert card.index("## Load it") < card.index("## Citation") < card.index("## Motivation")
    cited = YAML(typ="safe", pure=True).load(folder / "CITATION.cff")
    assert (cited["cff-version"], cited["type"], cited["version"]) == ("1.2.0", "dataset", "1.0.0")


@pytest.mark.slow
def test_mlcroissant_reads_the_tables_of_the_folder(folder: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own dependencies
        import mlcroissant

        dataset = mlcroissant.Dataset(str(folder / "croissant.json"))
        assert (dataset.metadata.ctx.issues.errors, dataset.metadata.ctx.issues.warnings) == (set(), set())
        assert len(list(dataset.records("pairs"))) == 30


def test_a_release_that_was_changed_is_not_published(release: Path, made: manifest.Made, tmp_path: Path) -> None:
    copied = tmp_path / "release"
    copied.mkdir()
    for path in release.rglob("*"):
        if path.is_file():
            (copied / path.relative_to(release)).parent.mkdir(parents=True, exist_ok=True)
            (copied / path.relative_to(release)).write_bytes(path.read_bytes())
    (copied / "tombstones.parquet").write_bytes(b"other")
    with pytest.raises(hub.PublishError, match=r"tombstones\.parquet"):
        hub.prepare(copied, tmp_path / "out", made)


def test_a_removal_after_the_build_stops_it(release: Path, made: manifest.Made, tmp_path: Path) -> None:
    newer = replace(made, removals=replace(made.removals, sha256="0" * 64))
    with pytest.raises(hub.PublishError, match=r"has changed since the release was built.*dvc repro"):
        hub.prepare(release, tmp_path / "out", newer)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["alone", "a/b/c", "owner/na me", ""])
def test_a_name_that_the_hub_refuses_is_refused_before_anything_is_written(name: str) -> None:
    with pytest.raises(hub.PublishError, match="OWNER/NAME"):
        hub.check_name(name)


def test_who_is_responsible_must_be_named(defaults: params.Params) -> None:
    assert len(hub.placeholders(defaults.release)) == 2
    named = {"url": "https://data.science.org/ours", "contact": "data@science.org"}
    assert hub.placeholders(defaults.release.model_copy(update=named)) == []


def test_the_client_is_asked_for_a_repository_one_commit_and_a_tag(folder: Path) -> None:
    from huggingface_hub import HfApi

    api = create_autospec(HfApi, instance=True)  # refuses arguments that the client does not have
    api.upload_folder.return_value.oid = "abc"
    api.upload_folder.return_value.commit_url = "https://hub.example/commit/abc"
    assert hub.upload(folder, "owner/name", "1.0.0", private=True, api=api) == "https://hub.example/commit/abc"
    assert [call[0] for call in api.method_calls] == ["create_repo", "upload_folder", "create_tag"]
    api.create_repo.assert_called_once_with("owner/name", repo_type="dataset", private=True, exist_ok=True)
    sent = api.upload_folder.call_args.kwargs
    assert (sent["repo_type"], sent["folder_path"], sent["commit_message"]) == ("dataset", folder, "Version 1.0.0")
    assert "*.parquet" in sent["delete_patterns"]
    api.create_tag.assert_called_once_with("owner/name", repo_type="dataset", tag="1.0.0", revision="abc")


def test_a_hub_that_cannot_be_reached_is_one_message(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import HfApi

    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    api = HfApi(endpoint="http://127.0.0.1:1", token="hf_none")  # noqa: S106 - no token
    with pytest.raises(hub.PublishError, match=r"the hub did not take owner/name: .*hf auth login"):
        hub.upload(folder, "owner/name", "1.0.0", private=False, api=api)
