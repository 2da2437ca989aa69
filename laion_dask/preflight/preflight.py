"""Check, before anything runs, that everything exists that the parameters name, for all stages at once.

Files and folders are opened, small files are read as their stage reads them, models are looked for, and columns that
rules of `filter` name are compared with those that the stages will write. So an error that would end the last stage is
reported before the first one starts, together with all others.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import partial
from pathlib import Path
from typing import Final

import pyarrow as pa

from laion_dask import params, schema
from laion_dask.cluster import settings as cluster
from laion_dask.filter import filter_checks
from laion_dask.inputs import named_files
from laion_dask.inputs.named_files import STAGES, NamedFile
from laion_dask.params import heads
from laion_dask.preflight import looks
from laion_dask.schema import faces, masked

_REMEDY: Final = "put the files there, or give their paths in params.yaml; docs/recipes.md says what they are"


class PreflightError(Exception):
    """Something is missing or cannot be used; the message names each with its key, and the remedy."""


class FilesMissingError(PreflightError):
    """Files are missing, and nothing else is wrong."""

    def __init__(self, message: str, missing: Sequence[str]) -> None:
        super().__init__(message)
        self.missing = tuple(missing)
        """`key = path` of each."""


def check(settings: params.Params, first: str = STAGES[0], *, weights: bool = True) -> None:
    """Check what the stages from `first` on need. Raises `PreflightError` with all that is wrong.

    With `weights`, the weights of models are fetched where a cache lacks them. Files that an earlier stage of the same
    run makes need not exist yet.
    """
    to_come = STAGES[STAGES.index(first) if first in STAGES else 0 :]
    named = [one for one in named_files.named_files(settings) if one.stage in to_come]
    asked = {(one.key, one.path): one for one in reversed(named)}
    missing, wrong = [], []
    for one in reversed(asked.values()):
        if one.is_address:
            wrong += [f"{one.key}: {problem}"] if (problem := _error_of(partial(looks.look_at_address, one))) else []
        elif (problem := _misplaced(one)) is not None:
            wrong.append(problem)
        elif one.made_by() is None and not (found := _found(one)):
            missing.append(f"{one.key} = {one.path}")
        elif one.made_by() is None:
            problems = [f"{one.key} = {path}: {problem}" for path in found if (problem := _unreadable(one, path))]
            if not problems and (problem := _error_of(partial(looks.look, one, settings))):
                problems = [problem if problem.startswith(one.key) else f"{one.key}: {problem}"]
            wrong += problems
    unread = tuple(line.partition(" = ")[0] for line in [*missing, *wrong])
    if any(key.startswith("score.tags") for key in unread):
        unread = (*unread, "filter")  # the names of its columns stand in the files of tags
    wrong += [
        problem
        for key, read in _readers(settings, to_come, weights=weights)
        if key not in unread
        if (problem := _error_of(read))
    ]
    # A stage hours from now would end at its start.
    wrong += [problem for stage in to_come if (problem := _error_of(partial(cluster.settings, stage)))]
    if missing or wrong:
        by = f" (recipe {', '.join(settings.recipe)})" if settings.recipe else ""
        problems = [f"files are missing{by}: {'; '.join(missing)}. Remedy: {_REMEDY}"] if missing else []
        message = "\n  ".join([*problems, *dict.fromkeys(wrong)])
        raise PreflightError(message) if wrong else FilesMissingError(message, missing)


def files(settings: params.Params) -> list[tuple[str, str]]:
    """Return (key, path) of each file that the user has to provide; files that earlier stages make are left out."""
    asked = [one for one in named_files.named_files(settings) if one.path and one.made_by() is None]
    # The ledger is the project's own, and the stage `inputs` looks for it: parameters are written before it is there.
    asked = [one for one in asked if one.key != "catalog.removals"]
    return list(dict.fromkeys((one.key, one.path) for one in asked if one.kind != "glob"))


def _misplaced(one: NamedFile) -> str | None:
    """Return the problem of a path in the out of a later stage, which is emptied before this stage reads it."""
    maker = one.made_by()
    if maker is None or STAGES.index(maker) < STAGES.index(one.stage):
        return None
    return (
        f"{one.key} = {one.path} lies in data/{maker}, which is emptied before the stage {one.stage} reads it. "
        f"Remedy: take it out of the way first, e.g. `dvc get . data/{maker} --out earlier`, and name it there"
    )


def _found(one: NamedFile) -> list[Path]:
    """Return the files that exist; a path that the system refuses is returned too, and fails when it is opened."""
    try:
        return one.found()
    except OSError:
        return [Path(one.path)]


def _unreadable(one: NamedFile, path: Path) -> str | None:
    """Return why a file or folder cannot be used as what it should be."""
    try:
        path.stat()
        if path.is_dir():
            if one.kind == "file":
                return "a folder, and a file is wanted. Remedy: the path of the file"
            next(path.iterdir(), None)
        elif one.kind == "folder":
            return "a file, and a folder is wanted. Remedy: the path of the folder"
        else:
            with path.open("rb") as stream:
                stream.read(1)
    except OSError as error:
        return f"cannot be read ({error.strerror}). Remedy: make it readable for this user"
    return None


def _error_of(read: Callable[[], object]) -> str | None:
    """Return the error that one of this project's modules raises when it reads a file; None if it raises none."""
    try:
        read()
    except OSError as error:
        return f"{error}. Remedy: mend the file, or name another one in params.yaml"
    except Exception as error:
        if type(error).__module__.partition(".")[0] != "laion_dask":
            raise
        return str(error)
    return None


