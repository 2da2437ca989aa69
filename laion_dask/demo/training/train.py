"""Train the small CLIP from a seed; write weights, vocabulary and heads, and evaluate them on held-out scenes.

Three steps: a byte-pair vocabulary is learned from captions in every language; pictures are drawn once and kept as
64 px arrays; then both towers and the heads are trained together, so that the embedding has the heads' features.
"""

from __future__ import annotations

import gzip
import json
import time
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from itertools import pairwise
from multiprocessing import get_context
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import torch
import typer
from PIL import Image
from torch import nn

from laion_dask.demo.crawl.captions import LANGUAGES
from laion_dask.demo.crawl.scenes import COLORS, SETTINGS, SIZES, THINGS, Scene, random_scene
from laion_dask.demo.training.evaluate import HEADS, MODEL, NOLANG, as_downloaded, evaluate, load, report, write

if TYPE_CHECKING:
    import numpy.typing as npt

SIDE_PX = 64
FEATURES = 128
CONTEXT = 32
MERGES = 1400
# Most bytes of a merged token: a Latin word, half a Russian one, four Chinese characters.
TOKEN_BYTES = 12
CHUNK = 250
BATCH = 256
# English is more frequent than other languages, since its threshold is higher. Codes are last.
SHARES = np.array([0.16, *[0.105] * (len(LANGUAGES) - 1), 0.105])
PREPROCESS = {"mean": [0.5, 0.5, 0.5], "std": [0.25, 0.25, 0.25], "interpolation": "bicubic", "resize_mode": "shortest"}


def model_config(vocab_size: int) -> dict[str, Any]:
    """Return open_clip's configuration of the two towers."""
    return {
        "embed_dim": FEATURES,
        "vision_cfg": {"image_size": SIDE_PX, "layers": [1, 2, 2, 1], "width": 16, "head_width": 64},
        "text_cfg": {"context_length": CONTEXT, "vocab_size": vocab_size, "width": 96, "heads": 4, "layers": 2},
    }


# Pictures


def _draw_chunk(seed: int, chunk: int) -> tuple[list[Scene], npt.NDArray[np.uint8]]:
    """Draw ``CHUNK`` scenes as inputs of the image tower: shorter side resized to 64 px, centre crop."""
    rng = np.random.default_rng([seed, chunk])
    scenes, pixels = [], np.empty((CHUNK, SIDE_PX, SIDE_PX, 3), np.uint8)
    for i in range(CHUNK):
        scene = random_scene(rng, watermark=bool(rng.random() < 0.25), unsafe=bool(rng.random() < 0.25))
        picture = as_downloaded(scene, rng)
        scale = SIDE_PX / min(picture.size)
        size = (int(picture.width * scale + 1e-6), int(picture.height * scale + 1e-6))
        left, top = round((size[0] - SIDE_PX) / 2), round((size[1] - SIDE_PX) / 2)
        whole = picture.resize(size, Image.Resampling.BICUBIC)
        pixels[i] = np.asarray(whole.crop((left, top, left + SIDE_PX, top + SIDE_PX)))
        scenes.append(scene)
    return scenes, pixels


