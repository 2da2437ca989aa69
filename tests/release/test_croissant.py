"""Croissant: valid for mlcroissant, its digests those of the files, and every table comes back through it."""

from __future__ import annotations

import hashlib
import json
import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow.parquet as pq
import pytest
from made.versions import published

from laion_dask import params, schema
from laion_dask.release import croissant, layouts

if TYPE_CHECKING:
    from mlcroissant import Dataset

RAI = [
    *("dataCollection", "dataCollectionType", "dataCollectionMissingData", "dataCollectionRawData"),
    *("dataCollectionTimeframe", "dataImputationProtocol", "dataManipulationProtocol", "dataPreprocessingProtocol"),
    *("dataAnnotationProtocol", "dataAnnotationPlatform", "dataAnnotationAnalysis", "dataReleaseMaintenancePlan"),
    *("personalSensitiveInformation", "dataSocialImpact", "dataBiases", "dataLimitations", "dataUseCases"),
    *("annotationsPerItem", "annotatorDemographics", "machineAnnotationTools"),
]


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory, defaults: params.Params) -> Path:
    rows = [*published.rows(9), {"uid": f"{9:032x}", "reason": "removed_hash"}]
    return published.build(tmp_path_factory.mktemp("built"), rows, defaults)


@pytest.fixture(scope="module")
def dataset(built: Path) -> object:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of the library's own dependencies
        import mlcroissant

        return mlcroissant.Dataset(str(built / croissant.NAME))


def test_mlcroissant_finds_no_error_and_nothing_to_warn_of(dataset: Dataset) -> None:
    issues = dataset.metadata.ctx.issues
    assert (issues.errors, issues.warnings) == (set(), set())
    assert dataset.metadata.ctx.conforms_to.value == "http://mlcommons.org/croissant/1.1"


def test_every_file_but_the_manifest_stands_in_it_with_its_digest(built: Path, dataset: Dataset) -> None:
    files = {file.content_url: file for file in dataset.metadata.file_objects}
    there = {path.relative_to(built).as_posix() for path in built.rglob("*") if path.is_file()}
    assert files.keys() == there - {"manifest.json", croissant.NAME}
    for name, file in files.items():
        assert file.sha256 == hashlib.sha256((built / name).read_bytes()).hexdigest()


def test_its_own_digest_stands_in_the_manifest(built: Path) -> None:
    files = json.loads((built / "manifest.json").read_text())["files"]
    assert files[croissant.NAME]["sha256"] == hashlib.sha256((built / croissant.NAME).read_bytes()).hexdigest()


@pytest.mark.parametrize("table", [croissant.MAIN, "aesthetic_5", *layouts.NAMES])
def test_a_table_comes_back_as_records(built: Path, dataset: Dataset, table: str) -> None:
    folder = built if table == croissant.MAIN else built / table
    wanted = {
        repr(tuple(_plain(value) for value in row.values())): path.name.split("-")[0]
        for path in sorted(folder.glob("*-*.parquet"))
        for row in pq.read_table(path).to_pylist()
    }
    found = {}
    for record in dataset.records(table):
        values = {name.partition("/")[2]: _plain(value) for name, value in record.items()}
        split = values.pop("split")
        found[repr(tuple(values.values()))] = split
    assert found == wanted
    assert set(found.values()) == {"en", "multi", "nolang"}


def _plain(value: object) -> object:
    if isinstance(value, list | np.ndarray):
        return [_plain(item) for item in value]
    value = value.decode() if isinstance(value, bytes) else value
    value = value.item() if hasattr(value, "item") else value
    return None if value is None or value != value else round(value, 6) if isinstance(value, float) else value  # noqa: PLR0124 - NaN


def test_tombstones_come_back_as_records(dataset: Dataset) -> None:
    digest = hashlib.sha256(f"{9:032x}".encode()).hexdigest()
    (record,) = dataset.records("tombstones")
    assert record == {
        "tombstones/uid_sha256": digest.encode(),
        "tombstones/reason": b"removed_hash",
        "tombstones/since": b"1.0.0",
    }


def test_columns_are_described_as_in_the_vocabulary(built: Path) -> None:
    document = json.loads((built / croissant.NAME).read_text())
    sets = {one["name"]: one for one in document["recordSet"]}
    views = layouts.tables(layouts.NAMES, published.MODELS)
    for name, table in {croissant.MAIN: schema.RELEASE, "tombstones": schema.TOMBSTONES, **views}.items():
        fields = [field for field in sets[name]["field"] if field["name"] != "split"]
        assert [field["name"] for field in fields] == table.names
        assert all(column.meaning in field["description"] for field, column in zip(fields, table.columns, strict=True))
        assert all(field["dataType"] for field in fields)
    assert sets[croissant.MAIN]["key"] == [{"@id": "pairs/uid"}]
    assert "clip_b32_similarity_score" in [field["name"] for field in sets["datacomp"]["field"]]


def test_all_twenty_properties_of_rai_are_given(built: Path, dataset: Dataset) -> None:
    document = json.loads((built / croissant.NAME).read_text())
    assert sorted(name for name in document if name.startswith("rai:")) == sorted(f"rai:{name}" for name in RAI)
    assert all(document[f"rai:{name}"] for name in RAI)
    assert document["conformsTo"][1] == "http://mlcommons.org/croissant/RAI/1.0"
    # What mlcroissant knows under the same name comes back.
    assert dataset.metadata.data_collection == document["rai:dataCollection"]
    assert dataset.metadata.data_biases == document["rai:dataBiases"]
    assert dataset.metadata.personal_sensitive_information == document["rai:personalSensitiveInformation"]


def test_provenance_names_crawls_models_and_the_publisher(built: Path) -> None:
    document = json.loads((built / croissant.NAME).read_text())
    assert [entity["prov:label"] for entity in document["prov:wasDerivedFrom"]] == ["demo, 2 WAT files"]
    activity = document["prov:wasGeneratedBy"]
    assert [model["prov:label"] for model in activity["prov:used"]] == [f"ViT-B-32, weights {'f' * 64}"]
    root = json.loads((built / "manifest.json").read_text())["merkle"]["root"]
    assert root in activity["prov:generated"]
    assert document["prov:wasAttributedTo"]["prov:label"] == document["creator"]["name"]


@pytest.mark.slow
@pytest.mark.parametrize(("given", "expected"), [(None, "2024-01-01"), ("2026-12-24", "2026-12-24")])
def test_the_day_of_publication_is_given_or_that_of_the_newest_page(
    tmp_path: Path, defaults: params.Params, given: str | None, expected: str
) -> None:
    values = defaults.model_dump(mode="json")
    values["release"] |= {"published": given, "tables": []}
    folder = published.build(tmp_path, published.rows(3), params.parse(values))
    document = json.loads((folder / croissant.NAME).read_text())
    assert document["datePublished"] == expected
    sets = {one["name"] for one in document["recordSet"]}
    assert {"pairs", "tombstones"} <= sets
    assert not sets & set(layouts.NAMES)
