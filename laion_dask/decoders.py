"""Bodies in, prepared pictures out, decoded in processes of their own: a crash or a hang costs one row.

A decoder lives as long as its owner and takes one body after the other through a pipe, so that it costs little more
than the copies. What it may take is time of its own: a machine that is busy, or stands still, is not counted, so that
it cannot turn a picture into a bad one (`patience`). One that dies, hangs or runs out of memory is replaced; the body
it died on is tried once more in a fresh process, because what kills a process (the kernel, out of memory) may have had
nothing to do with it.
"""

from __future__ import annotations

import atexit
import contextlib
import dataclasses
import fcntl
import json
import os
import queue
import select
import signal
import subprocess
import sys
import threading
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

from laion_dask.blur import Box
from laion_dask.decoder_process import ANSWER_HEAD, BODY_HEAD, OUT_OF_MEMORY
from laion_dask.images import Prepared, Rules
from laion_dask.patience import Patience

CRASHED: Final = "decoder_crashed"

_PIPE_BYTES: Final = 1 << 20  # Linux gives this to anyone: most bodies then go through in one write
_START_S: Final = 60.0
_TRIES: Final = 2
_REMEDY: Final = "Remedy: raise download.decode_memory_mb, or see whether `import laion_dask.images` works"


class DecoderError(Exception):
    """A decoder cannot be started, or the machine gives it no time: no fault of a picture."""


class _DiedError(Exception):
    """The process ended before it answered; the message says how."""


