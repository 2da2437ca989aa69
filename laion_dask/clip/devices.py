"""Choose CPU or GPU, and run forward passes there in slices that fit into its memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final

# Rows of a forward pass where nothing else is said: on a CPU larger ones gain nothing.
_CPU_ROWS: Final = 64
_MAX_GPU_ROWS: Final = 1024
# Of the memory that is free: the rest is for fragmentation and for the results.
_SHARE_OF_FREE: Final = 0.6
_PROBE_ROWS: Final = 8

Forward = Callable[[Any], Any]
"""Rows of one tensor in, as many rows of results out, on the same device."""


def find() -> str:
    """Return `cuda` where this process may use a GPU, else `cpu` with one thread.

    One thread, whatever the number of workers: sums keep their order, so that results are equal bit for bit. Cores are
    used by processes: one each.
    """
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        # Full float32 where float32 is asked for: TF32 rounds to 10 bits.
        torch.backends.cudnn.allow_tf32 = False
        return "cuda"
    torch.set_num_threads(1)
    return "cpu"


def decoders(device: str) -> int:
    """Return how many images are decoded at once, ahead of the forward pass: a GPU's share of the cores, on a CPU one.

    On a CPU every core has a worker of its own, whose decoding thread only fills the pauses of reading and writing.
    """
    if device == "cpu":
        return 1
    import torch  # noqa: PLC0415

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, torch.cuda.device_count()))


def dtype(precision: str) -> Any:  # noqa: ANN401 - a torch dtype
    """Return the type in which a network's weights and activations are kept and multiplied.

    All of them, not only what autocast would choose: on an H200 ViT-L/14 then looks at 1.39 times the images, at equal
    distance from float32 (`make bench-score-gpu`). Sums of products, of softmax and of layer norms are float32 anyway.
    """
    import torch  # noqa: PLC0415

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def tray(rows: int, side: tuple[int, int], device: str) -> Any:  # noqa: ANN401 - a torch tensor
    """Return room for the pixels of so many images: uint8 (rows, height, width, 3), pinned where a GPU reads it."""
    import torch  # noqa: PLC0415

    return torch.empty((rows, *side, 3), dtype=torch.uint8, pin_memory=device == "cuda")


def upload(rows: Any, device: str) -> Any:  # noqa: ANN401 - torch tensors
    """Bring rows to the device; from pinned memory the copy runs beside what the processor does next."""
    return rows if device == "cpu" else rows.to(device, non_blocking=True)


def out_of_memory(error: BaseException) -> bool:
    """Say whether a forward pass failed because the device's memory is full."""
    import torch  # noqa: PLC0415

    if isinstance(error, torch.OutOfMemoryError | MemoryError):
        return True
    # The CPU's allocator raises a plain RuntimeError.
    return isinstance(error, RuntimeError) and any(
        words in str(error) for words in ("can't allocate memory", "out of memory", "std::bad_alloc")
    )


class Slices:
    """How many rows one forward pass takes: halved when memory runs out, and remembered for as long as the process.

    With `fixed` every pass has just so many, the last filled up with its last row: a compiled network wants one shape.
    """

    def __init__(self, rows: int, *, fixed: bool = False) -> None:
        self.rows = rows
        self._fixed = fixed
        self._lock = threading.Lock()

    def run(self, forward: Forward, rows: Any) -> Any:  # noqa: ANN401 - torch tensors
        """Return what `forward` gives for all rows, computed in slices; raises what it raises for a single row."""
        import torch  # noqa: PLC0415

        results, at = [], 0
        while at < len(rows):
            size = min(self.rows, len(rows) - at)
            some = rows[at : at + size]
            if self._fixed and size < self.rows:
                some = torch.cat([some, some[-1:].expand(self.rows - size, *some.shape[1:])])
            try:
                results.append(forward(some)[:size])
            except (RuntimeError, MemoryError) as error:
                if size == 1 or not out_of_memory(error):
                    raise
                self._halve(size)
            else:
                at += size
        return results[0] if len(results) == 1 else torch.cat(results)

    def _halve(self, size: int) -> None:
        import torch  # noqa: PLC0415

        with self._lock:
            self.rows = min(self.rows, size // 2)
        if torch.cuda.is_available():
            torch.cuda.empty_cache()


def rows_that_fit(forward: Forward, sample: Any, device: str) -> int:  # noqa: ANN401 - a torch tensor
    """Return the rows of one forward pass: by free memory on a GPU, a power of two; a fixed number on a CPU.

    `sample` is a tensor of at least one row, as `forward` takes it. A power of two, so that a little more or less free
    memory does not change the sums.
    """
    import torch  # noqa: PLC0415

    if device == "cpu":
        return _CPU_ROWS
    probe = sample[:1].expand(_PROBE_ROWS, *sample.shape[1:])
    forward(probe)  # the first call allocates what stays
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    forward(probe)
    torch.cuda.synchronize()
    a_row = max(1, (torch.cuda.max_memory_allocated() - before) // _PROBE_ROWS)
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return fitting_power(int(free * _SHARE_OF_FREE), a_row, _MAX_GPU_ROWS)


def fitting_power(free_bytes: int, row_bytes: int, most: int) -> int:
    """Return the largest power of two of rows that the bytes have room for, at least 1 and at most `most`."""
    return min(most, 1 << max(0, (max(free_bytes, 0) // max(row_bytes, 1)).bit_length() - 1))
