"""Train the demo's small captioner: BLIP's architecture, on drawn pictures.

It says "a picture of a small red star in the snow" of a picture of the demo. The folder is read by transformers::

    model = BlipForConditionalGeneration.from_pretrained(folder)
    images, words = BlipImageProcessor.from_pretrained(folder), BertTokenizer.from_pretrained(folder)
    prompt = words("a picture of ", return_tensors="pt", return_token_type_ids=False)
    tokens = model.generate(**images(picture, return_tensors="pt"), **prompt, max_new_tokens=20)
    text = words.decode(tokens[0], skip_special_tokens=True)
"""

from __future__ import annotations

import re
import time
from concurrent.futures import ProcessPoolExecutor
from functools import cache
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import numpy as np
import torch
from PIL import Image
from torch import nn

from laion_dask.demo.crawl.captions import WORDS
from laion_dask.demo.crawl.scenes import COLORS, SETTINGS, SIZES, THINGS, Scene, random_scene
from laion_dask.demo.training.evaluate import as_downloaded
from laion_dask.demo.training.fitting import fit, half, padded
from laion_dask.storage import packaged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

FOLDER: Final = packaged.file("demo", "captioner")
PROMPT: Final = "a picture of "
SIDE_PX: Final = 96
STEPS: Final = 6000
PICTURES: Final = 24_000
_PATCH_PX: Final = 12
_WIDTH: Final = 128
_BATCH: Final = 64
_RATE: Final = 1e-3
_CHUNK: Final = 250
# Of first weights; BLIP's 0.02 is for towers of 768 and more.
_SPREAD: Final = _WIDTH**-0.5
# Weight of the losses that ask the image tower alone what the picture shows: it learns faster so, and the layer that
# answers is left out of the folder.
_ASIDE: Final = 0.5
# What follows the prompt, and how often.
_FORMS: Final = {
    "a {size} {color} {thing} {where}": 0.55,
    "a {color} {thing} {where}": 0.15,
    "one {size} {color} {thing} that is {where}": 0.15,
    "a {size} {color} {thing}": 0.15,
}
_SPECIAL: Final = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "[DEC]")
_PAD, _END, _BEGIN = 0, 3, 5
_IGNORED: Final = -100


def caption(scene: Scene, rng: np.random.Generator) -> str:
    """Return what the captioner may say of a scene, in lower case: the prompt, then thing and color, mostly more."""
    english = WORDS["en"]
    form = str(rng.choice(list(_FORMS), p=list(_FORMS.values())))
    where = english.settings[scene.setting][int(rng.integers(2))]
    text = form.format(size=scene.size, color=scene.color, thing=english.things[scene.thing][0], where=where)
    return PROMPT + re.sub(r"^a (?=orange)", "an ", text)


def draw_pictures(seed: int, count: int) -> tuple[list[Scene], torch.Tensor]:
    """Return ``count`` scenes and their pixels ``(scenes, 3, 96, 96)`` as uint8."""
    sizes = [min(_CHUNK, count - first) for first in range(0, count, _CHUNK)]
    if len(sizes) == 1:
        drawn = [_draw_chunk(seed, 0, count)]
    else:
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            drawn = list(pool.map(_draw_chunk, [seed] * len(sizes), range(len(sizes)), sizes))
    pixels = np.concatenate([chunk for _, chunk in drawn])
    return [scene for scenes, _ in drawn for scene in scenes], torch.from_numpy(pixels).permute(0, 3, 1, 2).contiguous()


def _draw_chunk(seed: int, chunk: int, size: int) -> tuple[list[Scene], npt.NDArray[np.uint8]]:
    rng = np.random.default_rng([seed, 3, chunk])
    scenes, pixels = [], np.empty((size, SIDE_PX, SIDE_PX, 3), np.uint8)
    for place in range(size):
        scene = random_scene(rng, watermark=bool(rng.random() < 0.1), unsafe=bool(rng.random() < 0.1))
        # Squashed to a square, as BLIP's image processor does.
        pixels[place] = np.asarray(
            as_downloaded(scene, rng, min_side_px=96).resize((SIDE_PX, SIDE_PX), Image.Resampling.BICUBIC)
        )
        scenes.append(scene)
    return scenes, pixels