class Decoder:
    """One process that decodes, for one caller at a time. Started on first use, and after each end."""

    def __init__(self, rules: Rules, *, timeout_s: float, memory_bytes: int) -> None:
        self._rules = rules
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._process: subprocess.Popen[bytes] | None = None
        self._ready = False

    @property
    def pid(self) -> int | None:
        """The process that runs now."""
        return self._process.pid if self._process else None

    def start(self) -> None:
        """Start the process without waiting for it."""
        if self._process is not None:
            return
        package = str(Path(__file__).parents[1])
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self._ready = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "laion_dask.decoder_process"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            bufsize=0,
            # Threads of BLAS would reserve the memory that the pictures need.
            env={**os.environ, "PYTHONPATH": path, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"},
            # Ctrl-C is for the owner, who closes the pipe.
            process_group=0,
        )
        for end in self._ends():
            os.set_blocking(end, False)
            with contextlib.suppress(OSError, AttributeError):
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def prepare(self, body: bytes, boxes: Sequence[Box] = ()) -> Prepared:
        """Do what `images.prepare` does; `decoder_crashed` where the process crashed on it twice, or took too long."""
        died = ""
        for _ in range(_TRIES):
            self.start()
            try:
                if not self._ready:
                    self._greet()
                return self._ask(body, boxes, Patience(self.pid or 0, self._timeout_s))
            except TimeoutError:
                self.close()
                return Prepared(CRASHED, f"not decoded within {self._timeout_s:g} s")
            except _DiedError as error:
                died = str(error)
                self.close()
        return Prepared(CRASHED, died)

    def close(self) -> None:
        """End the process, whatever it does; a later body starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _ends(self) -> tuple[int, int]:
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise DecoderError("the decoder has no process: a bug of the caller")
        return self._process.stdin.fileno(), self._process.stdout.fileno()

    def _greet(self) -> None:
        """Hand over the rules, and wait until the process has made its imports."""
        settings = {
            "rules": dataclasses.asdict(self._rules),
            "timeout_s": self._timeout_s,
            "memory_bytes": self._memory_bytes,
        }
        patience = Patience(self.pid or 0, _START_S)
        try:
            self._send(settings, b"", patience)
            self._answer(patience)
        except TimeoutError:
            raise DecoderError(f"a decoder did not start within {_START_S:g} s. {_REMEDY}") from None
        self._ready = True

    def _ask(self, body: bytes, boxes: Sequence[Box], patience: Patience) -> Prepared:
        self._send([list(box) for box in boxes], body, patience)
        fields, picture = self._answer(patience)
        if fields["reason"] == OUT_OF_MEMORY:
            raise _DiedError(f"decoding takes more memory than {self._memory_bytes // 1_000_000} MB")
        return Prepared(**fields, picture=picture)

    def _answer(self, patience: Patience) -> tuple[dict[str, Any], bytes]:
        text_bytes, picture_bytes = ANSWER_HEAD.unpack(self._receive(ANSWER_HEAD.size, patience))
        rest = self._receive(text_bytes + picture_bytes, patience)
        return json.loads(rest[:text_bytes]), bytes(rest[text_bytes:])

    def _send(self, about: object, body: bytes, patience: Patience) -> None:
        end, _ = self._ends()
        text = json.dumps(about).encode()
        parts = [memoryview(BODY_HEAD.pack(len(text), len(body)) + text), memoryview(body)]
        while parts:
            try:
                sent = os.writev(end, parts)
            except BlockingIOError:
                self._wait(end, select.POLLOUT, patience)
                continue
            except BrokenPipeError:
                raise self._died() from None
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if parts:
                parts[0] = parts[0][sent:]

    def _receive(self, size: int, patience: Patience) -> bytearray:
        _, end = self._ends()
        received = bytearray()
        while len(received) < size:
            try:
                chunk = os.read(end, size - len(received))
            except BlockingIOError:
                self._wait(end, select.POLLIN, patience)
                continue
            if not chunk:
                raise self._died()
            received += chunk
        return received

    def _wait(self, end: int, event: int, patience: Patience) -> None:
        if not patience.wait(end, event):
            self.close()
            raise DecoderError(
                f"a decoder got no time for {patience.most_s:g} s. Remedy: run again on a quieter machine"
            )

    def _died(self) -> _DiedError:
        status = self._process.wait() if self._process else 0
        if status < 0:
            names = {member.value: member.name for member in signal.Signals}
            return _DiedError(f"the decoder was killed by {names.get(-status, -status)}")
        if not self._ready:
            raise DecoderError(f"a decoder ended with status {status} before it decoded anything. {_REMEDY}")
        return _DiedError(f"the decoder ended with status {status}")


_KEPT: OrderedDict[tuple[object, ...], Decoders] = OrderedDict()
_KEPT_RULES: Final = 4
_KEEPING: Final = threading.Lock()


def kept(rules: Rules, *, count: int, timeout_s: float, memory_bytes: int) -> Decoders:
    """Return decoders that this process keeps until it ends: starting one costs as much as a hundred pictures.

    A worker has one set of rules; of several in one process the last few are kept.
    """
    key = (rules, count, timeout_s, memory_bytes)
    with _KEEPING:
        if key not in _KEPT:
            ready = Decoders(rules, count=count, timeout_s=timeout_s, memory_bytes=memory_bytes)
            _KEPT[key] = ready.__enter__()
        _KEPT.move_to_end(key)
        while len(_KEPT) > _KEPT_RULES:
            _KEPT.popitem(last=False)[1].__exit__(None, None, None)
        return _KEPT[key]


@atexit.register
def _end_kept() -> None:
    while _KEPT:
        _KEPT.popitem()[1].__exit__(None, None, None)


class Decoders:
    """A context manager of `count` decoders for as many threads: each body goes to one that is free."""

    def __init__(self, rules: Rules, *, count: int, timeout_s: float, memory_bytes: int) -> None:
        self._all = [Decoder(rules, timeout_s=timeout_s, memory_bytes=memory_bytes) for _ in range(count)]
        self._free: queue.SimpleQueue[Decoder] = queue.SimpleQueue()

    def __enter__(self) -> Self:
        for decoder in self._all:
            decoder.start()
            self._free.put(decoder)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        for decoder in self._all:
            decoder.close()

    def prepare(self, body: bytes, boxes: Sequence[Box] = ()) -> Prepared:
        """Do what `Decoder.prepare` does."""
        with self._one() as decoder:
            return decoder.prepare(body, boxes)

    @contextlib.contextmanager
    def _one(self) -> Iterator[Decoder]:
        decoder = self._free.get()
        try:
            yield decoder
        finally:
            self._free.put(decoder)
