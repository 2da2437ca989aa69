"""Make the paths in a task's arguments absolute: a worker may have another working directory.

Parameters keep paths as the user wrote them, since manifests and keys contain them; only a task's arguments change.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import fields, is_dataclass, replace
from pathlib import Path
from typing import Any, Final

from laion_dask.params import Caption, Model, Params, Translate
from laion_dask.params.caption import Repair
from laion_dask.params.section import Section

# The parameters that name files, by the class of their section.
_NAMED: Final[Mapping[str, tuple[str, ...]]] = {
    "Balance": ("entries", "by_language"),
    "Caption": ("model",),
    "Catalog": ("removals",),
    "Computed": ("targets", "file"),
    "Download": ("warcs", "verify"),
    "Extract": ("language_model",),
    "Faces": ("file",),
    "Filter": ("text_entities", "keep_uids", "drop_uids"),
    "Group": ("evaluation",),
    "HashList": ("file",),
    "Head": ("file",),
    "ImageBased": ("centroids", "targets"),
    "Keywords": ("file",),
    "MaskedText": ("file",),
    "Model": ("model", "pretrained"),
    "Ranker": ("model", "pretrained"),
    "Release": ("tombstones",),
    "Repair": ("model",),
    "Tag": ("file",),
    "Translate": ("model",),
}
LOCATION: Final = "location"
"""Name of the argument with the path or URL of a WAT."""
_LOCAL_DIR: Final = "local-dir:"
_PACKAGED: Final = ("demo", "rapidocr")  # mean a file of this package, and of that one


def absolute(value: Any) -> Any:  # noqa: ANN401 - arguments of any task
    """Return the value with absolute paths at every depth; a whole `Params` stays as written."""
    if isinstance(value, Path):
        value = value.absolute()
    elif isinstance(value, Section) and not isinstance(value, Params):
        value = value.model_copy(update=dict(_changed(value)))
    elif isinstance(value, Mapping):
        value = {key: _local(item) if key == LOCATION else absolute(item) for key, item in value.items()}
    elif type(value) in {list, tuple}:
        value = type(value)(absolute(item) for item in value)
    elif is_dataclass(value) and not isinstance(value, type):
        changed = {one.name: absolute(getattr(value, one.name)) for one in fields(value) if one.init}
        value = replace(value, **changed)
    return value


def _local(location: str) -> str:
    return location if "://" in location else os.path.abspath(location)  # noqa: PTH100 - a string stays one


def _changed(section: Section) -> Iterator[tuple[str, Any]]:
    named = _NAMED.get(type(section).__name__, ())
    for name in type(section).model_fields:
        value = getattr(section, name)
        if isinstance(section, Model | Caption | Repair | Translate) and name in named:
            yield name, _of_model(value)
        elif name in named and isinstance(value, str):
            yield name, value if value in _PACKAGED else os.path.abspath(value)  # noqa: PTH100 - may be a glob
        elif name in named and isinstance(value, tuple):
            yield name, tuple(os.path.abspath(path) for path in value)  # noqa: PTH100
        elif isinstance(value, Section | tuple):
            yield name, absolute(value)


def _of_model(value: str | None) -> str | None:
    """Make the path of a `local-dir:` folder or of a checkpoint absolute; names and tags stay."""
    if value is not None and value.startswith(_LOCAL_DIR):
        return f"{_LOCAL_DIR}{Path(value.removeprefix(_LOCAL_DIR)).absolute()}"
    return str(Path(value).absolute()) if value is not None and Path(value).is_file() else value


def named(value: Any) -> Iterator[Path]:  # noqa: ANN401 - arguments of any task
    """Yield the existing files and folders that sections in absolute arguments name."""
    if isinstance(value, Section) and not isinstance(value, Params):
        of_class = _NAMED.get(type(value).__name__, ())
        for name in type(value).model_fields:
            given = getattr(value, name)
            for one in given if isinstance(given, tuple) else (given,):
                if name in of_class and isinstance(one, str):
                    yield from _existing(one.removeprefix(_LOCAL_DIR))
                else:
                    yield from named(one)
    elif isinstance(value, Mapping | list | tuple):
        for item in value.values() if isinstance(value, Mapping) else value:
            yield from named(item)


def _existing(path: str) -> list[Path]:
    return [Path(path)] if Path(path).is_absolute() and Path(path).exists() else []


def paths(value: Any) -> Iterator[Path]:  # noqa: ANN401 - arguments of any task
    """Yield every path in arguments, at any depth, except those in sections."""
    if isinstance(value, Path):
        yield value
    elif isinstance(value, Mapping):
        for item in value.values():
            yield from paths(item)
    elif isinstance(value, list | tuple | set | frozenset):
        for item in value:
            yield from paths(item)
    elif is_dataclass(value) and not isinstance(value, type):
        for one in fields(value):
            yield from paths(getattr(value, one.name))
