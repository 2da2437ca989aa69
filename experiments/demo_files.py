"""Nothing in, the files that recipes ask users for out, made of the demo's drawn pictures and words.

    python -m experiments.demo_files [FOLDER]

centroids.npy and targets.npy: embeddings of the demo's CLIP, float16 (rows, 128); entries.txt, words.txt and
keywords.txt: words of its captions; entries: such words of each of its languages; scores.parquet: of no pair of the
demo. `recipes/demo.yaml` puts them in the place of a user's files.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Final

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from laion_dask.demo.crawl import captions, scenes
from laion_dask.demo.training import evaluate

FOLDER: Final = Path(__file__).parent / "demo"
# Not the seed of the demo crawl, nor of the training or evaluation of its model.
SEED: Final = 20_261_101
PICTURES: Final = 4
"""Of each thing: one for its centroid, the others for targets."""


def main(folder: Path = FOLDER) -> None:
    """Write the files."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(SEED)
    clip = evaluate.load()
    drawn = [
        [scenes.draw(scenes.random_scene(rng, thing=thing, unsafe=False), 256, 256) for _ in range(PICTURES)]
        for thing in scenes.THINGS
    ]
    embedded = evaluate.embed_images(clip, [picture for pictures in drawn for picture in pictures])
    rows = embedded.reshape(len(scenes.THINGS), PICTURES, -1)
    np.save(folder / "centroids.npy", rows[:, 0].astype(np.float16), allow_pickle=False)
    half = rows[: len(scenes.THINGS) // 2, 1:]
    np.save(folder / "targets.npy", half.reshape(-1, half.shape[-1]).astype(np.float16), allow_pickle=False)
    english = captions.WORDS["en"]
    things = sorted({word for word, _ in english.things.values()})
    colors = sorted({form for forms in english.colors.values() for form in forms})
    _write(folder / "words.txt", things[: len(things) // 2])
    entries = [*things, *colors, *(f"{color} {thing}" for color in colors for thing in things)]
    _write(folder / "entries.txt", entries)
    (folder / "entries").mkdir(exist_ok=True)
    for language in captions.WORDS:
        _write(folder / "entries" / f"{language}.txt", entries if language == "en" else _words(language))
    _write(folder / "keywords.txt", things[:2])
    scores = {"uid": [f"{number:032x}" for number in range(3)], "score": [0.5, 0.25, -0.5]}
    pq.write_table(pa.table(scores), folder / "scores.parquet")


def _words(language: str) -> list[str]:
    """Return nouns and colours of a language in all their forms; a Chinese noun without its measure word."""
    words = captions.WORDS[language]
    things = {word.rpartition("|")[2] for word, _ in words.things.values()}
    return [*sorted(things), *sorted({form for forms in words.colors.values() for form in forms})]


def _write(path: Path, lines: list[str]) -> None:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main(*map(Path, sys.argv[1:]))
