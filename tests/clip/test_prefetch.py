"""Decoding ahead: threads and processes write the same pixels, and no process outlives the one that asked for it."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import psutil
import pytest
from made.images import small_clips
from made.processes import programs

from laion_dask import params
from laion_dask.clip import models, prefetch
from laion_dask.clip.prefetch import Prefetcher, Processes, Threads
from laion_dask.clip.preprocess import Preparation

BODIES = [small_clips.jpeg(1), b"no image", small_clips.jpeg(2, (300, 40)), small_clips.jpeg(3, (20, 20))]

ORPHANS = """
import os, signal, sys
from laion_dask.clip.prefetch import Processes

if __name__ == "__main__":
    decoders = Processes(2)
    decoders._pool.submit(os.getpid).result()
    print(*decoders._pool._processes, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.fixture(scope="module")
def preparations() -> list[Preparation]:
    return [models.load(params.Model(name="demo", model="demo")).preparation]


@pytest.fixture(scope="module")
def processes() -> Iterator[Processes]:
    started = Processes(2)
    yield started
    started.end()


def pixels(decoders: Prefetcher, preparations: list[Preparation], first: int) -> tuple[list[bool], np.ndarray]:
    room = decoders.room(8, preparations)
    (key,) = (one.key for one in preparations)
    room.tensors[key].fill_(7)
    done = decoders.decode(BODIES, None, preparations, room, first).result()
    found = room.tensors[key].numpy().copy()
    decoders.uploaded(room)
    return done, found


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 3])
def test_processes_write_what_threads_write_into_the_rows_that_were_asked_for(
    processes: Processes, preparations: list[Preparation], first: int
) -> None:
    threads = Threads(1, "cpu")
    wanted, found = (pixels(decoders, preparations, first) for decoders in (threads, processes))
    threads.close()
    assert wanted[0] == found[0] == [True, False, True, True]
    assert np.array_equal(wanted[1], found[1])
    untouched = np.setdiff1d(np.arange(8), first + np.array([0, 2, 3]))
    assert (found[1][untouched] == 7).all()
    assert (found[1][first] != 7).any()


def test_processes_read_texts_as_the_tokenizer_here_does(processes: Processes) -> None:
    import torch

    tokenizer = models.load(params.Model(name="demo", model="demo")).tokenizer
    texts = ["a red star", "", "zwei Häuser am Meer " * 40]
    for _ in range(2):
        assert torch.equal(processes.read(tokenizer, texts).result(), tokenizer(texts))


def test_a_room_is_used_again_once_it_is_given_back(processes: Processes, preparations: list[Preparation]) -> None:
    first = processes.room(8, preparations)
    second = processes.room(8, preparations)
    assert first is not second
    processes.uploaded(first)
    assert processes.room(8, preparations) is first
    processes.uploaded(first)
    processes.uploaded(second)


def test_a_room_of_threads_is_refused_by_processes(processes: Processes, preparations: list[Preparation]) -> None:
    with pytest.raises(TypeError, match="another kind"):
        processes.uploaded(Threads(1, "cpu").room(1, preparations))


def test_on_a_cpu_threads_decode() -> None:
    assert isinstance(prefetch.start("cpu"), Threads)


@pytest.mark.slow
def test_processes_end_with_the_one_that_asked_for_them_however_it_ends(tmp_path: Path) -> None:
    program = tmp_path / "program.py"
    program.write_text(ORPHANS)
    done = programs.finished([sys.executable, program])
    started = [int(pid) for pid in done.stdout.split()]
    assert started, done.stderr
    programs.until(lambda: not any(map(psutil.pid_exists, started)), f"the processes {started} end")
