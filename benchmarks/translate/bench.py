"""The speed of translations beside CTranslate2 alone, transformers and EasyNMT's way; `make bench-translate`.

    python -m benchmarks.translate.bench [--texts 96] [--quick]

Everything is measured in this run, on one thread, in seconds of processor time, so that other programs on the machine
disturb it little. The model has the shape of m2m100_418M and random weights (shapes.py). It takes about ten minutes.
The last line is JSON; the exit status is 0 where a bar is missed.
"""

from __future__ import annotations

import argparse
import shutil
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from benchmarks.bars import Bar, report
from benchmarks.environments import BENCH
from benchmarks.translate import shapes
from benchmarks.translate.rivals import EASYNMT_BATCH, EASYNMT_BEAMS, LANGUAGE, Measured, Transformers, ctranslate2
from laion_dask import params
from laion_dask.demo.crawl import captions, scenes
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import embeddings
from laion_dask.texts import new_texts
from laion_dask.translate import models, part

BATCH = 32
READER = params.Model(name="demo", model="demo")
_FEATURES = 128  # of the demo's CLIP
_QUICK_TEXTS = 32
_CAPTIONS = 40  # of each language, for the quality


def ours(model: shapes.Model, texts: Sequence[str], batch: int, beams: int, work: Path) -> Measured:
    """Measure a part of the stage: from the tables of a shard to the table of its translations."""
    shutil.rmtree(work, ignore_errors=True)
    args = _shard(texts, work)
    rules = model.rules(beams=beams, batch=batch)
    began = time.process_time()
    part.translate(work / "out", **args, settings=rules)
    seconds = time.process_time() - began
    reasons = pq.read_table(work / "out" / "00000.parquet")["reason"].to_pylist()
    if "untranslatable_text" in reasons or "long_text" in reasons:
        raise ValueError("the model was not asked for every text")
    return Measured(len(texts), 0, seconds)


def _shard(texts: Sequence[str], work: Path) -> dict[str, Any]:
    """Write a shard of kept pairs with these texts, and return the arguments of its part."""
    (work / "out").mkdir(parents=True)
    uids, rows = [f"{row:032x}" for row in range(len(texts))], len(texts)
    columns: dict[str, dict[str, Any]] = {
        "images": {"uid": uids, "caption": texts, "language": [LANGUAGE] * rows, "split": ["multi"] * rows},
        "scores": {
            "uid": uids,
            "slot": pa.array(range(rows), pa.int64()),
            **{name: pa.array([0.3] * rows, pa.float32()) for name in ("similarity", "punsafe")},
        },
        "verdicts": {"uid": uids, "reason": [KEEP] * rows},
    }
    for name, values in columns.items():
        pq.write_table(pa.table(values), work / f"{name}.parquet")
    unit = np.full((rows, _FEATURES), _FEATURES**-0.5, np.float16)
    embeddings.write_shard(work / embeddings.STORE, {READER.name: {"image": unit, "text": unit}}, {READER.name: {}})
    tables: dict[str, Any] = {name: work / f"{name}.parquet" for name in columns}
    return {"name": "00000", **tables, "store": work / embeddings.STORE, "words": None, "reader": READER}


def quality(count: int) -> dict[str, float]:
    """Return what int8 costs the demo's translator: texts equal to those of float32, and things and colours right."""
    rng = np.random.default_rng(3)
    drawn = [(scenes.random_scene(rng), language) for language in captions.LANGUAGES for _ in range(count)]
    texts = [captions.caption(scene, language, rng) for scene, language in drawn]
    languages = [language for _, language in drawn]
    written = {}
    for compute in ("int8", "float32"):
        rules = _demo(compute)
        written[compute] = [text or "" for text in part.english(texts, languages, rules).texts]
    words = captions.WORDS["en"]
    named = [(words.things[scene.thing][0], words.colors[scene.color][0]) for scene, _ in drawn]
    right = {
        compute: float(
            np.mean([all(word in text.lower() for word in of) for of, text in zip(named, found, strict=True)])
        )
        for compute, found in written.items()
    }
    equal = float(np.mean([one == other for one, other in zip(*written.values(), strict=True)]))
    return {"int8_right": right["int8"], "float32_right": right["float32"], "equal": equal}


