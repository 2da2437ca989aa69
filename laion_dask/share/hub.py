"""Prepare a release as a dataset repository of the Hugging Face hub, and upload it with the hub's client.

The folder has the links and texts of the main table, never an image: `<split>-<number>.parquet`, a configuration for
each split. The other layouts stay in data/release: on the hub they would be the same pairs again.
"""

from __future__ import annotations

import io
import re
import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import pyarrow.parquet as pq
from ruamel.yaml import YAML
from ruamel.yaml.scalarstring import DoubleQuotedScalarString

from laion_dask import params
from laion_dask.release import card, card_figures, composition, croissant, manifest, rate_lines
from laion_dask.schema.values import SPLITS
from laion_dask.share import citation
from laion_dask.storage import templates
from laion_dask.storage.files import sha256

if TYPE_CHECKING:
    from huggingface_hub import HfApi

MANIFEST: Final = "release-manifest.json"
"""The release's manifest; it lists the files of data/release, not those of this folder."""
SUMS: Final = "SHA256SUMS"
# The hub's viewer reads whole row groups up to 286 MiB. The longest rows that `extract` lets pass have about 8 kB.
ROW_GROUP: Final = 20_000
_ZSTD_LEVEL: Final = 3
_TOMBSTONES: Final = "tombstones.parquet"
# A version with fewer files must not leave pairs of the one before on the hub.
_REPLACED: Final = ("*.parquet", "figures/*")
_NOWHERE: Final = re.compile(r"\.(example|invalid|test)(/|:|$)")


class PublishError(Exception):
    """A version cannot be published; the message has the cause and the remedy."""


@dataclass(frozen=True, slots=True)
class Prepared:
    """What a folder for the hub holds."""

    rows: int
    files: int
    bytes: int
    root: str
    """Merkle root of the uids: that of the release."""


def prepare(release: Path, out: Path, made: manifest.Made, rates: Sequence[rate_lines.RateRow] = ()) -> Prepared:
    """Write the folder `out` of the release in the folder `release`, and check its pairs against the manifest.

    `made` and `rates` describe the version, as for `publication.describe`. Raises `PublishError`.
    """
    known = manifest.read(release)
    if findings := manifest.check(release):
        first = findings[0]
        raise PublishError(f"{release}: {first.path}: {first.what} ({first.detail}). Remedy: run `dvc repro release`")
    if known["removals"]["sha256"] != made.removals.sha256:
        message = f"{made.settings.catalog.removals} has changed since the release was built"
        raise PublishError(f"{message}. Remedy: run `dvc repro`, so that what was removed is not published")
    out.mkdir(parents=True)
    for path in composition.files(release):
        _rewrite(path, out / path.name)
    shutil.copyfile(release / manifest.NAME, out / MANIFEST)
    stones = release / _TOMBSTONES
    if stones.is_file():
        shutil.copyfile(stones, out / _TOMBSTONES)
    root = manifest.root(out)
    if root != known["merkle"]:
        raise PublishError(f"the pairs in {out} are not those of {release}. Remedy: remove it, and try again")
    _describe(out, made, root, int(known["tombstones"]), rates)
    paths = [path for path in out.rglob("*") if path.is_file()]
    return Prepared(root["leaves"], len(paths), sum(path.stat().st_size for path in paths), root["root"])


def placeholders(release: params.Release) -> list[str]:
    """Name the parameters that still have the demo's values, which tell nobody who is responsible."""
    found = [] if not _NOWHERE.search(release.url) else [f"release.url: {release.url}"]
    if "@" not in release.contact and "://" not in release.contact:
        found.append(f"release.contact: {release.contact}")
    return found


def upload(folder: Path, repository: str, version: str, *, private: bool, api: HfApi) -> str:
    """Upload the folder as one commit, tag it with the version, and return its address.

    The client takes the token of `hf auth login` or HF_TOKEN, and sends only what the hub does not have. Tables of an
    earlier version that this one lacks are deleted from the branch. Raises `PublishError`.
    """
    # Its client takes a second.
    from huggingface_hub.errors import HTTPError  # type: ignore[attr-defined]  # noqa: PLC0415

    try:
        api.create_repo(repository, repo_type="dataset", private=private, exist_ok=True)
        commit = api.upload_folder(
            repo_id=repository,
            repo_type="dataset",
            folder_path=folder,
            commit_message=f"Version {version}",
            delete_patterns=[*_REPLACED],
        )
        api.create_tag(repository, repo_type="dataset", tag=version, revision=commit.oid)
    except (HTTPError, OSError) as error:
        what = " ".join(str(error).split())
        message = f"the hub did not take {repository}: {what}"
        raise PublishError(f"{message}. Remedy: `hf auth login`, check the name, then run this again") from error
    return commit.commit_url


