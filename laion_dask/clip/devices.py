"""Choose CPU or GPU, and run forward passes there in slices that fit into its memory."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final

# Rows of a forward pass on a CPU: more bring no speed.
_CPU_ROWS: Final = 64
_MAX_GPU_ROWS: Final = 1024
# The share of free memory to use: the rest is for fragmentation and for the results.
_SHARE_OF_FREE: Final = 0.6
_PROBE_ROWS: Final = 8

Forward = Callable[[Any], Any]
"""Map the rows of a tensor to as many rows of results on the same device."""


def find() -> str:
    """Return `cuda` where this process may use a GPU, else `cpu` with one thread.

    One thread, whatever the number of workers, keeps the order of sums, so that results are equal bit for bit. The
    cores are used by one process each.
    """
    import torch  # noqa: PLC0415

    if torch.cuda.is_available():
        # TF32 would round the inputs of float32 products to 10 bits.
        torch.backends.cudnn.allow_tf32 = False
        return "cuda"
    torch.set_num_threads(1)
    return "cpu"


def decoders(device: str) -> int:
    """Return how many images are decoded at once: on a GPU its share of the cores, on a CPU one.

    On a CPU every core has its own worker, whose decoding thread runs only while the worker reads or writes.
    """
    if device == "cpu":
        return 1
    import torch  # noqa: PLC0415

    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, cores // max(1, torch.cuda.device_count()))


def dtype(precision: str) -> Any:  # noqa: ANN401 - a torch dtype
    """Return the torch dtype of a network's weights and activations.

    It applies to all of them, not only where autocast would use it: on an H200 ViT-L/14 then encodes 1.39 times the
    images, as close to float32 (`make bench-score-gpu`). Products, softmax and layer norms sum in float32 anyway.
    """
    import torch  # noqa: PLC0415

    return {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}[precision]


def pixel_buffer(rows: int, side: tuple[int, int], device: str) -> Any:  # noqa: ANN401 - a torch tensor
    """Allocate a buffer for pixels: uint8 (rows, height, width, 3), pinned where a GPU reads it."""
    import torch  # noqa: PLC0415

    return torch.empty((rows, *side, 3), dtype=torch.uint8, pin_memory=device == "cuda")


def upload(rows: Any, device: str) -> Any:  # noqa: ANN401 - torch tensors
    """Copy rows to the device; from pinned memory asynchronously."""
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
    """The rows of one forward pass: halved when memory runs out, for the rest of the process.

    With `fixed` every pass has exactly that many rows, the last padded with its last row: a compiled network has one
    input shape.
    """

    def __init__(self, rows: int, *, fixed: bool = False) -> None:
        self.rows = rows
        self._fixed = fixed
        self._lock = threading.Lock()

    def run(self, forward: Forward, rows: Any) -> Any:  # noqa: ANN401 - torch tensors
        """Apply `forward` to all rows in slices; raises what it raises for a single row."""
        import torch  # noqa: PLC0415

        results, at = [], 0
        while at < len(rows):
            size = min(self.rows, len(rows) - at)
            chunk = rows[at : at + size]
            if self._fixed and size < self.rows:
                chunk = torch.cat([chunk, chunk[-1:].expand(self.rows - size, *chunk.shape[1:])])
            try:
                results.append(forward(chunk)[:size])
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
    """Return the rows of one forward pass: a power of two by free memory on a GPU, a fixed number on a CPU.

    `sample` is an input of `forward` with at least one row. With powers of two small differences in free memory do not
    change the order of sums.
    """
    import torch  # noqa: PLC0415

    if device == "cpu":
        return _CPU_ROWS
    probe = sample[:1].expand(_PROBE_ROWS, *sample.shape[1:])
    forward(probe)  # the first call also allocates memory that stays allocated
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    forward(probe)
    torch.cuda.synchronize()
    a_row = max(1, (torch.cuda.max_memory_allocated() - before) // _PROBE_ROWS)
    free = torch.cuda.mem_get_info()[0] + torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return fitting_power(int(free * _SHARE_OF_FREE), a_row, _MAX_GPU_ROWS)


def fitting_power(free_bytes: int, row_bytes: int, most: int) -> int:
    """Return the largest power of two of rows that fit into the bytes, at least 1 and at most `most`."""
    return min(most, 1 << max(0, (max(free_bytes, 0) // max(row_bytes, 1)).bit_length() - 1))