def _demo(compute: str) -> params.Translate:
    settings = {
        "model": "demo",
        "family": "m2m100",
        "expect_sha256": None,
        "compute": compute,
        "splits": ("multi",),
        "source": "column",
        "no_language": "skip",
        "beams": 1,
        "max_source_tokens": 256,
        "max_tokens": None,
    }
    return params.Translate(**settings, batch=64)


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(
        prog="python -m benchmarks.translate.bench", description=(__doc__ or "").splitlines()[0]
    )
    parser.add_argument("--texts", type=int, default=96, help="texts that are translated (default 96)")
    parser.add_argument("--quick", action="store_true", help="a tiny model and 32 texts: to see that all of it runs")
    wanted = parser.parse_args()
    shape = shapes.TINY if wanted.quick else shapes.M2M100_418M
    count = _QUICK_TEXTS if wanted.quick else wanted.texts
    folder, work = BENCH / "translate", BENCH / "translate-work"
    model = shapes.cached(folder, shape)
    texts = shapes.texts(shape, count)
    few = texts[: max(EASYNMT_BATCH, count // 3)]
    mean = sum(len(text.split()) for text in texts) / count
    print(f"{count} texts of {mean:.1f} words, shape of {shape.name}, random weights, one thread", flush=True)
    # What is loaded once for each process does not count.
    ctranslate2(model, texts[:4], BATCH, 1)
    new_texts.embedded(texts[:2], READER)
    ours(model, texts[:2], BATCH, 1, work)
    found: dict[str, Measured] = {}

    def measure(name: str, measured: Measured) -> None:
        found[name] = measured
        print(f"{name:58}{measured.rate:9.2f} texts/s ({measured.texts} texts, {measured.seconds:.1f} s)", flush=True)

    try:
        measure(f"CTranslate2 alone, int8, batch {BATCH}", ctranslate2(model, texts, BATCH, 1))
        alone = f"CTranslate2 alone, int8, batch {BATCH}"
        stage = f"our part, int8, batch {BATCH}"
        measure(stage, ours(model, texts, BATCH, 1, work))
        measure(f"{alone}, again", ctranslate2(model, texts, BATCH, 1))
        beamed = f"our part, int8, batch {EASYNMT_BATCH}, {EASYNMT_BEAMS} beams"
        measure(beamed, ours(model, few, EASYNMT_BATCH, EASYNMT_BEAMS, work))
        theirs = Transformers(model)
        theirs.generate(texts[:2], BATCH, 1)
        plain = f"transformers' generate, float32, batch {BATCH}"
        measure(plain, theirs.generate(texts, BATCH, 1))
        easy = f"EasyNMT's way, float32, batch {EASYNMT_BATCH}, {EASYNMT_BEAMS} beams"
        measure(easy, theirs.easynmt(few))
    finally:
        shutil.rmtree(work, ignore_errors=True)
    rate = 2 / (1 / found[alone].rate + 1 / found[f"{alone}, again"].rate)
    bars = [
        Bar("times transformers' generate at the same batch", found[stage].rate / found[plain].rate, 3.0),
        Bar("times EasyNMT's way, its batch and beams", found[beamed].rate / found[easy].rate, 3.0),
        Bar("share of CTranslate2 alone", found[stage].rate / rate, 0.9),
    ]
    figures: dict[str, Any] = {
        "texts": count,
        "model": shape.name,
        "times_easynmt_as_by_default": found[stage].rate / found[easy].rate,
    }
    if (models.DEMO / models.WEIGHTS).is_file():
        loss = quality(4 if wanted.quick else _CAPTIONS)
        print(
            f"\nthe demo's translator: thing and colour right in {loss['int8_right']:.1%} of captions in int8, "
            f"{loss['float32_right']:.1%} in float32; {loss['equal']:.1%} of the texts are equal"
        )
        figures |= loss
    report("translate", bars, quick=wanted.quick, **figures)


if __name__ == "__main__":
    main()
