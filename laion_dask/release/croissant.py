"""Write croissant.json: Croissant 1.1 with the RAI vocabulary and PROV provenance.

Specifications: Croissant 1.1 (mlcommons.org/croissant/1.1), Croissant RAI 1.0, W3C PROV-O. The RAI properties have the
names of the specification's tables. Tables, columns, types and meanings come from schema.py and layouts.py.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import pyarrow as pa

from laion_dask import schema
from laion_dask.release import composition, croissant_rai, layouts
from laion_dask.release.manifest import Made
from laion_dask.schema import Column, Table
from laion_dask.schema.values import SPLITS

NAME: Final = "croissant.json"
CONFORMS_TO: Final = ("http://mlcommons.org/croissant/1.1", "http://mlcommons.org/croissant/RAI/1.0")
LICENSE: Final = "https://creativecommons.org/licenses/by/4.0/"
MAIN: Final = "pairs"
"""Name of the main table's record set."""

_PARQUET: Final = "application/x-parquet"
_TYPES: Final = {
    "string": "sc:Text",
    "bool": "sc:Boolean",
    "float": "cr:Float32",
    "double": "cr:Float64",
    "int16": "cr:Int16",
    "int32": "cr:Int32",
    "int64": "cr:Int64",
}
_URLS: Final = frozenset({"URL", "url", "page_url"})

# The context of the specification's appendix, and the two further vocabularies.
_CONTEXT: Final[Mapping[str, Any]] = {
    "@language": "en",
    "@vocab": "https://schema.org/",
    "arrayShape": "cr:arrayShape",
    "citeAs": "cr:citeAs",
    "column": "cr:column",
    "conformsTo": "dct:conformsTo",
    "containedIn": "cr:containedIn",
    "cr": "http://mlcommons.org/croissant/",
    "data": {"@id": "cr:data", "@type": "@json"},
    "dataType": {"@id": "cr:dataType", "@type": "@vocab"},
    "dct": "http://purl.org/dc/terms/",
    "description": {"@container": "@language"},
    "equivalentProperty": "cr:equivalentProperty",
    "examples": {"@id": "cr:examples", "@type": "@json"},
    "extract": "cr:extract",
    "field": "cr:field",
    "fileObject": "cr:fileObject",
    "fileProperty": "cr:fileProperty",
    "fileSet": "cr:fileSet",
    "format": "cr:format",
    "includes": "cr:includes",
    "isArray": "cr:isArray",
    "isLiveDataset": "cr:isLiveDataset",
    "jsonPath": "cr:jsonPath",
    "key": "cr:key",
    "md5": "cr:md5",
    "name": {"@container": "@language"},
    "parentField": "cr:parentField",
    "path": "cr:path",
    "prov": "http://www.w3.org/ns/prov#",
    "rai": "http://mlcommons.org/croissant/RAI/",
    "recordSet": "cr:recordSet",
    "references": "cr:references",
    "regex": "cr:regex",
    "repeated": "cr:repeated",
    "replace": "cr:replace",
    "samplingRate": "cr:samplingRate",
    "sc": "https://schema.org/",
    "separator": "cr:separator",
    "source": "cr:source",
    "subField": "cr:subField",
    "transform": "cr:transform",
}


def write(
    out: Path,
    made: Made,
    numbers: Mapping[str, Any],
    merkle_root: Mapping[str, Any],
    files: Mapping[str, Mapping[str, Any]],
) -> dict[str, Any]:
    """Write `croissant.json` and return its content.

    `numbers` come from `composition.measure`, `files` from `manifest.describe`: all files in the folder so far.
    """
    settings = made.settings.release
    tables = released(out, made)
    document = {
        "@context": dict(_CONTEXT),
        "@type": "sc:Dataset",
        "conformsTo": list(CONFORMS_TO),
        "name": settings.name,
        "description": (
            "Links to images with their alternative texts, found in web crawls and filtered by the similarity of image "
            "and text. No image is part of it; no right is claimed in any image or text."
        ),
        "license": LICENSE,
        "sdLicense": LICENSE,
        "url": settings.url,
        "version": settings.version,
        "datePublished": made.published(),
        "creator": {"@type": "sc:Organization", "name": settings.creator, "url": settings.url},
        "inLanguage": [code for code, _ in numbers["languages"]["top"] if code],
        "keywords": ["image-text pairs", "web crawl", "CLIP", "multimodal"],
        "citeAs": f"{settings.creator}: {settings.name} {settings.version}. {settings.url}",
        "isLiveDataset": False,
        **_provenance(made, merkle_root),
        **croissant_rai.properties(made, numbers),
        "distribution": [*_file_sets(tables), *_file_objects(files)],
        "recordSet": [_record_set(name, table) for name, table in tables.items()],
    }
    (out / NAME).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    return document


