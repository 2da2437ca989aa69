"""Every parameter that names a path is looked at: where nothing is there, the run stops before its first stage."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, get_args, get_origin

import pytest
from made.parameters import with_values
from pydantic import BaseModel

from laion_dask import params
from laion_dask.preflight import preflight

GONE = "gone/nowhere.bin"
# Parameters that are any text and name no path.
TEXTS = {
    "catalog.lists.column": "a column of a list, which is read when the list is there",
    "crawl.base_url": "an address, which the first stage asks",
    "download.contact": "for webmasters",
    "extract.refused_substrings": "parts of addresses",
    "filter.where": "an expression",
    "filter.computed.file_column": "a column of a file, which is read when the file is there",
    "group.model": "a name of score.models",
    "score.heads.column": "a column to write",
    "score.heads.model": "a name of score.models",
    "score.tags.model": "a name of score.models",
    "score.masked_text.model": "a name of score.models",
    "caption.prompt": "words for the captioner",
    "caption.repair.prompt": "words for the model that repairs",
    "release.creator": "a name",
    "release.contact": "for readers",
}
TAG = {"kind": "zero_shot", "column": "t", "model": "demo"}
RANK = {"name": "one", "keep": 1}
BASED = {"model": "demo", "centroids": GONE, "targets": GONE}
# Parameter -> sections in which it names a path where nothing is.
PATHS: dict[str, dict[str, dict[str, Any]]] = {
    "crawl.files": {"crawl": {"source": "files", "files": [GONE]}},
    "extract.language_model": {"extract": {"language_model": GONE}},
    "catalog.removals": {"catalog": {"removals": GONE}},
    "catalog.lists.file": {"catalog": {"lists": [{"name": "a", "kind": "md5", "file": GONE}]}},
    "download.warcs": {"download": {"warcs": [GONE]}},
    "download.verify": {"download": {"verify": GONE}},
    "score.models.model": {"score": {"models": [{"name": "mine", "model": f"local-dir:{GONE}"}]}},
    "score.models.pretrained": {"score": {"models": [{"name": "mine", "model": "RN50", "pretrained": GONE}]}},
    "score.heads.file": {"score": {"heads": [{"kind": "aesthetic_v1", "file": GONE}]}},
    "score.tags.file": {"score": {"tags": [{"kind": "laion400m", "rule": "published", "file": GONE}]}},
    "score.faces.file": {"score": {"faces": {"file": GONE}}},
    "score.masked_text.file": {"score": {"masked_text": {"file": GONE}}},
    "group.evaluation": {"group": {"evaluation": [GONE]}},
    "filter.text_entities": {"filter": {"text_entities": GONE}},
    "filter.keywords.file": {"filter": {"keywords": {"file": GONE, "above_punsafe": 0.9}}},
    "filter.keep_uids": {"filter": {"keep_uids": [GONE]}},
    "filter.drop_uids": {"filter": {"drop_uids": [GONE]}},
    "filter.image_based.centroids": {"filter": {"image_based": BASED}},
    "filter.image_based.targets": {"filter": {"image_based": BASED}},
    "filter.balance.entries": {"filter": {"balance": {"entries": GONE, "t": 20_000, "seed": 1}}},
    "filter.balance.by_language": {"filter": {"balance": {"by_language": GONE, "t": 20_000, "seed": 1}}},
    "filter.computed.file": {
        "filter": {"computed": [{"column": "n", "kind": "scores", "file": GONE, "file_column": "score"}]}
    },
    "filter.computed.targets": {
        "filter": {"computed": [{"column": "n", "kind": "normsim", "model": "demo", "norm": 2, "targets": GONE}]}
    },
    "translate.model": {"translate": {"model": f"local-dir:{GONE}"}},
    "caption.model": {"caption": {"model": f"local-dir:{GONE}"}},
    "caption.pretrained": {"caption": {"kind": "coca", "model": "coca_ViT-B-32", "pretrained": GONE}},
    "caption.rank.model": {"caption": {"rank": [{**RANK, "model": f"local-dir:{GONE}"}]}},
    "caption.rank.pretrained": {"caption": {"rank": [{**RANK, "model": "RN50", "pretrained": GONE}]}},
    "caption.repair.model": {"caption": {"repair": {"model": f"local-dir:{GONE}", "max_tokens": 9}}},
    "release.tombstones": {"release": {"tombstones": GONE}},
    "report.against": {"report": {"against": GONE}},
}


def free_texts(model: type[BaseModel], path: str = "") -> Iterator[str]:
    """Yield the keys of parameters that may be any text: neither one of a few words nor of a fixed form."""
    for name, field in model.model_fields.items():
        yield from _of(field.annotation, field.metadata, f"{path}{name}")


def _of(annotation: Any, rules: Iterable[Any], key: str) -> Iterator[str]:  # noqa: ANN401 - any annotation
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield from free_texts(annotation, f"{key}.")
    elif annotation is str:
        if not any(getattr(rule, "pattern", None) for rule in rules):
            yield key
    elif get_origin(annotation) is Annotated:
        inner, *given = get_args(annotation)
        yield from _of(inner, [part for rule in given for part in (rule, *getattr(rule, "metadata", ()))], key)
    else:
        for inner in get_args(annotation):
            if isinstance(inner, type) or get_origin(inner) is not None:
                yield from _of(inner, rules, key)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "removals.csv").write_text("kind,value,reason,date,source\n")


def test_each_parameter_that_may_be_any_text_is_known_as_a_path_or_as_none() -> None:
    assert {*free_texts(params.Params)} | {"report.against"} == PATHS.keys() | TEXTS.keys()
    assert not PATHS.keys() & TEXTS.keys()


@pytest.mark.usefixtures("here")
@pytest.mark.parametrize("key", PATHS)
def test_a_path_where_nothing_is_stops_the_run_with_key_value_and_remedy(key: str, defaults: params.Params) -> None:
    settings = with_values(defaults, PATHS[key])
    with pytest.raises(preflight.PreflightError) as refused:
        preflight.check(settings)
    message = str(refused.value)
    section, *_, last = key.split(".")
    assert GONE in message
    assert re.search(rf"\b{section}\b", message)
    assert last in message
    assert "Remedy: " in message