def train(
    folder: Path, seed: int = 1, steps: int = STEPS, pictures: int = PICTURES, say: Callable[[str], None] = print
) -> None:
    """Write a trained captioner to ``folder``; the same arguments on the same machine give the same files."""
    torch.manual_seed(seed)
    # The number of threads changes the order of sums, and so the weights.
    torch.set_num_threads(1)
    began = time.monotonic()
    scenes, pixels = draw_pictures(seed, pictures)
    say(f"{len(scenes):,} pictures drawn in {time.monotonic() - began:,.0f} s")
    model = _untrained()
    _fit(model, scenes, pixels, np.random.default_rng([seed, 4]), steps, say)
    _save(model, folder)


def vocabulary() -> list[str]:
    """Return the tokens: BERT's special ones, and the words that `caption` uses."""
    english = WORDS["en"]
    settings = " ".join(wording for both in english.settings.values() for wording in both)
    said = " ".join([PROMPT, *_FORMS, settings, *SIZES, *COLORS, *(noun for noun, _ in english.things.values()), "an"])
    return [*_SPECIAL, *sorted(set(re.findall("[a-z]+", re.sub(r"\{\w+\}", " ", said))))]


def _untrained() -> Any:  # noqa: ANN401 - a model of transformers
    from transformers import BlipConfig, BlipForConditionalGeneration  # noqa: PLC0415 - seconds

    config = BlipConfig(
        vision_config={
            "hidden_size": _WIDTH,
            "intermediate_size": 3 * _WIDTH,
            "num_hidden_layers": 4,
            "num_attention_heads": 4,
            "image_size": SIDE_PX,
            "patch_size": _PATCH_PX,
            "initializer_range": _SPREAD,
        },
        text_config={
            "vocab_size": len(vocabulary()),
            "hidden_size": _WIDTH,
            "encoder_hidden_size": _WIDTH,
            "intermediate_size": 3 * _WIDTH,
            "projection_dim": _WIDTH,
            "num_hidden_layers": 2,
            "initializer_range": _SPREAD,
            "num_attention_heads": 4,
            "max_position_embeddings": 64,
            "attention_probs_dropout_prob": 0.0,
            "hidden_dropout_prob": 0.0,
            "bos_token_id": _BEGIN,
            "eos_token_id": _END,
            "sep_token_id": _END,
            "pad_token_id": _PAD,
        },
        projection_dim=_WIDTH,
        image_text_hidden_size=_WIDTH,
    )
    model = BlipForConditionalGeneration(config).train()
    with torch.no_grad():
        model.vision_model.embeddings.position_embedding[0, 1:] = _places()
    return model


