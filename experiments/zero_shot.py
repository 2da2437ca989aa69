"""Embeddings and answers in, scores out: zero-shot classification and retrieval under clip_benchmark's names."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from experiments.held_out import HeldOut, HeldOutPart, image

if TYPE_CHECKING:
    import numpy.typing as npt

    Array = npt.NDArray[np.floating]

_BATCH: Final = 64
_TEXTS: Final = 256
TOP: Final = 5


def classification(similarity: Array, targets: Sequence[int]) -> dict[str, float]:
    """Return acc1, acc5 and mean_per_class_recall of similarities (pictures, classes).

    A class that is as similar as the right one counts as before it: what cannot tell classes apart scores nothing.
    """
    wanted = np.asarray(targets)
    right = similarity[np.arange(len(wanted)), wanted]
    # The right one counts itself, so a place of 1 is the first.
    place = (similarity >= right[:, None]).sum(axis=1)
    recalls = [float((place[wanted == one] <= 1).mean()) for one in np.unique(wanted)]
    return {
        "acc1": float((place <= 1).mean()),
        f"acc{TOP}": float((place <= TOP).mean()),
        "mean_per_class_recall": float(np.mean(recalls)),
    }


def retrieval(similarity: Array, picture_of: Sequence[int]) -> dict[str, float]:
    """Return recall at 1 and 5 of similarities (texts, pictures), `picture_of` each text its picture.

    image_retrieval: share of texts whose picture is among the nearest; text_retrieval: share of pictures with one of
    their texts among the nearest. Ties count against, as in `classification`.
    """
    wanted = np.asarray(picture_of)
    right = similarity[np.arange(len(wanted)), wanted]
    of_text = (similarity >= right[:, None]).sum(axis=1)
    own = wanted[:, None] == np.arange(similarity.shape[1])[None, :]
    best = np.where(own, similarity, -np.inf).max(axis=0)
    # Other texts of the picture are no rivals of its best one.
    of_picture = 1 + ((similarity >= best[None, :]) & ~own).sum(axis=0)
    return {
        f"{kind}_retrieval_recall@{top}": float((place <= top).mean())
        for kind, place in (("image", of_text), ("text", of_picture))
        for top in (1, TOP)
    }


def evaluate(
    model: Any,  # noqa: ANN401 - open_clip's model
    tokenizer: Callable[[list[str]], Any],
    transform: Callable[[Any], Any],
    held_out: HeldOut,
) -> dict[str, float]:
    """Return every score that the parts of the held-out set allow, by clip_benchmark's names."""
    scores: dict[str, float] = {}
    if held_out.classification is not None:
        part = held_out.classification
        scores |= classification(_see(model, transform, part) @ _classes(model, tokenizer, part), part.targets)
    if held_out.retrieval is not None:
        part = held_out.retrieval
        texts = [text for captions in part.captions for text in captions]
        picture_of = [place for place, captions in enumerate(part.captions) for _ in captions]
        scores |= retrieval(_read(model, tokenizer, texts) @ _see(model, transform, part).T, picture_of)
    return scores


def _classes(model: Any, tokenizer: Callable[[list[str]], Any], part: HeldOutPart) -> Array:  # noqa: ANN401 - as above
    """Return one embedding a class, (features, classes), made by open_clip of the mean over all templates."""
    import open_clip  # noqa: PLC0415 - seconds

    templates = [(lambda name, text=text: text.format(c=name)) for text in part.templates]
    found = open_clip.build_zero_shot_classifier(model, tokenizer, part.classes, templates, device=_device(model))
    return np.asarray(found.float().cpu().numpy(), np.float32)


def _see(model: Any, transform: Callable[[Any], Any], part: HeldOutPart) -> Array:  # noqa: ANN401 - as above
    import torch  # noqa: PLC0415 - seconds

    rows = []
    with torch.inference_mode():
        for start in range(0, len(part.pictures), _BATCH):
            pixels = torch.stack([transform(image(body)) for body in part.pictures[start : start + _BATCH]])
            rows.append(model.encode_image(pixels.to(_device(model)), normalize=True).float().cpu().numpy())
    return np.concatenate(rows)


def _read(model: Any, tokenizer: Callable[[list[str]], Any], texts: Sequence[str]) -> Array:  # noqa: ANN401 - as above
    import torch  # noqa: PLC0415 - seconds

    rows = []
    with torch.inference_mode():
        for start in range(0, len(texts), _TEXTS):
            tokens = tokenizer(list(texts[start : start + _TEXTS])).to(_device(model))
            rows.append(model.encode_text(tokens, normalize=True).float().cpu().numpy())
    return np.concatenate(rows)


def _device(model: Any) -> Any:  # noqa: ANN401 - as above
    return next(model.parameters()).device
