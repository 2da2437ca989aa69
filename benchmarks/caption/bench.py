"""The speed of captioning beside transformers' `generate` as others call it; `make bench-caption`.

    python -m benchmarks.caption.bench [--images 2] [--samples 40] [--quick]

The model has BLIP-large's shape and random weights, whose samples never end before their limit: each has 20, 30, 30, 45
or 45 tokens, as the limits of LAION-COCO are. All ways have the same weights and JPEGs. They run on a GPU where there
is one, else on one thread, where seconds are those of the processor. The last line is JSON; the exit status is 0 where
a bar is missed, and another where something failed.
"""

from __future__ import annotations

import argparse
import io
import logging
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from PIL import Image

from benchmarks.bars import Bar, report
from benchmarks.caption import rivals
from benchmarks.environments import BENCH

_LENGTHS: Final = (20, 30, 30, 45, 45)
_LARGE: Final = {
    "text": {"vocab_size": 30_524, "hidden_size": 768, "encoder_hidden_size": 1_024, "intermediate_size": 3_072}
    | {"num_hidden_layers": 12, "num_attention_heads": 12, "max_position_embeddings": 512},
    "vision": {"hidden_size": 1_024, "intermediate_size": 4_096, "num_hidden_layers": 24, "num_attention_heads": 16}
    | {"image_size": 384, "patch_size": 16},
}
_SMALL: Final = {
    "text": {"vocab_size": 2_000, "hidden_size": 64, "encoder_hidden_size": 64, "intermediate_size": 128}
    | {"num_hidden_layers": 2, "num_attention_heads": 2, "max_position_embeddings": 64},
    "vision": {"hidden_size": 64, "intermediate_size": 128, "num_hidden_layers": 2, "num_attention_heads": 2}
    | {"image_size": 96, "patch_size": 16},
}
_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]", "a", "picture", "of")
_PROMPT: Final = "a picture of "
_ROUNDS: Final = 2


def random_captioner(folder: Path, shape: dict[str, dict[str, int]]) -> Path:
    """Return a folder with a BLIP of random weights, made where it is new; the same seed, the same numbers."""
    if (folder / "preprocessor_config.json").is_file():
        return folder
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    folder.mkdir(parents=True, exist_ok=True)
    words = [*_SPECIAL, *(f"word{number}" for number in range(shape["text"]["vocab_size"] - len(_SPECIAL)))]
    (folder / "vocab.txt").write_text("\n".join(words) + "\n")
    begin = {"bos_token": _SPECIAL[5]}
    transformers.BertTokenizerFast(str(folder / "vocab.txt"), **begin).save_pretrained(folder)
    torch.manual_seed(5)
    ends = {"bos_token_id": 5, "sep_token_id": 3, "eos_token_id": 3, "pad_token_id": 0}
    config = transformers.BlipConfig(text_config=shape["text"] | ends, vision_config=shape["vision"])
    transformers.BlipForConditionalGeneration(config).save_pretrained(folder)
    side = shape["vision"]["image_size"]
    transformers.BlipImageProcessor(size={"height": side, "width": side}).save_pretrained(folder)
    return folder


def jpegs(count: int) -> list[tuple[str, bytes]]:
    """Return JPEGs of 512 x 384 pixels, by key."""
    made = []
    for number in range(count):
        coarse = np.random.default_rng(number).integers(0, 256, (24, 32, 3), dtype=np.uint8)
        buffer = io.BytesIO()
        Image.fromarray(coarse).resize((512, 384), Image.Resampling.BICUBIC).save(buffer, "JPEG", quality=90)
        made.append((f"{number:09d}", buffer.getvalue()))
    return made


def settings(folder: Path, samples: int, batch: int, ranker: dict[str, Any]) -> Any:  # noqa: ANN401 - params.Caption
    """Return LAION-COCO's sampler for a captioner, without the rule that ends captions early."""
    from laion_dask import params  # noqa: PLC0415

    return params.Caption(
        model=f"local-dir:{folder}",
        kind="blip",
        pretrained=None,
        expect_sha256=None,
        precision="fp32",
        prompt=_PROMPT,
        samples=samples,
        temperature=1.0,
        top_p=rivals.TOP_P,
        top_k=rivals.TOP_K,
        min_tokens=5,
        max_tokens=_LENGTHS,
        end_above=None,
        repetition_penalty=rivals.PENALTY,
        seed=1257,
        rank=[ranker | {"keep": 1}],
        repair=None,
        keep_samples=True,
        batch=batch,
    )


