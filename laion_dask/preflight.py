"""All parameters in, nothing out: what a version needs and what is not there is told at once, with key and remedy.

Files of the user (lists, embeddings, entries, weights of heads) and columns that rules of `filter` ask for. Weights of
models are looked for by the stage score, before it starts (`laion_dask.models`).
"""

from __future__ import annotations

from pathlib import Path

import pyarrow as pa

from laion_dask import face_schema, filter_checks, head_params, named_files, params, schema


class PreflightError(Exception):
    """Files are missing; the message names each with its key, and the remedy."""


def check(settings: params.Params) -> None:
    """Raise `PreflightError`, or what `filter_checks.check` raises."""
    missing = [f"{key} = {path}" for key, path in files(settings) if not Path(path).exists()]
    if missing:
        by = f" (recipe {', '.join(settings.recipe)})" if settings.recipe else ""
        remedy = "put the files there, or give their paths in params.yaml; docs/recipes.md says what they are"
        raise PreflightError(f"files are missing{by}: {'; '.join(missing)}. Remedy: {remedy}")
    filter_checks.check(settings.filter, filter_checks.joined(scores(settings.score)))


def files(settings: params.Params) -> list[tuple[str, str]]:
    """Return (key, path) of each file that a user must have brought; not what earlier stages make."""
    asked = [one for one in named_files.named_files(settings) if one.path and one.made_by() is None]
    # The ledger is the project's own, and the stage `inputs` looks for it: parameters are written before it is there.
    asked = [one for one in asked if one.key != "catalog.removals"]
    return list(dict.fromkeys((one.key, one.path) for one in asked if one.kind != "glob"))


def scores(settings: params.Score) -> pa.Schema:
    """Return the columns that the scores will have; what the files of tags name is read from them."""
    found = list(schema.scores([model.name for model in settings.models]).schema)
    names = [column for head in settings.heads or () for column in head.columns if column not in schema.SCORES.names]
    found += [pa.field(name, pa.float32()) for name in names]
    for tag in settings.tags or ():
        found += _of_tag(tag)
    if settings.faces is not None:
        found += [pa.field(column.name, column.type) for column in face_schema.COLUMNS]
    return pa.schema(found)


def _of_tag(tag: head_params.Tag) -> list[pa.Field]:
    from laion_dask import tags  # noqa: PLC0415 - only where there are any

    return [pa.field(column.name, column.type) for column in tags.columns(tag)]