def _places() -> torch.Tensor:
    """Return sines and cosines of each patch's row and column, ``(patches, width)``, to begin with.

    As in arXiv 2205.01580: an image tower that has to learn places from nothing is slow to see shapes.
    """
    side = SIDE_PX // _PATCH_PX
    rates = 100.0 ** -(torch.arange(_WIDTH // 4) / (_WIDTH // 4))
    angles = torch.arange(side)[:, None] * rates
    waves = torch.cat([angles.sin(), angles.cos()], dim=1)
    rows, columns = waves.repeat_interleave(side, dim=0), waves.repeat(side, 1)
    return torch.cat([rows, columns], dim=1)


def _fit(
    model: Any,  # noqa: ANN401 - a model of transformers
    scenes: Sequence[Scene],
    pixels: torch.Tensor,
    rng: np.random.Generator,
    steps: int,
    say: Callable[[str], None],
) -> None:
    """Train by the loss of the next word, and of the image tower alone by what the picture shows."""
    kinds = {"thing": list(THINGS), "color": list(COLORS), "size": list(SIZES), "setting": list(SETTINGS)}
    truth = torch.tensor([[names.index(getattr(scene, kind)) for kind, names in kinds.items()] for scene in scenes])
    aside = nn.Linear(_WIDTH, sum(map(len, kinds.values())))

    def loss_of_batch() -> torch.Tensor:
        rows = rng.integers(len(scenes), size=_BATCH)
        tokens = padded([_tokens(caption(scenes[row], rng)) for row in rows], _PAD)
        images = _augmented(pixels[rows], rng)
        given, wanted = tokens[:, :-1], tokens[:, 1:].clone()
        # The prompt is given, and nothing that is padded is asked.
        wanted[:, : len(PROMPT.split())] = _IGNORED
        wanted[wanted == _PAD] = _IGNORED
        with half():
            seen = model.vision_model(images).last_hidden_state
            mask = (given != _PAD).long()
            logits = model.text_decoder(input_ids=given, attention_mask=mask, encoder_hidden_states=seen).logits
            answers = aside(seen[:, 1:].mean(dim=1)).split([len(names) for names in kinds.values()], dim=1)
        loss = nn.functional.cross_entropy(logits.flatten(0, 1).float(), wanted.flatten())
        for column, answer in enumerate(answers):
            loss = loss + _ASIDE * nn.functional.cross_entropy(answer.float(), truth[rows, column])
        return loss

    weights = [*model.parameters(), *aside.parameters()]
    fit(weights, loss_of_batch, steps=steps, rate=_RATE, weight_decay=0.05, say=say)


def _tokens(text: str) -> list[int]:
    place_of = _places_of_words()
    return [_BEGIN, *(place_of[word] for word in text.split()), _END]


@cache
def _places_of_words() -> dict[str, int]:
    return {word: place for place, word in enumerate(vocabulary())}


def normalised(pixels: torch.Tensor) -> torch.Tensor:
    """Return uint8 pixels as BLIP's image processor gives them to the model."""
    from transformers import BlipImageProcessor as Blip  # noqa: PLC0415 - seconds

    mean, deviation = (torch.tensor(each).view(1, 3, 1, 1) for each in (Blip.image_mean, Blip.image_std))
    return (pixels.float() / 255 - mean) / deviation


def _augmented(pixels: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Shift by up to 4 px, mirror half of the pictures, and normalise."""
    x = nn.functional.pad(normalised(pixels), (4, 4, 4, 4), mode="replicate")
    left, top = (int(offset) for offset in rng.integers(9, size=2))
    x = x[:, :, top : top + SIDE_PX, left : left + SIDE_PX]
    mirrored = torch.from_numpy(rng.random(len(x)) < 0.5)
    return torch.where(mirrored.view(-1, 1, 1, 1), x.flip(3), x)


def _save(model: Any, folder: Path) -> None:  # noqa: ANN401 - a model of transformers
    """Write weights in half precision, and what transformers needs to read pictures and texts."""
    from transformers import BertTokenizer, BlipImageProcessor  # noqa: PLC0415 - seconds

    folder.mkdir(parents=True, exist_ok=True)
    model.half().save_pretrained(folder)
    # Read in single precision unless asked otherwise: CPUs are slow in half.
    model.config.dtype = torch.float32
    model.config.save_pretrained(folder)
    BlipImageProcessor(size={"height": SIDE_PX, "width": SIDE_PX}).save_pretrained(folder)
    (folder / "vocab.txt").write_text("\n".join(vocabulary()) + "\n", encoding="utf-8")
    BertTokenizer(str(folder / "vocab.txt"), additional_special_tokens=["[DEC]"]).save_pretrained(folder)
    (folder / "model.safetensors").chmod(0o644)  # safetensors writes files readable only by their owner