def check_name(repository: str) -> None:
    """Raise `PublishError` if the hub would refuse the name."""
    from huggingface_hub.errors import HFValidationError  # noqa: PLC0415
    from huggingface_hub.utils import validate_repo_id  # type: ignore[attr-defined]  # noqa: PLC0415

    try:
        validate_repo_id(repository)
    except HFValidationError as error:
        raise PublishError(f"{repository} is no name of a repository ({error}). Remedy: give OWNER/NAME") from error
    if repository.count("/") != 1:
        raise PublishError(f"{repository} has no owner. Remedy: give OWNER/NAME")


def _rewrite(source: Path, target: Path) -> None:
    """Copy a table for the viewer: small row groups with an index of pages, cut where contents say so.

    Content-defined chunks keep most bytes equal when pairs are taken out or added, so that the hub stores and sends
    only what is new.
    """
    with (
        pq.ParquetFile(source) as table,
        pq.ParquetWriter(
            target,
            table.schema_arrow,
            compression="zstd",
            compression_level=_ZSTD_LEVEL,
            write_page_index=True,
            use_content_defined_chunking=True,
        ) as writer,
    ):
        for batch in table.iter_batches(ROW_GROUP):
            writer.write_batch(batch, row_group_size=ROW_GROUP)


def _describe(
    out: Path,
    made: manifest.Made,
    root: dict[str, Any],
    tombstones: int,
    rates: Sequence[rate_lines.RateRow],
) -> None:
    """Write card, citation, Croissant and digests, in this order: each has the digests of those before."""
    numbers = composition.measure(out)
    pictures = [card.Picture(*drawn) for drawn in card_figures.write(out, numbers, made.settings)]
    card.write(out, made, numbers, root, tombstones, pictures, rates)
    path = out / card.NAME
    path.write_text(_for_hub(path.read_text(encoding="utf-8"), out, made), encoding="utf-8")
    text = citation.cff(made.settings.release, made.published())
    (out / citation.CITATION).write_text(text, encoding="utf-8")
    croissant.write(out, made, numbers, root, manifest.describe(out))
    sums = "".join(
        f"{sha256(file)}  {file.relative_to(out).as_posix()}\n" for file in sorted(out.rglob("*")) if file.is_file()
    )
    (out / SUMS).write_text(sums, encoding="utf-8")


def _for_hub(text: str, out: Path, made: manifest.Made) -> str:
    """Return the card of a release with a configuration for each split, and with the citation."""
    _, header, body = text.split("---\n", 2)
    yaml = YAML()
    about = yaml.load(header)
    splits = [split for split in SPLITS if any(path.name.startswith(f"{split}-") for path in composition.files(out))]
    about["configs"] = [
        {
            "config_name": split,
            **({"default": True} if place == 0 else {}),
            "data_files": [{"split": "train", "path": f"{split}-*.parquet"}],
        }
        for place, split in enumerate(splits)
    ]
    # The hub reads YAML 1.1, in which Norwegian's code is false.
    about["language"] = [DoubleQuotedScalarString(code) for code in about.get("language") or ()]
    written = io.StringIO()
    yaml.dump(about, written)
    release = made.settings.release
    section = templates.environment("laion_dask.share", escape=False).get_template("hub.md.j2").render(
        first=splits[0] if splits else "",
        splits=splits,
        sums=SUMS,
        manifest=MANIFEST,
        bibtex=citation.bibtex(release, made.published()),
    )  # fmt: skip
    before, load, rest = body.partition("## Load it\n")
    _, motivation, rest = rest.partition("## Motivation\n")
    if not (load and motivation):
        raise PublishError("the card of the release has other sections than this version of laion_dask writes")
    rest = rest.replace("`manifest.json`", f"`{MANIFEST}`")
    rest = rest.replace("`laion-dask verify . --uid UID`", "`laion-dask verify DIR --uid UID` with the release itself")
    return f"---\n{written.getvalue()}---\n{before}{section}\n\n{motivation}{rest}"
