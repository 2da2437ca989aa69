"""A seed in, a held-out set out, and back again: classification and retrieval in clip_benchmark's webdataset layout.

    classification/   classnames.txt, zeroshot_classification_templates.txt, test/nshards.txt, test/0.tar: key.jpg,
                      key.cls
    retrieval/        dataset_type.txt, test/nshards.txt, test/0.tar: key.jpg, key.txt with a caption a line

Any folder of this layout is read (clip_benchmark's `build_wds_dataset`), one of the two parts alone as well. The demo's
is drawn here, with a seed that neither its crawl nor its CLIP was drawn with.
"""

from __future__ import annotations

import hashlib
import io
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

from laion_dask.demo.crawl import captions, scenes
from laion_dask.storage.shards import read_members

CLASSIFICATION: Final = "classification"
RETRIEVAL: Final = "retrieval"
# Not the seed of the demo crawl, of its CLIP's training or evaluation, or of the files of recipes.
SEED: Final = 20_261_126
PICTURES: Final = 448
"""Of classification: four of each color of each thing; as many again of retrieval."""
TEMPLATES: Final = ("A picture of a {c} in the snow", "This is a {c} on a meadow", "There is a {c} by the sea")
_SIZES_PX: Final = (96, 257)
_PICTURES: Final = frozenset({"jpg", "jpeg", "png", "webp"})


class HeldOutError(Exception):
    """A folder is no held-out set; the message names what is missing, and the remedy."""


@dataclass(frozen=True, slots=True)
class HeldOutPart:
    """One of the two sets: pictures as they lie in the tars, in their order."""

    pictures: Sequence[bytes]
    targets: Sequence[int]
    """Of classification: the place of each picture's class in `classes`."""
    captions: Sequence[Sequence[str]]
    """Of retrieval: the captions of each picture, one or more."""
    classes: Sequence[str]
    templates: Sequence[str]
    """Sentences with {c} in the place of the class."""


@dataclass(frozen=True, slots=True)
class HeldOut:
    """A whole set; a part that its folder lacks is None."""

    classification: HeldOutPart | None
    retrieval: HeldOutPart | None
    sha256: str
    """Over all pictures and what belongs to them: the same digest, the same questions."""


def draw(folder: Path, seed: int = SEED, pictures: int = PICTURES) -> Path:
    """Draw the demo's held-out set into `folder`; the same arguments give the same bytes.

    A class is a thing in a color, as captions name them. Retrieval asks for scenes that all differ in what a caption
    can say of them.
    """
    rng = np.random.default_rng([seed, 9, 9])
    names = [(thing, color) for thing in scenes.THINGS for color in scenes.COLORS]
    classes = folder / CLASSIFICATION
    _text(classes / "classnames.txt", [f"{color} {thing}" for thing, color in names])
    _text(classes / "zeroshot_classification_templates.txt", TEMPLATES)
    rows = []
    for number in range(pictures):
        target = number % len(names)
        thing, color = names[target]
        scene = scenes.random_scene(rng, thing=thing, color=color)
        rows.append((_jpeg(scene, rng), "cls", str(target)))
    _tar(classes / "test", rows)
    every = [(t, c, z, s) for t, c in names for z in scenes.SIZES for s in scenes.SETTINGS]
    chosen = [every[place] for place in rng.permutation(len(every))[:pictures]]
    rows = []
    for thing, color, size, setting in chosen:
        scene = scenes.random_scene(rng, thing=thing, color=color, size=size, setting=setting)
        rows.append((_jpeg(scene, rng), "txt", captions.caption(scene, "en", rng)))
    _text(folder / RETRIEVAL / "dataset_type.txt", [RETRIEVAL])
    _tar(folder / RETRIEVAL / "test", rows)
    return folder


def _jpeg(scene: scenes.Scene, rng: np.random.Generator) -> bytes:
    width, height = (int(side) for side in rng.integers(*_SIZES_PX, 2))
    buffer = io.BytesIO()
    scenes.draw(scene, width, height).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


