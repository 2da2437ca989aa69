"""Decode images ahead of the forward pass, in a thread or in processes, into shared buffers.

On a CPU one thread decodes while the forward pass waits. A GPU needs thousands of images a second, for which threads
would block each other on Python's GIL: there, processes write into memory shared with the process that feeds the GPU.
"""

from __future__ import annotations

import functools
import math
import mmap
import multiprocessing
import os
import pickle
import threading
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from multiprocessing import connection
from typing import Any, Final, Protocol, cast

import numpy as np

from laion_dask.clip import devices, preprocess
from laion_dask.clip.preprocess import Preparation, UnreadableImageError

BODIES_AT_ONCE: Final = 64
"""Images in one call of a decoder."""

Tokenizer = Callable[[list[str]], Any]
"""Maps texts to an int64 tensor (rows, context)."""

_Address = tuple[int, int, int]
"""Process id, file descriptor and size in bytes of shared memory."""
_Shapes = tuple[tuple[str, tuple[int, ...]], ...]


class PixelBuffer(Protocol):
    """A buffer for the pixels of one batch."""

    @property
    def tensors(self) -> Mapping[str, Any]:
        """For each preparation uint8 (rows, height, width, 3), pinned where a GPU reads it."""


class Prefetcher(Protocol):
    """Decodes the images of one part ahead of its forward passes."""

    def room(self, rows: int, preparations: Sequence[Preparation]) -> PixelBuffer:
        """Return a buffer for a batch."""

    def decode(
        self,
        bodies: Sequence[bytes],
        needed_px: int | None,
        preparations: Sequence[Preparation],
        room: PixelBuffer,
        first: int,
    ) -> Future[list[bool]]:
        """Decode bodies into the buffer from row `first` on; the result says for each whether it could be decoded."""

    def read(self, tokenizer: Tokenizer, texts: Sequence[str]) -> Future[Any]:
        """Tokenize texts: int64 (rows, context)."""

    def uploaded(self, room: PixelBuffer) -> None:
        """Release a buffer whose copy to the device has been started."""

    def close(self) -> None:
        """End the threads that were started for this part."""


def start(device: str) -> Prefetcher:
    """Start the decoders of a part: processes for a GPU, where this process may have children; else threads."""
    number = devices.decoders(device)
    # Dask's workers are daemons, which may not have children, unless cluster.py configures them otherwise.
    if device == "cpu" or number == 1 or multiprocessing.current_process().daemon:
        return Threads(number, device)
    return _processes(number)


def decode(
    bodies: Sequence[bytes], needed_px: int | None, preparations: Sequence[Preparation], rooms: Sequence[np.ndarray]
) -> list[bool]:
    """Decode each body into its row of every buffer; return for each whether it could be decoded."""
    done = []
    for row, body in enumerate(bodies):
        try:
            image = preprocess.decode(body, needed_px)
        except UnreadableImageError:
            done.append(False)
        else:
            preprocess.prepare(image, preparations, [room[row] for room in rooms], quick=needed_px is not None)
            done.append(True)
    return done


class _Own:
    """A buffer in this process's memory; torch caches pinned memory for the next batch."""

    def __init__(self, rows: int, preparations: Sequence[Preparation], device: str) -> None:
        self.tensors = {one.key: devices.pixel_buffer(rows, one.side, device) for one in preparations}


class Threads:
    """Threads of this process."""

    def __init__(self, number: int, device: str) -> None:
        self._device = device
        self._pool = ThreadPoolExecutor(number)

    def room(self, rows: int, preparations: Sequence[Preparation]) -> PixelBuffer:
        """Return a buffer in this process's memory."""
        return _Own(rows, preparations, self._device)

    def decode(
        self,
        bodies: Sequence[bytes],
        needed_px: int | None,
        preparations: Sequence[Preparation],
        room: PixelBuffer,
        first: int,
    ) -> Future[list[bool]]:
        """As `Prefetcher.decode`."""
        rooms = [room.tensors[one.key].numpy()[first:] for one in preparations]
        return self._pool.submit(decode, bodies, needed_px, preparations, rooms)

    def read(self, tokenizer: Tokenizer, texts: Sequence[str]) -> Future[Any]:
        """As `Prefetcher.read`."""
        return self._pool.submit(tokenizer, list(texts))

    def uploaded(self, room: PixelBuffer) -> None:
        """Do nothing: torch tracks when pinned memory can be reused."""

    def close(self) -> None:
        """End the threads."""
        self._pool.shutdown(cancel_futures=True)


class _Nameless:
    """Memory that other processes of this user can map, and that ends with this process (memfd).

    Not a file in /dev/shm, which containers often limit to 64 MB.
    """

    def __init__(self, content: bytes | int) -> None:
        size = content if isinstance(content, int) else len(content)
        file = os.memfd_create("laion-dask")
        os.ftruncate(file, size)
        self.memory = mmap.mmap(file, size)
        if isinstance(content, bytes):
            self.memory[:] = content
        self.address: _Address = os.getpid(), file, size


