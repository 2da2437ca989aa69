"""A number in, shards of JPEGs of 20 to 300 KB out, as the stage download leaves them; the same seed, the same bytes.

Pictures are drawn: large soft shapes, edges, and grain, at the sizes and qualities of photos on the web. A JPEG of a
photo and one of these take the same time to decode at the same bytes and pixels.
"""

from __future__ import annotations

import io
import json
import shutil
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa
from PIL import Image, ImageDraw

KB: Final = 1_000
_LOW_KB, _HIGH_KB = 20, 300
_WORDS: Final = (
    "a",
    "photo",
    "of",
    "small",
    "red",
    "old",
    "house",
    "by",
    "sea",
    "two",
    "dogs",
    "green",
    "trees",
    "night",
)
_SIDES: Final = (400, 1280)
# Different pictures of a corpus; every shard has them again, with other captions. Drawing takes longer than decoding.
_PICTURES: Final = 250


@dataclass(frozen=True)
class Corpus:
    """Shards on disk."""

    folder: Path
    images: int
    shard_rows: int
    bytes_: int

    @property
    def tables(self) -> list[Path]:
        """Images tables, one for each shard."""
        return sorted(self.folder.glob("*.parquet"))

    @property
    def tars(self) -> list[Path]:
        """Tars, one for each shard."""
        return sorted(self.folder.glob("*.tar"))


def cached(
    folder: Path, *, images: int, shard_rows: int, seed: int = 5, processes: int = 2, side_px: int | None = None
) -> Corpus:
    """Return the corpus, made where it is new; with `side_px` as the download leaves pictures: longer side so long."""
    wanted = {"images": images, "shard_rows": shard_rows, "seed": seed, "side_px": side_px}
    mark = folder / "corpus.json"
    if not mark.is_file() or json.loads(mark.read_text()) != wanted:
        print(f"making {images:,} JPEGs in {folder.name}", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with ProcessPoolExecutor(processes) as pool:
            pictures = list(
                pool.map(_picture, [(seed, number, side_px) for number in range(min(images, _PICTURES))], chunksize=8)
            )
        for first in range(0, images, shard_rows):
            _shard(folder, first, min(shard_rows, images - first), shard_rows, seed, pictures)
        mark.write_text(json.dumps(wanted))
    size = sum(tar.stat().st_size for tar in folder.glob("*.tar"))
    return Corpus(folder, images, shard_rows, size)


def picture(rng: np.random.Generator) -> bytes:
    """Draw one JPEG of 20 to 300 KB: its size in bytes is drawn first, evenly on a logarithmic scale."""
    target = float(np.exp(rng.uniform(np.log(_LOW_KB * 1.15), np.log(_HIGH_KB * 0.9)))) * KB
    # Larger files are larger pictures: 1.4 to 2.2 bits a pixel, as photos have at the qualities of the web.
    pixels = target * 8 / rng.uniform(1.4, 2.2)
    ratio = float(rng.uniform(1, 1.6))
    width = int(np.clip((pixels * ratio) ** 0.5, *_SIDES))
    height = max(120, int(width / ratio))
    width, height = (width, height) if rng.random() < 0.6 else (height, width)
    array = _drawn(rng, width, height)
    grain = rng.normal(0, 1, array.shape[:2])[..., None] * np.linspace(0.2, 1.8, width)[None, :, None]
    body, strength = b"", 6.0
    for _ in range(12):
        buffer = io.BytesIO()
        noisy = np.clip(array + grain * strength, 0, 255).astype(np.uint8)
        Image.fromarray(noisy).save(buffer, "JPEG", quality=85)
        body = buffer.getvalue()
        if abs(len(body) / target - 1) < 0.15:
            break
        strength = float(np.clip(strength * (target / len(body)) ** 1.2, 0.2, 60))
    return body


def _drawn(rng: np.random.Generator, width: int, height: int) -> np.ndarray:
    coarse = Image.fromarray(rng.integers(0, 256, (6, 8, 3), dtype=np.uint8))
    image = coarse.resize((width, height), Image.Resampling.BICUBIC)
    draw = ImageDraw.Draw(image)
    for _ in range(12):
        x, y = rng.integers(0, width), rng.integers(0, height)
        box = (x, y, x + rng.integers(10, width), y + rng.integers(10, height))
        color = tuple(int(value) for value in rng.integers(0, 256, 3))
        (draw.ellipse if rng.random() < 0.5 else draw.rectangle)(
            tuple(int(side) for side in box), outline=color, width=3
        )
    return np.asarray(image, np.float32)


def _picture(job: tuple[int, int, int | None]) -> bytes:
    seed, number, side_px = job
    body = picture(np.random.default_rng((seed, number)))
    if side_px is None:
        return body
    with Image.open(io.BytesIO(body)) as image:
        scale = side_px / max(image.size)
        small = image.resize((round(image.width * scale), round(image.height * scale)), Image.Resampling.LANCZOS)
    out = io.BytesIO()
    small.save(out, "JPEG", quality=95)
    return out.getvalue()


def _shard(folder: Path, first: int, count: int, shard_rows: int, seed: int, pictures: Sequence[bytes]) -> None:
    from laion_dask import schema  # noqa: PLC0415 - the rival's environment has no such module
    from laion_dask.storage.shards import write_shard  # noqa: PLC0415

    rng = np.random.default_rng([seed, first])
    name = f"{first // shard_rows:05d}"
    values = {pa.string(): "", pa.bool_(): False, pa.int32(): 0, pa.int64(): 0}
    blank = {field.name: values.get(field.type) for field in schema.IMAGES.schema}

    def rows() -> Iterator[tuple[dict[str, Any], bytes]]:
        for number in range(first, first + count):
            body = pictures[number % len(pictures)]
            caption = " ".join(rng.choice(_WORDS, int(rng.integers(4, 16))))
            known = {"key": f"{name}{number - first:04d}", "uid": f"{number:032x}", "caption": caption, "split": "en"}
            yield {**blank, **known, "status": "success", "reason": "keep", "bytes": len(body)}, body

    write_shard(folder, name, rows())