def _text(path: Path, lines: Sequence[str]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    # No newline at the end: clip_benchmark's reader of classes would take it for one more.
    path.write_text("\n".join(lines), encoding="utf-8")


def _tar(folder: Path, rows: Sequence[tuple[bytes, str, str]]) -> None:
    _text(folder / "nshards.txt", ["1"])
    with tarfile.open(folder / "0.tar", "w", format=tarfile.USTAR_FORMAT) as tar:
        for number, (picture, extension, text) in enumerate(rows):
            for kind, body in (("jpg", picture), (extension, text.encode())):
                member = tarfile.TarInfo(f"s{number:07d}.{kind}")
                member.size = len(body)
                tar.addfile(member, io.BytesIO(body))


def read(folder: Path, split: str = "test") -> HeldOut:
    """Read a held-out set: `classification` and `retrieval` in `folder`, or a folder that is one of the two itself.

    Raises `HeldOutError` where it is neither.
    """
    found = {name: folder / name for name in (CLASSIFICATION, RETRIEVAL) if (folder / name / split).is_dir()}
    if not found and (folder / split).is_dir():
        kind = folder / "dataset_type.txt"
        found = {kind.read_text(encoding="utf-8").strip() if kind.is_file() else CLASSIFICATION: folder}
    if not found or set(found) - {CLASSIFICATION, RETRIEVAL}:
        raise HeldOutError(
            f"{folder} is no held-out set of classification or retrieval in clip_benchmark's layout (no {split}/ with "
            "nshards.txt). Remedy: `clip_benchmark_export_wds` writes one; left out, the demo's is drawn"
        )
    digest = hashlib.sha256()
    parts = {name: _part(path, name, split, digest) for name, path in sorted(found.items())}
    return HeldOut(parts.get(CLASSIFICATION), parts.get(RETRIEVAL), digest.hexdigest())


def _part(folder: Path, kind: str, split: str, digest: hashlib._Hash) -> HeldOutPart:
    pictures: list[bytes] = []
    targets: list[int] = []
    sentences: list[list[str]] = []
    for files in _members(folder / split):
        body = next((body for name, body in files.items() if name in _PICTURES), None)
        label = files.get("cls" if kind == CLASSIFICATION else "txt")
        if body is None or label is None:
            raise HeldOutError(
                f"{folder}: a member has no picture or no label. Remedy: key.jpg beside key.cls or key.txt"
            )
        digest.update(hashlib.sha256(body).digest() + label + b"\0")
        pictures.append(body)
        if kind == CLASSIFICATION:
            targets.append(int(label))
        else:
            sentences.append(label.decode().splitlines())
    classes, templates = (
        (_lines(folder / name) if kind == CLASSIFICATION else [])
        for name in ("classnames.txt", "zeroshot_classification_templates.txt")
    )
    if kind == CLASSIFICATION and not all(0 <= target < len(classes) for target in targets):
        raise HeldOutError(
            f"{folder}: labels go beyond the {len(classes)} lines of classnames.txt. Remedy: a line a class"
        )
    digest.update("\n".join([*classes, *templates]).encode())
    return HeldOutPart(pictures, targets, sentences, classes, templates)


def _members(folder: Path) -> Iterator[dict[str, bytes]]:
    count = folder / "nshards.txt"
    if not count.is_file():
        raise HeldOutError(f"{folder} has no nshards.txt. Remedy: a file with the number of its tars")
    for number in range(int(count.read_text(encoding="utf-8"))):
        for _, members in read_members(folder / f"{number}.tar"):
            yield {name.rpartition(".")[2]: body for name, body in members}


def _lines(path: Path) -> list[str]:
    if not path.is_file():
        raise HeldOutError(f"{path} is missing. Remedy: one class, or one sentence with {{c}}, a line")
    return [line for line in path.read_text(encoding="utf-8").splitlines() if line.strip()]


def image(body: bytes) -> Image.Image:
    """Return a picture of the set, or of a shard, as RGB."""
    return Image.open(io.BytesIO(body)).convert("RGB")
