"""Evaluate the small captioner on held-out pictures, and the small translator on held-out texts.

A text counts as right if it names the right thing in the right color and no other; what it says of size and setting is
measured beside that.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from laion_dask.demo.crawl.captions import LANGUAGES
from laion_dask.demo.crawl.scenes import Scene, random_scene
from laion_dask.demo.training.captioner import FOLDER as CAPTIONER
from laion_dask.demo.training.captioner import PROMPT
from laion_dask.demo.training.evaluate import HELD_OUT_SEED, as_downloaded
from laion_dask.demo.training.translations import BARE, ENGLISH, KINDS, TextPair, agrees, draw_pair, named
from laion_dask.demo.training.translator import FOLDER as TRANSLATOR

if TYPE_CHECKING:
    from collections.abc import Sequence

    from PIL import Image

CORE: Final = ("thing", "color")
EVERY: Final = (*CORE, "size", "setting")
_BATCH: Final = 64


class SmallTranslator(NamedTuple):
    """A loaded translator and its tokenizer."""

    translator: Any
    tokenizer: Any


class SmallCaptioner(NamedTuple):
    """A loaded captioner, and what prepares pictures and texts for it."""

    model: Any
    images: Any
    words: Any


@dataclass(frozen=True, slots=True)
class Rightness:
    """Shares of texts: thing and color right; size and setting too, where they are said; as written, word by word."""

    core: float
    every: float
    exact: float


def load_translator(folder: Path = TRANSLATOR) -> SmallTranslator:
    """Load the translator in ``folder``, for one thread of the CPU."""
    import ctranslate2  # noqa: PLC0415 - seconds
    from transformers import M2M100Tokenizer  # noqa: PLC0415 - seconds

    translator = ctranslate2.Translator(str(folder), compute_type="int8", inter_threads=1, intra_threads=1)
    return SmallTranslator(translator, M2M100Tokenizer.from_pretrained(folder))


def translate(loaded: SmallTranslator, texts: Sequence[str], language: str | None) -> list[str]:
    """Return the English texts, by the likeliest token each time; ``language``: None where the model is told none."""
    pieces = loaded.tokenizer.sp_model
    told = [f"__{language}__"] if language else []
    sources = [[*told, *pieces.encode(text, out_type=str), "</s>"] for text in texts]
    prefix = [[f"__{ENGLISH}__"]] * len(sources)
    found = loaded.translator.translate_batch(sources, target_prefix=prefix, beam_size=1, max_batch_size=_BATCH)
    return [pieces.decode(each.hypotheses[0][1:]) for each in found]


def held_out_pairs(kind: str, count: int) -> list[TextPair]:
    """Return pairs that no training sees."""
    rng = np.random.default_rng([*HELD_OUT_SEED, KINDS.index(kind)])
    return [draw_pair(kind, rng, wanted_held_out=True) for _ in range(count)]


def evaluate_translator(loaded: SmallTranslator, count: int = 1000) -> dict[tuple[str, str], Rightness]:
    """Return how right translations are, by the kind of source and what the model is told: its language, or none."""
    found = {}
    for kind in KINDS:
        pairs = held_out_pairs(kind, count)
        for told in (kind, "") if kind in LANGUAGES else (ENGLISH, ""):
            texts = translate(loaded, [pair.source for pair in pairs], told or None)
            found[kind, told] = Rightness(
                core=float(np.mean([agrees(text, pair, CORE) for text, pair in zip(texts, pairs, strict=True)])),
                every=float(np.mean([agrees(text, pair, EVERY) for text, pair in zip(texts, pairs, strict=True)])),
                exact=float(np.mean([text == pair.english for text, pair in zip(texts, pairs, strict=True)])),
            )
    return found


def load_captioner(folder: Path = CAPTIONER) -> SmallCaptioner:
    """Load the captioner in ``folder`` for the CPU, in single precision."""
    import torch  # noqa: PLC0415 - seconds
    from transformers import BertTokenizer, BlipForConditionalGeneration, BlipImageProcessor  # noqa: PLC0415 - as above

    model = BlipForConditionalGeneration.from_pretrained(folder, dtype=torch.float32).train(mode=False)
    return SmallCaptioner(model, BlipImageProcessor.from_pretrained(folder), BertTokenizer.from_pretrained(folder))


def captions(
    loaded: SmallCaptioner, pictures: Sequence[Image.Image], *, top_p: float | None = None, seed: int = 0
) -> list[str]:
    """Return a caption of each picture, without its prompt: the likeliest one, or one sampled from ``top_p``."""
    import torch  # noqa: PLC0415 - seconds

    torch.manual_seed(seed)
    sampling = {"do_sample": False} if top_p is None else {"do_sample": True, "top_p": top_p, "top_k": 0}
    prompt = loaded.words(PROMPT, return_tensors="pt")["input_ids"]
    found: list[str] = []
    for first in range(0, len(pictures), _BATCH):
        batch = loaded.images(list(pictures[first : first + _BATCH]), return_tensors="pt")["pixel_values"]
        tokens = loaded.model.generate(batch, prompt.repeat(len(batch), 1), max_new_tokens=20, **sampling)
        found += loaded.words.batch_decode(tokens, skip_special_tokens=True)
    return [text.removeprefix(PROMPT) for text in found]


def held_out_pictures(count: int) -> tuple[list[Scene], list[Image.Image]]:
    """Return scenes that no training sees, without marks as kept pairs are, and their pictures."""
    rng = np.random.default_rng([*HELD_OUT_SEED, 3])
    scenes = [random_scene(rng) for _ in range(count)]
    return scenes, [as_downloaded(scene, rng, min_side_px=96) for scene in scenes]


def evaluate_captioner(loaded: SmallCaptioner, count: int = 1000) -> dict[str, Rightness]:
    """Return how right captions are, the likeliest ones and those that are sampled; ``exact``: with the prompt."""
    scenes, pictures = held_out_pictures(count)
    found = {}
    for name, top_p in (("likeliest", None), ("top_p 0.9", 0.9)):
        texts = captions(loaded, pictures, top_p=top_p)
        right = [named_right(text, scene) for text, scene in zip(texts, scenes, strict=True)]
        found[name] = Rightness(
            core=float(np.mean([core for core, _ in right])),
            every=float(np.mean([every for _, every in right])),
            exact=float("nan"),
        )
    return found


def named_right(text: str, scene: Scene) -> tuple[bool, bool]:
    """Say whether a caption names thing and color right, and whether also size and setting where it says them."""
    found = named(text)
    core = all(found[field] == {getattr(scene, field)} for field in CORE)
    return core, core and all(found[field] <= {getattr(scene, field)} for field in EVERY)


def report_translator(found: dict[tuple[str, str], Rightness]) -> str:
    """Return the evaluation as lines to print."""
    lines = ["translations of held-out texts: thing and color right, all right, equal to the expected text"]
    for (kind, told), each in found.items():
        what = f"  {kind:7} told {told or 'no language':12}"
        core = "" if kind == BARE else f"{each.core:.3f}   {each.every:.3f}"
        lines.append(f"{what} {core:13}   {each.exact:.3f}")
    return "\n".join(lines)


def report_captioner(found: dict[str, Rightness]) -> str:
    """Return the evaluation as lines to print."""
    lines = ["captions of held-out pictures: thing and color right, all right"]
    lines += [f"  {name:10} {each.core:.3f}   {each.every:.3f}" for name, each in found.items()]
    return "\n".join(lines)
