"""Check that this machine's libraries compute the stored embeddings of the demo's model; raise where they do not.

    python -m laion_dask.clip.self_check    # rewrites the file, after an intended change of the model

Every process checks before its first image, so that a changed library, driver or processor is noticed.
"""

from __future__ import annotations

import functools
import io
from pathlib import Path
from typing import Any, Final

import numpy as np

from laion_dask import params
from laion_dask.clip import models, preprocess
from laion_dask.clip.clip import Clip, ModelError
from laion_dask.storage import packaged

FILE: Final = packaged.file("demo", "golden.npz")
DEMO: Final = params.Model(name="demo", model="demo")
TEXTS: Final = ("a large red star", "ein kleines blaues Quadrat", "IMG_2041.JPG", "")
# Unit vectors of 128 features: another processor or library version moves a feature by about 1e-6, a wrong resize or
# normalisation by 1e-2.
TOLERANCE: Final = 1e-3
_SIDES: Final = ((96, 96), (160, 90), (75, 200), (300, 260))


@functools.cache
def check() -> None:
    """Compare with the stored vectors, once for each process; raise `ModelError` with what differs and the remedy."""
    compare(models.load(DEMO))


def compare(model: Clip, file: Path = FILE) -> None:
    """Compare a model's embeddings of the stored images and texts with the stored ones; raises `ModelError`."""
    with np.load(file, allow_pickle=False) as stored:
        bodies = [stored[f"jpeg_{number}"].tobytes() for number in range(len(_SIDES))]
        expected = {kind: stored[kind] for kind in ("image", "text")}
        texts = [str(text) for text in stored["texts"]]
    image, text = model.embed([preprocess.decode(body) for body in bodies], texts)
    for kind, computed in (("image", image), ("text", text)):
        if computed.shape != expected[kind].shape:
            wrong = f"have shape {computed.shape}, not {expected[kind].shape}"
        else:
            # `Clip.rows` has already checked for finite values and unit length.
            off = float(np.abs(computed - expected[kind]).max())
            wrong = f"are off by {off:.2g}, more than {TOLERANCE:g}" if off > TOLERANCE else ""
        if wrong:
            message = (
                f"the {kind} embeddings of the demo's model {wrong}: scores of this machine would not compare with "
                "those of others. Remedy: install requirements.lock; if the model was changed on purpose, run "
                "`python -m laion_dask.clip.self_check`"
            )
            raise ModelError(message)


def write(file: Path = FILE) -> None:
    """Store the demo model's embeddings of random images and of `TEXTS`, computed on a CPU."""
    from PIL import Image  # noqa: PLC0415 - only here

    rng = np.random.default_rng(20_261_126)
    bodies = []
    for width, height in _SIDES:
        coarse = Image.fromarray(rng.integers(0, 256, (6, 6, 3), dtype=np.uint8))
        buffer = io.BytesIO()
        coarse.resize((width, height), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        bodies.append(buffer.getvalue())
    image, text = models.load(DEMO).embed([preprocess.decode(body) for body in bodies], TEXTS)
    arrays: dict[str, Any] = {"image": image, "text": text, "texts": np.array(TEXTS)}
    arrays |= {f"jpeg_{number}": np.frombuffer(body, np.uint8) for number, body in enumerate(bodies)}
    np.savez(file, **arrays)


if __name__ == "__main__":
    write()
