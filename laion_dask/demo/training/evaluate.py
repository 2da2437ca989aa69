"""Evaluate the small CLIP on held-out scenes.

The folder can be loaded by plain open_clip (if its path has no colon)::

    model, _, preprocess = open_clip.create_model_and_transforms("local-dir:" + folder)
    tokenizer = open_clip.get_tokenizer("local-dir:" + folder, bpe_path=folder + "/bpe.txt.gz")

`laion_dask.score.heads` reads its heads: ``aesthetics`` scores 1 to 10, ``unsafe`` and ``watermark`` a probability.
"""

from __future__ import annotations

import io
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
from PIL import Image

from laion_dask.clip import tensors
from laion_dask.demo.crawl.captions import LANGUAGES, caption, code_caption
from laion_dask.demo.crawl.scenes import Scene, draw, random_scene
from laion_dask.score import heads
from laion_dask.storage import packaged

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    import numpy.typing as npt

    Array = npt.NDArray[np.float32]

MODEL = packaged.file("demo", "model")
HEADS = ("aesthetics", "unsafe", "watermark")
NOLANG = "nolang"
# Training seeds its generators with [seed, chunk], [seed, 1, 1] and [seed, 2, 2], so it never sees these scenes.
HELD_OUT_SEED = (20_260_101, 7, 7)
# The assumed share of wrong captions for recommended thresholds.
WRONG_SHARE = 0.2


class SmallClip(NamedTuple):
    """A loaded folder: the model, its transforms of pictures and texts, and its path."""

    model: Any
    preprocess: Callable[[Image.Image], Any]
    tokenizer: Callable[[list[str]], Any]
    folder: Path


@dataclass(frozen=True, slots=True)
class SceneSplit:
    """Detection of wrong captions in one split, at the threshold that balances precision and recall."""

    threshold: float
    precision: float
    recall: float


@dataclass(frozen=True, slots=True)
class Evaluation:
    """The metrics of a folder; for ``auc_hard`` a wrong caption has the same thing in another color."""

    auc: dict[str, float]
    auc_hard: dict[str, float]
    splits: dict[str, SceneSplit]
    marks: dict[str, tuple[float, float]]
    aesthetics_correlation: float
    images_per_s: float


def as_downloaded(scene: Scene, rng: np.random.Generator, min_side_px: int = 32) -> Image.Image:
    """Return ``scene`` as the pipeline sees it: drawn at a web size, encoded, resized to 256 px, encoded as JPEG."""
    kind = rng.random()
    low, high = (100, 500) if kind < 0.8 else (500, 1600) if kind < 0.92 else (min_side_px, 160)
    longest = int(rng.integers(low, high + 1))
    shortest = max(min_side_px, round(longest * 2 ** -rng.uniform(0, 1)))
    longest = max(longest, shortest)
    size = (longest, shortest) if rng.random() < 0.6 else (shortest, longest)
    form = str(rng.choice(["JPEG", "JPEG", "JPEG", "PNG", "WEBP"]))
    options: dict[str, int] = {"compress_level": 1} if form == "PNG" else {"quality": int(rng.integers(75, 96))}
    if form == "WEBP":
        options["method"] = 0
    picture = _through(draw(scene, *size), form, **options)
    if max(size) > 256:
        scale = 256 / max(size)
        picture = picture.resize((round(size[0] * scale), round(size[1] * scale)), Image.Resampling.LANCZOS)
    return _through(picture, "JPEG", quality=int(rng.integers(85, 96)))


def _through(picture: Image.Image, form: str, **options: int) -> Image.Image:
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return Image.open(buffer).convert("RGB")


def load(folder: Path = MODEL) -> SmallClip:
    """Load the model in ``folder`` for inference on the CPU."""
    import open_clip  # noqa: PLC0415 - importing it takes seconds

    name = f"local-dir:{folder}"
    model, _, preprocess = open_clip.create_model_and_transforms(name)
    tokenizer = open_clip.get_tokenizer(name, bpe_path=str(folder / "bpe.txt.gz"))
    return SmallClip(model.eval(), preprocess, tokenizer, folder)


def embed_images(clip: SmallClip, images: Sequence[Image.Image]) -> Array:
    """Return ``(images, features)``, unit length."""
    import torch  # noqa: PLC0415

    with torch.inference_mode():
        pixels = [torch.stack([clip.preprocess(i) for i in images[at : at + 64]]) for at in range(0, len(images), 64)]
        return np.concatenate([clip.model.encode_image(p, normalize=True).numpy() for p in pixels])


def embed_texts(clip: SmallClip, texts: Sequence[str]) -> Array:
    """Return ``(texts, features)``, unit length."""
    import torch  # noqa: PLC0415

    with torch.inference_mode():
        tokens = [clip.tokenizer(list(texts[at : at + 256])) for at in range(0, len(texts), 256)]
        return np.concatenate([clip.model.encode_text(t, normalize=True).numpy() for t in tokens])


def head_scores(folder: Path, embeddings: Array) -> dict[str, Array]:
    """Return each head's scores of the images, as the pipeline computes them: beauty 1 to 10, or a probability."""
    loaded = heads.demo(tensors.read(folder / "heads.safetensors"))
    return {name: head.score(embeddings) for name, head in zip(HEADS, loaded, strict=True)}


def write(scene: Scene, language: str, rng: np.random.Generator) -> str:
    """Return a caption in ``language``; for "nolang" a file name that describes the scene."""
    return code_caption(scene, rng) if language == NOLANG else caption(scene, language, rng)