def draw_pool(seed: int, count: int) -> tuple[list[Scene], torch.Tensor]:
    """Return ``count`` scenes, rounded up to whole chunks, and their pixels ``(scenes, 3, 64, 64)`` as uint8."""
    chunks = -(-count // CHUNK)
    scenes: list[Scene] = []
    pixels: list[npt.NDArray[np.uint8]] = []
    start = time.monotonic()
    with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
        for done, (drawn, array) in enumerate(pool.map(_draw_chunk, [seed] * chunks, range(chunks)), 1):
            scenes += drawn
            pixels.append(array)
            if done % 10 == 0 or done == chunks:
                _progress("drawing", done * CHUNK, chunks * CHUNK, start, "pictures")
    return scenes, torch.from_numpy(np.concatenate(pixels)).permute(0, 3, 1, 2).contiguous()


def _progress(what: str, done: int, total: int, start: float, unit: str, note: str = "") -> None:
    rate = done / (time.monotonic() - start)
    typer.echo(f"{what}: {done:,} of {total:,} {unit}, {rate:,.1f}/s, {(total - done) / rate:,.0f} s left{note}")


# Vocabulary


def learn_merges(words: Counter[tuple[str, ...]], count: int) -> list[tuple[str, str]]:
    """Return the ``count`` most frequent merges of neighbouring symbols, in the order in which they apply."""
    pieces = [(list(word), times) for word, times in sorted(words.items())]
    merges: list[tuple[str, str]] = []
    pairs: Counter[tuple[str, str]] = Counter()
    places: dict[tuple[str, str], set[int]] = {}
    for at, (word, times) in enumerate(pieces):
        for pair in pairwise(word):
            pairs[pair] += times
            places.setdefault(pair, set()).add(at)
    while len(merges) < count:
        fitting = (p for p in pairs if pairs[p] > 1 and len(p[0] + p[1]) <= TOKEN_BYTES + 4 * p[1].endswith("</w>"))
        best = max(fitting, key=lambda p: (pairs[p], p), default=None)
        if best is None:
            break
        merges.append(best)
        for at in sorted(places.pop(best)):
            word, times = pieces[at]
            for pair in pairwise(word):
                pairs[pair] -= times
            _merge(word, best)
            for pair in pairwise(word):
                pairs[pair] += times
                places.setdefault(pair, set()).add(at)
        del pairs[best]
    return merges


def _merge(word: list[str], pair: tuple[str, str]) -> None:
    at = 0
    while at < len(word) - 1:
        if (word[at], word[at + 1]) == pair:
            word[at : at + 2] = [pair[0] + pair[1]]
        at += 1


def write_vocabulary(path: Path, seed: int) -> None:
    """Write the merges of captions in every language in the layout that open_clip's SimpleTokenizer reads."""
    from open_clip.tokenizer import SimpleTokenizer  # noqa: PLC0415

    splitter = SimpleTokenizer()
    rng = np.random.default_rng([seed, 1, 1])
    words: Counter[tuple[str, ...]] = Counter()
    for i in range(9000):
        text = write(random_scene(rng), (*LANGUAGES, NOLANG)[i % (len(LANGUAGES) + 1)], rng)
        for word in splitter.pat.findall(splitter.clean_fn(text)):
            symbols = [splitter.byte_encoder[b] for b in word.encode()]
            words[(*symbols[:-1], symbols[-1] + "</w>")] += 1
    lines = ["#version: 0.2", *(" ".join(m) for m in learn_merges(words, MERGES))]
    # No newline at the end: open_clip would read it as an empty merge.
    path.write_bytes(gzip.compress("\n".join(lines).encode(), mtime=0))


# Training


class Heads(nn.Module):
    """Heads of two layers on the image embedding; ``arrays`` folds the scale of beauty into the last layer."""

    def __init__(self) -> None:
        super().__init__()
        layers = {h: nn.Sequential(nn.Linear(FEATURES, 32), nn.ReLU(), nn.Linear(32, 1)) for h in HEADS}
        self.heads = nn.ModuleDict(layers)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Return ``(images, heads)``: beauty in standard units, then two logits."""
        return torch.cat([self.heads[h](x) for h in HEADS], dim=1)

    def arrays(self) -> dict[str, npt.NDArray[np.float32]]:
        """Return the weights under the names and in the shapes ``(out, in)`` that `laion_dask.score.heads` reads."""
        weights: dict[str, npt.NDArray[np.float32]] = {}
        for head in HEADS:
            state = {k: v.detach().numpy() for k, v in self.heads[head].state_dict().items()}
            scale, offset = (2.6, 5.5) if head == "aesthetics" else (1.0, 0.0)
            weights[f"{head}.w0"] = state["0.weight"]
            weights[f"{head}.b0"] = state["0.bias"]
            weights[f"{head}.w1"] = state["2.weight"] * scale
            weights[f"{head}.b1"] = state["2.bias"] * scale + offset
        return weights


def _labels(scenes: list[Scene]) -> tuple[torch.Tensor, torch.Tensor]:
    """Return ``(scenes, 4)`` indices of thing, color, size and setting, and ``(scenes, 3)`` targets of the heads."""
    colors = list(COLORS)
    names = [
        (THINGS.index(s.thing), colors.index(s.color), SIZES.index(s.size), SETTINGS.index(s.setting)) for s in scenes
    ]
    targets = [((s.beauty - 5.5) / 2.6, float(s.unsafe), float(s.watermark)) for s in scenes]
    return torch.tensor(names), torch.tensor(targets)


def _augment(pixels: torch.Tensor, rng: torch.Generator) -> torch.Tensor:
    """Shift by up to 3 px, vary brightness and contrast slightly, and normalise like open_clip's transform."""
    x = nn.functional.pad(pixels.float() / 255, (3, 3, 3, 3), mode="replicate")
    left, top = torch.randint(7, (2,), generator=rng).tolist()
    x = x[:, :, top : top + SIDE_PX, left : left + SIDE_PX]
    gain, lift = (torch.rand((2, len(x), 1, 1, 1), generator=rng) - 0.5).unbind()
    return ((x - 0.5) * (1 + 0.2 * gain) + 0.06 * lift) / 0.25


def contrast(
    image: torch.Tensor, text: torch.Tensor, names: torch.Tensor, scale: torch.Tensor, bias: torch.Tensor
) -> torch.Tensor:
    """Return the loss of a batch of pairs.

    One half is CLIP's loss, without pairs that are equal by chance. The other is a binary loss of every pair on whether
    thing and color agree, as in SigLIP (arXiv:2303.15343), so that one threshold suits all pictures and languages.
    """
    similarity = image @ text.T
    equal = (names[:, None] == names[None, :]).all(-1)
    logits = scale * similarity
    by_chance = equal & ~torch.eye(len(equal), dtype=torch.bool)
    masked = logits.masked_fill(by_chance, -1e4)
    target = torch.arange(len(masked))
    clip = (nn.functional.cross_entropy(masked, target) + nn.functional.cross_entropy(masked.T, target)) / 2
    match = (names[:, None, :2] == names[None, :, :2]).all(-1)
    each = nn.functional.binary_cross_entropy_with_logits(logits + bias, match.float(), reduction="none")
    return clip + 2 * (each[match].mean() + each[~match].mean())


def train(folder: Path, seed: int, steps: int, pictures: int) -> None:
    """Write a trained model to ``folder``; the same arguments on the same machine give the same files."""
    from open_clip.model import CLIP  # noqa: PLC0415
    from open_clip.tokenizer import SimpleTokenizer  # noqa: PLC0415
    from safetensors.numpy import save_file as save_arrays  # noqa: PLC0415
    from safetensors.torch import save_file  # noqa: PLC0415

    torch.manual_seed(seed)
    torch.set_num_threads(2)
    folder.mkdir(parents=True, exist_ok=True)
    write_vocabulary(folder / "bpe.txt.gz", seed)
    tokenizer = SimpleTokenizer(bpe_path=str(folder / "bpe.txt.gz"), context_length=CONTEXT)
    config = model_config(tokenizer.vocab_size)
    described = json.dumps({"model_cfg": config, "preprocess_cfg": PREPROCESS}, indent=2)
    (folder / "open_clip_config.json").write_text(described + "\n")
    scenes, pixels = draw_pool(seed, pictures)
    names, targets = _labels(scenes)
    model, heads, bias = CLIP(**config), Heads(), nn.Parameter(torch.tensor(-5.0))
    trained = [*model.parameters(), *heads.parameters(), bias]
    optimizer = torch.optim.AdamW(trained, lr=2e-3, betas=(0.9, 0.98), weight_decay=0.02)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 2e-3, total_steps=steps, pct_start=0.1)
    rng, shuffle = np.random.default_rng([seed, 2, 2]), torch.Generator().manual_seed(seed)
    start, recent = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        at = rng.choice(len(scenes), BATCH, replace=False)
        languages = rng.choice([*LANGUAGES, NOLANG], BATCH, p=SHARES)
        tokens = tokenizer([write(scenes[i], str(x), rng) for i, x in zip(at, languages, strict=True)])
        image = model.encode_image(_augment(pixels[at], shuffle), normalize=True)
        text = model.encode_text(tokens, normalize=True)
        scores = heads(image)
        loss = contrast(image, text, names[at], model.logit_scale.exp(), bias)
        loss = loss + nn.functional.mse_loss(scores[:, 0], targets[at, 0])
        loss = loss + 2 * nn.functional.binary_cross_entropy_with_logits(scores[:, 1:], targets[at, 1:])
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(trained, 1.0)
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            model.logit_scale.clamp_(0, np.log(30))
        recent = 0.95 * recent + 0.05 * loss.item() if step > 1 else loss.item()
        if step % 50 == 0 or step == steps:
            _progress("training", step, steps, start, "steps", f", loss {recent:.3f}")
    half = {k: v.half() if v.is_floating_point() else v for k, v in model.eval().state_dict().items()}
    save_file({k: v.contiguous() for k, v in half.items()}, folder / "open_clip_model.safetensors")
    save_arrays(heads.arrays(), folder / "heads.safetensors")
    for path in folder.glob("*.safetensors"):
        path.chmod(0o644)  # safetensors writes files readable only by their owner


app = typer.Typer(add_completion=False)


@app.command()
def main(
    out: Annotated[Path, typer.Option(help="Folder to write the model to, or to evaluate.")] = MODEL,
    steps: Annotated[int, typer.Option(min=1, help="Batches of 256 pairs; about 2 a second on 2 cores.")] = 1400,
    pictures: Annotated[
        int, typer.Option(min=BATCH, help="Scenes drawn first; about 140 a second on 2 cores.")
    ] = 24_000,
    seed: Annotated[
        int, typer.Option(help="Start of every random number; the held-out scenes do not depend on it.")
    ] = 1,
    *,
    evaluate_only: Annotated[bool, typer.Option("--evaluate", help="Only measure what is in the folder.")] = False,
) -> None:
    """Train the small CLIP of the demo and print its evaluation.

    It learns to compare drawn pictures with captions in eight languages and with file names, and to detect beauty,
    watermarks and the unsafe mark. It only works for these drawings: for a real crawl, name a pretrained model in
    params.yaml.
    """
    if not evaluate_only:
        train(out, seed, steps, pictures)
    typer.echo(report(evaluate(load(out))))


if __name__ == "__main__":
    app()