class _Shared:
    """A buffer that decoding processes write and a GPU reads: pinned once, used for many batches."""

    def __init__(self, shapes: _Shapes) -> None:
        import torch  # noqa: PLC0415 - seconds

        self.shapes = shapes
        size = sum(math.prod(shape) for _, shape in shapes)
        self._pixels = _Nameless(size)
        self.address = self._pixels.address
        whole = torch.frombuffer(self._pixels.memory, dtype=torch.uint8)
        self.tensors = {key: torch.from_numpy(part) for key, part in _parts(whole.numpy(), shapes).items()}
        if torch.cuda.is_available():
            runtime: Any = torch.cuda.cudart()  # type: ignore[no-untyped-call]
            code = int(runtime.cudaHostRegister(whole.data_ptr(), size, 0))
            if code:
                raise RuntimeError(f"{size:,} bytes of shared memory cannot be pinned (CUDA error {code})")
            self.copied = torch.cuda.Event()  # type: ignore[no-untyped-call]

    def wait(self) -> None:
        """Wait until the device has copied the previous batch out of this buffer."""
        if hasattr(self, "copied"):
            self.copied.synchronize()


class Processes:
    """Decoding processes that live as long as this process, with reused buffers."""

    def __init__(self, number: int) -> None:
        # fork would copy CUDA's state and held locks; a fork server has done the imports already and forks fast.
        context = multiprocessing.get_context("forkserver")
        context.set_forkserver_preload(["laion_dask.clip.preprocess", "open_clip.transform"])
        self._pool = ProcessPoolExecutor(number, mp_context=context, initializer=_end_with_the_parent)
        self._threads = ThreadPoolExecutor(2)
        self._free: dict[_Shapes, list[_Shared]] = {}
        self._lock = threading.Lock()
        self._pickled: dict[int, tuple[Tokenizer, _Nameless]] = {}

    def room(self, rows: int, preparations: Sequence[Preparation]) -> PixelBuffer:
        """Return a released buffer, or a new one."""
        shapes = tuple((one.key, (rows, *one.side, 3)) for one in preparations)
        with self._lock:
            free = self._free.setdefault(shapes, [])
            room = free.pop(0) if free else None
        room = room or _Shared(shapes)
        room.wait()
        return room

    def decode(
        self,
        bodies: Sequence[bytes],
        needed_px: int | None,
        preparations: Sequence[Preparation],
        room: PixelBuffer,
        first: int,
    ) -> Future[list[bool]]:
        """As `Prefetcher.decode`."""
        shared = _shared(room)
        return self._pool.submit(_decode, bodies, needed_px, preparations, shared.address, shared.shapes, first)

    def read(self, tokenizer: Tokenizer, texts: Sequence[str]) -> Future[Any]:
        """As `Prefetcher.read`; a tokenizer is pickled once, and unpickled once in each process."""
        with self._lock:
            if id(tokenizer) not in self._pickled:
                # The tokenizer is kept too, so that its id is not reused.
                self._pickled[id(tokenizer)] = tokenizer, _Nameless(pickle.dumps(tokenizer))
            address = self._pickled[id(tokenizer)][1].address
        return self._threads.submit(lambda: _tensor(self._pool.submit(_read, address, list(texts)).result()))

    def uploaded(self, room: PixelBuffer) -> None:
        """Release the buffer; its next user waits for the copy."""
        shared = _shared(room)
        if hasattr(shared, "copied"):
            shared.copied.record()
        with self._lock:
            self._free[shared.shapes].append(shared)

    def close(self) -> None:
        """Do nothing: the next part reuses the processes and the buffers."""

    def end(self) -> None:
        """End the processes."""
        self._pool.shutdown(cancel_futures=True)
        self._threads.shutdown(cancel_futures=True)


@functools.cache
def _processes(number: int) -> Processes:
    return Processes(number)


def _shared(room: PixelBuffer) -> _Shared:
    if not isinstance(room, _Shared):
        raise TypeError("a buffer of another kind of decoder")
    return room


def _parts(whole: np.ndarray, shapes: _Shapes) -> dict[str, np.ndarray]:
    parts, at = {}, 0
    for key, shape in shapes:
        size = math.prod(shape)
        parts[key] = whole[at : at + size].reshape(shape)
        at += size
    return parts


def _decode(
    bodies: Sequence[bytes],
    needed_px: int | None,
    preparations: Sequence[Preparation],
    address: _Address,
    shapes: _Shapes,
    first: int,
) -> list[bool]:
    parts = _parts(_mapped(address), shapes)
    return decode(bodies, needed_px, preparations, [parts[one.key][first:] for one in preparations])


def _read(address: _Address, texts: list[str]) -> np.ndarray:
    return np.asarray(_tokenizer(address)(texts).numpy())


@functools.cache
def _tokenizer(address: _Address) -> Tokenizer:
    # The pickle comes from the parent process's memory, not from a file, so it can be trusted.
    return cast("Tokenizer", pickle.loads(_mapped(address).tobytes()))  # noqa: S301


def _tensor(tokens: np.ndarray) -> Any:  # noqa: ANN401 - a torch tensor
    import torch  # noqa: PLC0415

    return torch.from_numpy(tokens)


@functools.cache
def _mapped(address: _Address) -> np.ndarray:
    """Map memory of another process: uint8 (size,). Never released: an address always means the same memory."""
    owner, file, size = address
    opened = os.open(f"/proc/{owner}/fd/{file}", os.O_RDWR)
    try:
        return np.frombuffer(mmap.mmap(opened, size), np.uint8)
    finally:
        os.close(opened)


def _end_with_the_parent() -> None:
    """End this process when its parent ends, even if that is killed."""
    parent = multiprocessing.parent_process()
    if parent is not None:

        def watch(sentinel: int) -> None:
            connection.wait([sentinel])
            os._exit(1)

        threading.Thread(target=watch, args=(parent.sentinel,), daemon=True).start()
