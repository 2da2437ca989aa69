"""Fit the small captioner and translator: AdamW, one cycle of the learning rate, progress in lines."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

import torch
from torch import nn

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

_TOLD_EVERY = 100


def fit(
    weights: Sequence[nn.Parameter],
    loss_of_batch: Callable[[], torch.Tensor],
    *,
    steps: int,
    rate: float,
    weight_decay: float,
    say: Callable[[str], None],
) -> None:
    """Change ``weights`` in ``steps`` steps, each by the loss that ``loss_of_batch`` returns for its next batch."""
    optimizer = torch.optim.AdamW(weights, lr=rate, betas=(0.9, 0.98), weight_decay=weight_decay)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, rate, total_steps=steps, pct_start=0.1)
    began, recent = time.monotonic(), 0.0
    for step in range(1, steps + 1):
        loss = loss_of_batch()
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        nn.utils.clip_grad_norm_(weights, 1.0)
        optimizer.step()
        schedule.step()
        recent = 0.95 * recent + 0.05 * loss.item() if step > 1 else loss.item()
        if step % _TOLD_EVERY == 0 or step == steps:
            left = (time.monotonic() - began) / step * (steps - step)
            say(f"step {step:,} of {steps:,}, loss {recent:.3f}, {left:,.0f} s left")


def half() -> torch.autocast:
    """Return a context in which matrices are multiplied in bfloat16, where the CPU has instructions for that."""
    supported = bool(torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001 - torch has no public name for it
    return torch.autocast("cpu", torch.bfloat16, enabled=supported)


def padded(rows: Sequence[Sequence[int]], filler: int) -> torch.Tensor:
    """Return rows of tokens as one tensor, ``filler`` behind the shorter ones."""
    longest = max(map(len, rows))
    return torch.tensor([[*row, *[filler] * (longest - len(row))] for row in rows])
