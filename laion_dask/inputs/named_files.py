"""List the files that parameters name by path: the stage that reads each, its key and its kind.

Used by preflight, and by the stage inputs, which digests the files: DVC only detects a changed path in params.yaml, not
a changed file at that path.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from glob import glob
from pathlib import Path
from typing import Final, Literal, NamedTuple

from laion_dask import params
from laion_dask.storage import objects

STAGES: Final = (
    "crawl",
    "extract",
    "catalog",
    "download",
    "score",
    "group",
    "filter",
    "translate",
    "caption",
    "release",
    "report",
)
"""In the order in which they run; `data/<stage>` is the out of each."""
_LOCAL_DIR: Final = "local-dir:"
_PACKAGED: Final = ("demo", "rapidocr")  # mean a file of this package, and of that one

Kind = Literal["file", "folder", "either", "glob"]


class NamedFile(NamedTuple):
    """One path or glob of params.yaml, once for every stage that reads it."""

    stage: str
    key: str
    """Key of the parameter, e.g. `catalog.lists.0.file`."""
    path: str
    """As the user wrote it, relative to the project's folder, absolute or an address; a glob where `kind` says so."""
    kind: Kind = "file"

    @property
    def is_address(self) -> bool:
        """Say whether the path is an address, such as s3://bucket/wats/*.warc.wat.gz: only WATs are read from there."""
        return self.key.startswith("crawl.files.") and objects.is_address(self.path)

    def made_by(self) -> str | None:
        """Return the stage that writes this path, if any: the path then need not exist before the first run."""
        relative = Path(os.path.relpath(self.path))
        inside = relative.parts[:1] == ("data",) and len(relative.parts) > 1
        return relative.parts[1] if inside and relative.parts[1] in STAGES else None

    def found(self) -> list[Path]:
        """List the existing paths, sorted: the file or folder itself, or the matches of the glob; none for an address.

        A path that exists is never treated as a glob.
        """
        if self.kind == "glob" and not Path(self.path).exists():
            return sorted(Path(path) for path in glob(self.path, recursive=True))  # noqa: PTH207 - may be absolute
        return [Path(self.path)] if Path(self.path).exists() else []


def named_files(settings: params.Params) -> list[NamedFile]:
    """List every path and glob that the parameters name, in the order of the stages that read them.

    A file that several stages read is listed once for each. `score.models.N.pretrained` and `report.against` may also
    be a tag or a revision, and are listed only if their path exists.
    """
    found = [*_crawl(settings), *_catalog(settings), *_download(settings.download), *_score(settings.score)]
    found += [NamedFile("group", f"group.evaluation.{at}", path) for at, path in enumerate(settings.group.evaluation)]
    found += [NamedFile("filter", f"filter.{key}", path, kind) for key, path, kind in settings.filter.files()]
    found += [*_translate(settings), *_caption(settings)]
    if settings.release.tombstones is not None:
        found.append(NamedFile("release", "release.tombstones", settings.release.tombstones))
    if settings.report.against is not None and Path(settings.report.against).is_dir():
        found.append(NamedFile("report", "report.against", settings.report.against, "folder"))
    return sorted(found, key=lambda one: STAGES.index(one.stage))


def _crawl(settings: params.Params) -> Iterator[NamedFile]:
    if settings.crawl.source == "files":
        for stage in ("crawl", "extract"):
            yield from _numbered(stage, "crawl.files", settings.crawl.files, "glob")
    if settings.extract.language_model is not None:
        yield NamedFile("extract", "extract.language_model", settings.extract.language_model)


def _catalog(settings: params.Params) -> Iterator[NamedFile]:
    for stage in ("catalog", "filter", "release"):
        yield NamedFile(stage, "catalog.removals", settings.catalog.removals)
    for stage in ("catalog", "download", "filter"):
        for at, entry in enumerate(settings.catalog.lists):
            yield NamedFile(stage, f"catalog.lists.{at}.file", entry.file)


def _download(rules: params.Download) -> Iterator[NamedFile]:
    if rules.source != "web":
        yield from _numbered("download", "download.warcs", rules.warcs, "glob")
    if rules.verify is not None:
        yield NamedFile("download", "download.verify", rules.verify, "folder")


def _score(rules: params.Score) -> Iterator[NamedFile]:
    for at, model in enumerate(rules.models):
        yield from _folder("score", f"score.models.{at}.model", model.model)
        if model.pretrained is not None and Path(model.pretrained).is_file():
            yield NamedFile("score", f"score.models.{at}.pretrained", model.pretrained)
    named = {f"heads.{at}": head.file for at, head in enumerate(rules.heads or ())}
    named |= {f"tags.{at}": tag.file for at, tag in enumerate(rules.tags or ())}
    named |= {"faces": rules.faces.file} if rules.faces is not None else {}
    named |= {"masked_text": rules.masked_text.file} if rules.masked_text is not None else {}
    for key, path in named.items():
        if path is not None and path not in _PACKAGED:
            yield NamedFile("score", f"score.{key}.file", path)


def _translate(settings: params.Params) -> Iterator[NamedFile]:
    if settings.translate is None:
        return
    yield from _folder("translate", "translate.model", settings.translate.model)
    yield from _words("translate", settings)


def _caption(settings: params.Params) -> Iterator[NamedFile]:
    rules = settings.caption
    if rules is None:
        return
    yield from _folder("caption", "caption.model", rules.model)
    if rules.pretrained is not None and Path(rules.pretrained).is_file():
        yield NamedFile("caption", "caption.pretrained", rules.pretrained)
    for at, step in enumerate(rules.rank):
        yield from _folder("caption", f"caption.rank.{at}.model", step.model)
        if step.pretrained is not None and Path(step.pretrained).is_file():
            yield NamedFile("caption", f"caption.rank.{at}.pretrained", step.pretrained)
    if rules.repair is not None:
        yield from _folder("caption", "caption.repair.model", rules.repair.model)
    yield from _words("caption", settings)


def _folder(stage: str, key: str, model: str) -> Iterator[NamedFile]:
    if model.startswith(_LOCAL_DIR):
        yield NamedFile(stage, key, model.removeprefix(_LOCAL_DIR), "folder")


def _words(stage: str, settings: params.Params) -> Iterator[NamedFile]:
    """Yield the list of keywords, which new texts are asked about as alt texts are."""
    if settings.filter.keywords is not None:
        yield NamedFile(stage, "filter.keywords.file", settings.filter.keywords.file)


def _numbered(stage: str, key: str, paths: Sequence[str], kind: Kind) -> Iterator[NamedFile]:
    for at, path in enumerate(paths):
        yield NamedFile(stage, f"{key}.{at}", path, kind)