class Measured:
    """Our captions of some JPEGs: the whole path of a part, and the pure passes of its networks on the same rows."""

    def __init__(self, rules: Any, pictures: Sequence[tuple[str, bytes]]) -> None:  # noqa: ANN401 - params.Caption
        from laion_dask.caption import captioners, part, rank  # noqa: PLC0415
        from laion_dask.clip import preprocess  # noqa: PLC0415
        from laion_dask.clip.decoded import Stopwatch  # noqa: PLC0415

        self._part, self._captioners, self._watch = part, captioners, Stopwatch
        self.rules, self.pictures = rules, pictures
        self.captioner, self.ranking = captioners.load(rules), rank.Ranking(rules)
        self.keys = [key for key, _ in pictures]
        images = [preprocess.decode(body) for _, body in pictures]
        self.pixels = {one.key: self._pixels(images, one) for one in self.preparations()}

    def preparations(self) -> list[Any]:
        """Return how the captioner and the ranker want their images."""
        return [self.captioner.preparation, *(model.preparation for model in self.ranking.models)]

    def _pixels(self, images: Sequence[Image.Image], preparation: Any) -> Any:  # noqa: ANN401 - clip's and torch's
        from laion_dask.clip import devices, preprocess  # noqa: PLC0415

        rows = devices.pixel_buffer(len(images), preparation.side, self.captioner.device)
        for image, row in zip(images, rows.numpy(), strict=True):
            preprocess.prepare(image, [preparation], [row])
        return devices.upload(rows, self.captioner.device)

    def whole(self) -> tuple[float, Any, dict[str, float]]:
        """Return the seconds of the whole path, what it found out, and its seconds by activity."""
        watch = self._watch(*self._part.ACTIVITIES)
        began = rivals.clock()
        found = self._part.caption_rows(self.keys, self.keys, self.pictures, self.rules, watch)
        seconds = rivals.clock() - began
        return seconds, found, watch.seconds

    def pure(self, texts: Sequence[Sequence[str]]) -> tuple[float, float]:
        """Return the seconds of bare generation, and those of the ranker's bare passes over images and texts."""
        began = rivals.clock()
        watch = self._watch(*self._captioners.ACTIVITIES)
        self.captioner.generate(self.pixels[self.captioner.preparation.key], self.keys, watch)
        between = rivals.clock()
        model = self.ranking.models[0]
        model.rows(model.see(self.pixels[model.preparation.key]))
        flat = sorted((text for one in texts for text in one), key=len)
        for at in range(0, len(flat), model.text_slices.rows):
            model.rows(model.read(model.tokens(flat[at : at + model.text_slices.rows])))
        return between - began, rivals.clock() - between


def main() -> None:
    """Measure, print, and end with one line of JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.caption.bench", description=__doc__.splitlines()[0])
    parser.add_argument("--images", type=int, default=2, help="JPEGs (default 2)")
    parser.add_argument("--samples", type=int, default=40, help="captions of each (default 40)")
    parser.add_argument("--quick", action="store_true", help="a small model: to see that all of it runs")
    wanted = parser.parse_args()
    logging.disable(logging.WARNING)
    folder = BENCH / "caption"
    shape = _SMALL if wanted.quick else _LARGE
    images, samples = (2, 5) if wanted.quick else (wanted.images, wanted.samples)
    captioner = random_captioner(folder / ("small" if wanted.quick else "large"), shape)
    ranker: dict[str, Any] = {"name": "demo", "model": "demo"}
    if not wanted.quick:
        from benchmarks.score.bench import random_weights  # noqa: PLC0415

        ranker = {"name": "b32", "model": "ViT-B-32", "pretrained": str(random_weights(folder / "vit_b_32.pt"))}
    ours = Measured(settings(captioner, samples, images, ranker), jpegs(images))
    try:
        bars = measure(ours, captioner, images, samples, few=1 if wanted.quick else 5)
    finally:
        if wanted.quick:
            shutil.rmtree(folder / "small", ignore_errors=True)
    report("caption", bars, quick=wanted.quick, images=images, samples=samples, device=ours.captioner.device)


def measure(ours: Measured, folder: Path, images: int, samples: int, few: int) -> list[Bar]:
    """Measure all ways, print them, and return the bars; `few` samples stand for all where each is a call."""
    import torch  # noqa: PLC0415
    import transformers  # noqa: PLC0415

    rounds = []
    for _ in range(_ROUNDS):
        whole, found, by_activity = ours.whole()
        rounds.append((whole, *ours.pure(found.texts)))
    # The first round also fills caches.
    seconds, generate, rank = rounds[-1]
    network: Any = transformers.BlipForConditionalGeneration.from_pretrained(folder).eval().to(ours.captioner.device)
    from laion_dask.clip import preprocess  # noqa: PLC0415

    preparation = ours.captioner.preparation
    pixels = preprocess.normalised(ours.pixels[preparation.key], preparation)
    words = ours.captioner.tokenizer(_PROMPT, return_tensors="pt").input_ids.to(pixels.device)
    lengths = [_LENGTHS[place % len(_LENGTHS)] for place in range(samples)]
    batch = rivals.together(network, pixels, words, lengths)
    single = rivals.together(network, pixels[:1], words, lengths)
    worker = rivals.without_cache(network, pixels[:1], words, lengths, steps=3)
    mapper = rivals.sample_by_sample(network, pixels[:1], words, lengths[:few], samples)
    rate = images / seconds
    device = f"{torch.get_num_threads()} thread" if ours.captioner.device == "cpu" else ours.captioner.device
    print(f"\nBLIP with random weights, {images} images of {samples} samples, float32, {device}; seconds an image")
    spent = sum(by_activity.values())
    shares = ", ".join(f"{what} {one / spent:.0%}" for what, one in by_activity.items() if one > spent / 1000)
    lines = [
        (f"ours, the whole path ({shares})", 1 / rate),
        ("ours, generation alone", generate / images),
        ("ours, the ranker's passes alone", rank / images),
        (f"transformers' generate, {images} images in a call", batch / images),
        ("transformers' generate, an image in a call", single),
        ("LAION's worker: no cache (3 of its steps measured)", worker),
        (f"Data-Juicer's mapper: a call a sample ({few} of {samples} measured)", mapper),
    ]
    for name, value in lines:
        print(f"{value:9.2f}  {name}")
    return [
        Bar("times Data-Juicer's way, a call of generate for each sample", rate * mapper, 3.0),
        Bar("times LAION's worker, an image at a time without a cache", rate * worker, 3.0),
        Bar("times generate with num_return_sequences, an image at a time", rate * single, 1.0),
        Bar("share of transformers' generate at the same batch", rate * batch / images, 0.9),
        Bar("share of the pure passes of captioner and ranker", (generate + rank) / seconds, 0.9),
    ]


if __name__ == "__main__":
    main()