def balance(right: Array, wrong: Array, wrong_share: float = WRONG_SHARE) -> SceneSplit:
    """Return the threshold for wrong captions with the highest minimum of precision and recall."""
    best, split = -1.0, SceneSplit(0.0, 0.0, 0.0)
    for threshold in np.quantile(np.concatenate([right, wrong]), np.linspace(0.01, 0.99, 491)):
        recall = float((wrong < threshold).mean())
        lost = float((right < threshold).mean())
        called = wrong_share * recall + (1 - wrong_share) * lost
        precision = wrong_share * recall / called if called else 1.0
        if min(precision, recall) > best:
            best, split = min(precision, recall), SceneSplit(float(threshold), precision, recall)
    return split


def _precision_recall(truth: npt.NDArray[np.bool_], predicted: npt.NDArray[np.bool_]) -> tuple[float, float]:
    hits = int((truth & predicted).sum())
    return hits / max(1, int(predicted.sum())), hits / max(1, int(truth.sum()))


def _others(scenes: Sequence[Scene], rng: np.random.Generator) -> list[Scene]:
    """Return for every scene another one from the list, with another thing in another color."""
    others = []
    for scene in scenes:
        other = scene
        while other.thing == scene.thing or other.color == scene.color:
            other = scenes[int(rng.integers(len(scenes)))]
        others.append(other)
    return others


def _recolored(scene: Scene, rng: np.random.Generator) -> Scene:
    other = scene
    while other.color == scene.color:
        other = random_scene(rng, thing=scene.thing, size=scene.size, setting=scene.setting)
    return other


def _images_per_s(clip: SmallClip, image: Image.Image) -> float:
    """Measure the speed of the image tower alone, on one thread, with batches of 64."""
    import torch  # noqa: PLC0415

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    pixels = torch.stack([clip.preprocess(image)] * 64)
    with torch.inference_mode():
        clip.model.encode_image(pixels)
        start = time.perf_counter()
        for _ in range(5):
            clip.model.encode_image(pixels)
    torch.set_num_threads(threads)
    return 5 * 64 / (time.perf_counter() - start)


def evaluate(clip: SmallClip, scenes: int = 1500) -> Evaluation:
    """Evaluate ``clip`` on held-out scenes: one in ten unsafe, one in ten watermarked, sides of 96 to 1,600 px."""
    from sklearn.metrics import roc_auc_score  # noqa: PLC0415

    rng = np.random.default_rng(HELD_OUT_SEED)
    marked = rng.random((scenes, 2)) < 0.1
    truth = [random_scene(rng, watermark=bool(w), unsafe=bool(u)) for w, u in marked]
    images = [as_downloaded(scene, rng, min_side_px=96) for scene in truth]
    embedded = embed_images(clip, images)
    right: dict[str, Array] = {}
    wrong: dict[str, Array] = {}
    auc, auc_hard = {}, {}
    for language in (*LANGUAGES, NOLANG):
        texts = [write(s, language, rng) for s in truth]
        other = [write(s, language, rng) for s in _others(truth, rng)]
        hard = [write(_recolored(s, rng), language, rng) for s in truth]
        right[language], wrong[language], close = (
            (embedded * embed_texts(clip, t)).sum(axis=1) for t in (texts, other, hard)
        )
        labels = np.repeat([1, 0], scenes)
        auc[language] = float(roc_auc_score(labels, np.concatenate([right[language], wrong[language]])))
        auc_hard[language] = float(roc_auc_score(labels, np.concatenate([right[language], close])))
    members = {"en": ["en"], "multi": [x for x in LANGUAGES if x != "en"], NOLANG: [NOLANG]}
    scores = head_scores(clip.folder, embedded)
    return Evaluation(
        auc=auc,
        auc_hard=auc_hard,
        splits={
            split: balance(np.concatenate([right[x] for x in languages]), np.concatenate([wrong[x] for x in languages]))
            for split, languages in members.items()
        },
        marks={m: _precision_recall(np.array([getattr(s, m) for s in truth]), scores[m] > 0.5) for m in HEADS[1:]},
        aesthetics_correlation=float(np.corrcoef([s.beauty for s in truth], scores["aesthetics"])[0, 1]),
        images_per_s=_images_per_s(clip, images[0]),
    )


def report(evaluation: Evaluation) -> str:
    """Return the evaluation as lines to print."""
    lines = ["matched against mismatched captions (AUC; hard: same thing, other color)"]
    lines += [f"  {x:7} {evaluation.auc[x]:.4f}   hard {evaluation.auc_hard[x]:.4f}" for x in evaluation.auc]
    lines += [f"wrong captions found, {WRONG_SHARE:.0%} being wrong, similarity below the recommended threshold"]
    for name, split in evaluation.splits.items():
        figures = f"{split.threshold:.3f}   precision {split.precision:.3f}   recall {split.recall:.3f}"
        lines.append(f"  {name:7} {figures}")
    lines += ["marks found at probability 0.5"]
    lines += [f"  {x:9}   precision {p:.3f}   recall {r:.3f}" for x, (p, r) in evaluation.marks.items()]
    lines += [f"aesthetics: correlation with the truth {evaluation.aesthetics_correlation:.3f}"]
    lines += [f"image tower: {evaluation.images_per_s:,.0f} images/s on one thread"]
    return "\n".join(lines)