def released(folder: Path, made: Made) -> dict[str, Table]:
    """Return the tables of a release, by the name of their record set; "pairs" is the main one."""
    views = layouts.tables(made.settings.release.tables, made.models)
    by_name = {
        folder_name or MAIN: views.get(folder_name, schema.RELEASE)
        for folder_name in composition.tables(folder)
        if composition.files(folder, folder_name)
    }
    if (folder / "tombstones.parquet").is_file():
        by_name["tombstones"] = schema.TOMBSTONES
    return by_name


def _patterns(name: str) -> list[str]:
    if name == "tombstones":
        return ["tombstones.parquet"]
    # One pattern for each split: in some readers * also matches a slash.
    return [f"{'' if name == MAIN else f'{name}/'}{split}-*.parquet" for split in SPLITS]


def _file_sets(tables: Mapping[str, Table]) -> list[dict[str, Any]]:
    return [
        {
            "@type": "cr:FileSet",
            "@id": f"{name}-files",
            "name": f"{name}-files",
            "description": f"Parquet files of the table {name}, one or more for each split",
            "encodingFormat": _PARQUET,
            "includes": _patterns(name),
        }
        for name in tables
    ]


def _file_objects(files: Mapping[str, Mapping[str, Any]]) -> list[dict[str, Any]]:
    formats = {".parquet": _PARQUET, ".md": "text/markdown", ".json": "application/json", ".svg": "image/svg+xml"}
    return [
        {
            "@type": "cr:FileObject",
            "@id": path,
            "name": path,
            "contentUrl": path,
            "contentSize": f"{file['bytes']} B",
            "encodingFormat": formats.get(Path(path).suffix, "application/octet-stream"),
            "sha256": file["sha256"],
        }
        for path, file in files.items()
    ]


def _record_set(name: str, table: Table) -> dict[str, Any]:
    fields = [_field(name, column) for column in table.columns]
    if name != "tombstones":
        fields.append(_split(name))
    key = [{"@id": f"{name}/{column.name}"} for column in table.columns if column.name in {"uid", "uid_sha256"}]
    record_set = {"@type": "cr:RecordSet", "@id": name, "name": name, "description": table.row, "field": fields}
    return {**record_set, "key": key} if key else record_set


def _field(name: str, column: Column) -> dict[str, Any]:
    of_list = isinstance(column.type, pa.ListType)
    kind = str(column.type.value_type if of_list else column.type)
    return {
        "@type": "cr:Field",
        "@id": f"{name}/{column.name.replace(' ', '_')}",  # an id has no spaces
        "name": column.name,
        "description": f"{column.meaning} ({column.unit})" if column.unit else column.meaning,
        "dataType": "sc:URL" if column.name in _URLS else _TYPES[kind],
        **({"isArray": True, "arrayShape": "-1"} if of_list else {}),
        "source": {"fileSet": {"@id": f"{name}-files"}, "extract": {"column": column.name}},
    }


def _split(name: str) -> dict[str, Any]:
    """Return the field with the split of a pair: the first part of its file's name."""
    return {
        "@type": "cr:Field",
        "@id": f"{name}/split",
        "name": "split",
        "description": "split of the pair: en, multi or nolang, the first part of the file's name",
        "dataType": ["sc:Text", "cr:Split"],
        "source": {
            "fileSet": {"@id": f"{name}-files"},
            "extract": {"fileProperty": "filename"},
            "transform": {"regex": "^([a-z]+)-[0-9]+\\.parquet$"},
        },
    }


def _provenance(made: Made, merkle_root: Mapping[str, Any]) -> dict[str, Any]:
    """Return the sources, the activity and the publisher of this version (PROV-O)."""
    source = made.settings.crawl
    crawls = [
        {
            "@type": "prov:Entity",
            "@id": f"crawl/{crawl}",
            "prov:label": f"{crawl}, {count:,} WAT files",
            **({"prov:atLocation": f"{source.base_url}/crawl-data/{crawl}/"} if source.source == "commoncrawl" else {}),
        }
        for crawl, count in made.crawls().items()
    ]
    models = [
        {
            "@type": "prov:Entity",
            "@id": f"model/{name}",
            "prov:label": f"{about['model']}, weights {about['weights_sha256']}",
        }
        for name, about in made.models.items()
    ]
    return {
        "prov:wasDerivedFrom": crawls,
        "prov:wasGeneratedBy": {
            "@type": "prov:Activity",
            "@id": "build",
            "prov:label": "laion_dask: crawl, extract, catalog, download, score, filter, translate, caption, release",
            "prov:used": models,
            "prov:generated": f"{merkle_root['leaves']} pairs with Merkle root {merkle_root['root']}",
        },
        "prov:wasAttributedTo": {
            "@type": "prov:Agent",
            "@id": "publisher",
            "prov:label": made.settings.release.creator,
        },
    }