def _readers(
    settings: params.Params, to_come: tuple[str, ...], *, weights: bool
) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield (key, function) of what reads, as its stage does, a file that is small or of which the head is enough."""
    yield "filter", lambda: filter_checks.check(settings.filter, filter_checks.joined(scores(settings.score)))
    if "release" in to_come:
        from laion_dask.blocklists import removal_ledger  # noqa: PLC0415 - each of them only where it is needed: some are heavy

        yield "catalog.removals", lambda: removal_ledger.read(Path(settings.catalog.removals))
    if "download" in to_come and settings.download.verify is not None:
        from laion_dask.download import earlier  # noqa: PLC0415

        folder = Path(settings.download.verify)
        yield "download.verify", lambda: earlier.shard_files(folder)
    if "score" in to_come and weights:
        yield from _score(settings.score)
    if "group" in to_come and settings.group.evaluation:
        from laion_dask.group import evaluation_sets  # noqa: PLC0415

        paths = [Path(path) for path in settings.group.evaluation]
        yield "group.evaluation.0", lambda: evaluation_sets.read(paths)
    if "filter" in to_come:
        yield from _filter(settings)
    if weights:
        yield from _new_texts(settings, to_come)
    if settings.report.against is not None:
        against = settings.report.against
        yield "report.against", lambda: _against(against)


def _against(name: str) -> None:
    """Look for the version that the report compares with: a folder of a release, a revision or an experiment."""
    from laion_dask.versions import checkout  # noqa: PLC0415

    try:
        checkout.identity(name)
    except checkout.VersionError as error:
        raise PreflightError(f"report.against = {name}: {error}") from error


def _score(rules: params.Score) -> Iterator[tuple[str, Callable[[], object]]]:
    if rules.masked_text is not None:
        from laion_dask.score import text_mask  # noqa: PLC0415

        mask = rules.masked_text
        yield "score.masked_text", lambda: text_mask.file(mask)
    from laion_dask.clip import weights  # noqa: PLC0415

    for at, model in enumerate(rules.models):
        # The demo's lies in the package.
        if model.model != "demo":
            yield f"score.models.{at}.model", lambda model=model: weights.find(model)  # type: ignore[misc]


def _new_texts(settings: params.Params, to_come: tuple[str, ...]) -> Iterator[tuple[str, Callable[[], object]]]:
    """Yield what looks for the models that write texts; those of the demo lie in the package."""
    if "translate" in to_come and (translate := settings.translate) is not None and translate.model != "demo":
        from laion_dask.translate import models as translators  # noqa: PLC0415

        yield "translate.model", lambda: translators.find(translate)
    if "caption" in to_come and (caption := settings.caption) is not None:
        others = [caption.model, *(step.model for step in caption.rank), "" if caption.repair is None else "repair"]
        if {*others} != {"demo", ""}:
            from laion_dask.caption import models as captioners  # noqa: PLC0415

            yield "caption.model", lambda: captioners.find(caption)


def _filter(settings: params.Params) -> Iterator[tuple[str, Callable[[], object]]]:
    rules = settings.filter
    if rules.keywords is not None:
        from laion_dask.texts import keywords  # noqa: PLC0415

        words = Path(rules.keywords.file)
        yield "filter.keywords.file", lambda: keywords.read(words)
    if rules.balance is not None:
        from laion_dask.filter.sampling import balance, balance_lists  # noqa: PLC0415

        if rules.balance.by_language is not None:
            folder = Path(rules.balance.by_language)
            yield "filter.balance.by_language", lambda: balance_lists.look(folder)
        else:
            entries = Path(str(rules.balance.entries))
            yield "filter.balance.entries", lambda: balance.read_entries(entries)


def scores(settings: params.Score) -> pa.Schema:
    """Return the columns that the scores will have; what the files of tags name is read from them."""
    found = list(schema.scores([model.name for model in settings.models]).schema)
    names = [column for head in settings.heads or () for column in head.columns if column not in schema.SCORES.names]
    found += [pa.field(name, pa.float32()) for name in names]
    for tag in settings.tags or ():
        found += _of_tag(tag)
    if settings.faces is not None:
        found += [pa.field(column.name, column.type) for column in faces.COLUMNS]
    if settings.masked_text is not None:
        found.append(pa.field(masked.MASKED.name, masked.MASKED.type))
    return pa.schema(found)


def _of_tag(tag: heads.Tag) -> list[pa.Field]:
    from laion_dask.score import tags  # noqa: PLC0415 - only where there are any

    return [pa.field(column.name, column.type) for column in tags.columns(tag)]
