"""Forward passes in slices: halved when memory runs out, really out of memory included, and remembered."""

from __future__ import annotations

import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st
from made.processes import programs

from laion_dask.clip import devices
from laion_dask.clip.devices import Slices

LIMITED = """
import resource, torch
from laion_dask.clip.devices import Slices

torch.set_num_threads(1)
weight = torch.ones(1_000, 1_000)
forward = lambda rows: (rows.view(-1, 1, 1_000) * weight).sum(-1)  # 4 MB a row
forward(torch.ones(1, 1_000))
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 100_000_000, resource.RLIM_INFINITY))
slices = Slices(64)
results = slices.run(forward, torch.ones(70, 1_000))
assert results.shape == (70, 1_000) and bool((results == 1_000).all())
print(slices.rows)
slices.run(forward, torch.ones(70, 1_000))
print(slices.rows)
"""


@pytest.mark.slow
def test_a_forward_pass_without_memory_is_halved_until_it_fits_and_that_is_remembered() -> None:
    """The processor's memory is limited to 100 MB more than is used; 64 rows at once would take 256 MB."""
    done = programs.finished([sys.executable, "-c", LIMITED])
    assert done.returncode == 0, done.stderr
    first, second = (int(line) for line in done.stdout.split())
    assert first == second
    assert first in {8, 16}


def test_slices_give_what_one_pass_gives_and_keep_the_order() -> None:
    import torch

    sizes: list[int] = []

    def forward(rows: torch.Tensor) -> torch.Tensor:
        sizes.append(len(rows))
        if len(rows) > 5:
            message = "CUDA out of memory. Tried to allocate 2.00 GiB"
            raise torch.OutOfMemoryError(message)
        return rows * 2

    slices = Slices(32)
    rows = torch.arange(23)
    assert torch.equal(slices.run(forward, rows), rows * 2)
    assert sizes == [23, 11, 5, 5, 5, 5, 3]
    assert slices.rows == 5


def test_a_row_that_never_fits_and_any_other_error_are_raised() -> None:
    import torch

    def full(_: torch.Tensor) -> torch.Tensor:
        raise torch.OutOfMemoryError

    def wrong(_: torch.Tensor) -> torch.Tensor:
        message = "shapes do not fit"
        raise RuntimeError(message)

    with pytest.raises(torch.OutOfMemoryError):
        Slices(8).run(full, torch.arange(4))
    slices = Slices(8)
    with pytest.raises(RuntimeError, match="shapes do not fit"):
        slices.run(wrong, torch.arange(4))
    assert slices.rows == 8


@given(st.integers(0, 2**40), st.integers(1, 2**30), st.integers(0, 12))
def test_the_rows_that_fit_are_a_power_of_two_that_has_room(free: int, row: int, most: int) -> None:
    found = devices.fitting_power(free, row, 2**most)
    assert found & (found - 1) == 0
    assert 1 <= found <= 2**most
    assert found == 1 or found * row <= free
    assert found == 2**most or 2 * found * row > free


def test_on_a_processor_the_device_is_one_thread_and_a_fixed_batch(monkeypatch: pytest.MonkeyPatch) -> None:
    import torch

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    assert devices.find() == "cpu"
    assert torch.get_num_threads() == 1
    assert devices.decoders("cpu") == 1
    assert devices.rows_that_fit(lambda rows: rows, torch.ones(1, 3), "cpu") == 64
    assert not devices.pixel_buffer(2, (4, 6), "cpu").is_pinned()
    assert devices.pixel_buffer(2, (4, 6), "cpu").shape == (2, 4, 6, 3)
