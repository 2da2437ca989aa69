"""Kept pairs, a scale and a seed in, a trained model out: model, loss, schedule and tokenizer are open_clip's."""

from __future__ import annotations

import hashlib
import math
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

from experiments import kept_pairs
from experiments.held_out import image
from experiments.kept_pairs import Kept
from experiments.scales import DEMO, DEMO_CLIP, Scale, ScaleError
from laion_dask.clip.clip import DEMO_MODEL

if TYPE_CHECKING:
    import torch

# open_clip's bound of its logit scale, as in CLIP's paper: logits are at most 100 times the cosine.
_MAX_LOGIT_SCALE: Final = math.log(100)
_TOLD_EVERY: Final = 50
Ready = dict[bytes, tuple["torch.Tensor", "torch.Tensor"]]
"""Pixels and tokens of pairs by a digest of picture and caption: at most as many as the scale keeps."""


@dataclass(frozen=True, slots=True)
class Trained:
    """A model with what it reads pictures and texts through, and the loss of its last batch."""

    model: Any
    tokenizer: Any
    transform: Any
    """That of the evaluation."""
    loss: float


def fit(
    kept: Kept,
    scale: Scale,
    seed: int,
    *,
    workers: int = 0,
    say: Callable[[str], None] | None = None,
    ready: Ready | None = None,
) -> Trained:
    """Train a model from nothing on what a version keeps; same arguments, same machine: same weights, bit for bit.

    On a GPU where there is one. `workers` processes decode beside it, each its own shards; another number is another
    order. `ready` takes what was decoded to the next run of the same scale. Raises `ScaleError` where one process
    cannot train the scale, or the version has fewer pairs than a batch.
    """
    check(kept, scale)
    import open_clip  # noqa: PLC0415 - seconds
    import torch  # noqa: PLC0415 - seconds
    from open_clip_train.precision import get_autocast  # noqa: PLC0415 - as above
    from open_clip_train.scheduler import cosine_lr  # noqa: PLC0415 - as above

    device = "cuda" if torch.cuda.is_available() else "cpu"
    with _deterministic(scale, seed):
        model, training, evaluation, tokenizer = _untrained(scale, device)
        loss_of = open_clip.ClipLoss()
        optimizer = _optimizer(model, scale)
        schedule = cosine_lr(optimizer, scale.lr, scale.warmup, scale.steps)
        autocast = get_autocast(scale.precision, device_type=device)
        ready = {} if ready is None else ready
        batches = _batches(kept, scale, seed, training if scale.augment else evaluation, tokenizer, workers, ready)
        began, loss = time.monotonic(), 0.0
        model.train()
        for step in range(scale.steps):
            images, texts = (rows.to(device) for rows in next(batches))
            schedule(step)
            optimizer.zero_grad()
            with autocast():
                total = loss_of(*model(images, texts)[:3])
            total.backward()
            optimizer.step()
            with torch.no_grad():
                model.logit_scale.clamp_(0, _MAX_LOGIT_SCALE)
            if say and (step + 1) % _TOLD_EVERY == 0:
                left = (time.monotonic() - began) / (step + 1) * (scale.steps - step - 1)
                say(f"step {step + 1:,} of {scale.steps:,}, loss {total.item():.2f}, {left:.0f} s left")
        loss = float(total.item())
    return Trained(model.eval(), tokenizer, evaluation, loss)


def check(kept: Kept, scale: Scale) -> None:
    """Raise `ScaleError` for what `fit` would refuse, without importing torch."""
    if not scale.alone:
        raise ScaleError(
            f"{scale.name}: {scale.model} with batches of {scale.batch:,} is more than one process on one GPU holds. "
            "Remedy: torchrun with open_clip_train.main and the values of scales.yaml, over tars of kept pairs alone; "
            "or small or medium here"
        )
    if kept.pairs < scale.batch:
        raise ScaleError(
            f"{kept.name} keeps {kept.pairs:,} pairs, fewer than a batch of {scale.batch:,}. Remedy: a larger version"
        )


@contextmanager
def _deterministic(scale: Scale, seed: int) -> Iterator[None]:
    import torch  # noqa: PLC0415 - seconds

    before = torch.are_deterministic_algorithms_enabled(), torch.get_num_threads()
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(mode=True)
    torch.set_num_threads(scale.threads or before[1])
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(mode=before[0])
        torch.set_num_threads(before[1])


def _untrained(scale: Scale, device: str) -> tuple[Any, Any, Any, Any]:
    """Return model, transforms of training and evaluation, and tokenizer; weights are drawn by torch's generator."""
    import logging  # noqa: PLC0415 - as the next

    import open_clip  # noqa: PLC0415 - seconds

    name = f"local-dir:{DEMO_CLIP}" if scale.model == DEMO else scale.model
    before = logging.root.manager.disable
    logging.disable(logging.WARNING)  # open_clip warns that the weights are random: they are meant to be
    try:
        model, training, evaluation = open_clip.create_model_and_transforms(name, load_weights=False, device=device)
    finally:
        logging.disable(before)
    # Architecture here, vocabulary of the demo's own CLIP: it has the words of all eight languages.
    words = {"bpe_path": str(DEMO_MODEL / "bpe.txt.gz")} if scale.model == DEMO else {}
    return model, training, evaluation, open_clip.get_tokenizer(name, **words)


def _optimizer(model: Any, scale: Scale) -> torch.optim.Optimizer:  # noqa: ANN401 - open_clip's model
    """Return AdamW as open_clip sets it up: no weight decay for gains, biases and the logit scale."""
    import torch  # noqa: PLC0415 - seconds

    named = [(name, weight) for name, weight in model.named_parameters() if weight.requires_grad]
    plain = [weight for name, weight in named if weight.ndim < 2 or "bn" in name or "ln" in name or "bias" in name]
    ids = set(map(id, plain))
    decayed = [weight for _, weight in named if id(weight) not in ids]
    groups = [{"params": plain, "weight_decay": 0.0}, {"params": decayed, "weight_decay": scale.weight_decay}]
    return torch.optim.AdamW(groups, lr=scale.lr, betas=(0.9, scale.beta2), eps=1e-6)


def _batches(
    kept: Kept,
    scale: Scale,
    seed: int,
    transform: Callable[[Any], Any],
    tokenizer: Callable[[list[str]], Any],
    workers: int,
    ready: Ready,
) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
    """Yield (pixels, tokens) of whole batches without end."""
    import torch  # noqa: PLC0415 - seconds
    from torch.utils.data import DataLoader, IterableDataset, get_worker_info  # noqa: PLC0415 - as above

    class Pairs(IterableDataset[tuple[torch.Tensor, torch.Tensor]]):
        def __iter__(self) -> Iterator[tuple[torch.Tensor, torch.Tensor]]:
            worker = get_worker_info()
            part, parts = (worker.id, worker.num_workers) if worker else (0, 1)
            for _, body, caption in kept_pairs.stream(kept, seed, scale.buffer, part, parts):
                content = hashlib.sha256(body + caption.encode()).digest()
                pair = ready.get(content)
                if pair is None:
                    pair = transform(image(body)), tokenizer([caption])[0]
                    if not scale.augment and len(ready) < scale.kept_pictures:
                        ready[content] = pair
                yield pair

    generator = torch.Generator().manual_seed(seed)
    workers = min(workers, len(kept.tars))
    return iter(DataLoader(Pairs(), scale.batch, num_workers=workers, generator=generator, drop_last=True))
