"""A seed in, a pool of JPEGs of 20 to 300 KB out: what the loopback server of `make bench-download` hands out.

Sizes are log-uniform, as sizes of images on pages roughly are; a picture has about 1.6 bits a pixel, as photographs of
common quality have. What is drawn is noise whose power falls with frequency as it does in photographs, so that decoding
costs what decoding photographs costs: no flat areas that a decoder skips, no grain that it would stumble over.
"""

from __future__ import annotations

import io
import json
import math
import shutil
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path
from typing import Final

import numpy as np
from PIL import Image

KB: Final = 1_000
SMALLEST_KB: Final = 20
LARGEST_KB: Final = 300
_BITS_A_PIXEL: Final = 1.6
_SHAPES: Final = (4 / 3, 3 / 2, 1.0, 16 / 9, 3 / 4, 2 / 3)
_QUALITIES: Final = (30, 95)
_INDEX: Final = "pictures.json"


def cached(folder: Path, *, number: int, seed: int, processes: int) -> list[Path]:
    """Return the pool's files, `00000.jpg` and so on; draw them where the folder holds another pool."""
    wanted = {"number": number, "seed": seed, "rule": 2}
    index = folder / _INDEX
    if not index.is_file() or json.loads(index.read_text()) != wanted:
        print(f"drawing {number} pictures", flush=True)
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        with ProcessPoolExecutor(processes) as pool:
            for place, jpg in enumerate(pool.map(draw, range(number), [seed] * number, chunksize=8)):
                (folder / f"{place:05d}.jpg").write_bytes(jpg)
        index.write_text(json.dumps(wanted))
    return sorted(folder.glob("*.jpg"))


def draw(place: int, seed: int) -> bytes:
    """Draw one picture; its size in bytes is drawn first, and the quality chosen that comes nearest to it."""
    random = np.random.default_rng([seed, place])
    size = SMALLEST_KB * KB * (LARGEST_KB / SMALLEST_KB) ** random.random()
    shape = _SHAPES[int(random.integers(len(_SHAPES)))]
    height = round(math.sqrt(size * 8 / _BITS_A_PIXEL / shape))
    picture = _landscape(random, round(height * shape), height)
    low, high = _QUALITIES
    tried = []
    while low <= high:
        quality = (low + high) // 2
        tried.append(_encoded(picture, quality))
        low, high = (quality + 1, high) if len(tried[-1]) < size else (low, quality - 1)
    inside = [jpg for jpg in tried if SMALLEST_KB * KB <= len(jpg) <= LARGEST_KB * KB]
    return min(inside or tried, key=lambda jpg: abs(len(jpg) - size))


def _landscape(random: np.random.Generator, width: int, height: int) -> Image.Image:
    total = np.zeros((height, width, 3), np.float32)
    cells, weight = 4, 1.0
    while cells < 2 * width:
        rows = max(2, round(cells * height / width))
        gray = random.normal(size=(rows, cells, 1)) + 0.35 * random.normal(size=(rows, cells, 3))
        for channel in range(3):
            octave = Image.fromarray(gray[:, :, channel].astype(np.float32))
            total[:, :, channel] += weight * np.asarray(octave.resize((width, height), Image.Resampling.BICUBIC))
        # About half the amplitude for twice the frequency, the 1/f of natural images (Field, 1987), and some grain.
        cells, weight = cells * 2, weight * 0.58
    return Image.fromarray((127 + 50 * total).clip(0, 255).astype(np.uint8))


def _encoded(picture: Image.Image, quality: int) -> bytes:
    out = io.BytesIO()
    picture.save(out, "JPEG", quality=quality)
    return out.getvalue()
