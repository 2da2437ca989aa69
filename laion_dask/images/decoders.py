"""Prepare pictures in separate processes, so that a crash or a hang of a decoder costs one row only.

A decoder lives as long as its owner and takes one body after the other through a pipe, so that it costs little more
than the copies. One that dies or runs out of memory is replaced; the body it died on is tried once more in a fresh
process, because what kills a process (the kernel, out of memory) may have had nothing to do with it. Its limit of time
is one of the processor, so that a busy machine decides nothing about a picture. One that uses no processor at all is
stuck for a reason of the machine: it is replaced too, and what happens twice is an error and no verdict.
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
from types import TracebackType
from typing import Any, Final, Self

import psutil

from laion_dask.images.blur import Box
from laion_dask.images.decoder_process import ANSWER_HEAD, BODY_HEAD, OUT_OF_MEMORY
from laion_dask.images.prepare import Prepared, Rules
from laion_dask.storage import packaged
from laion_dask.web.rights.decision import SILENT, Decision, Policy

CRASHED: Final = "decoder_crashed"

STALLED_S: Final = 300.0
"""A process that has used no processor time at all for so long is stuck: stopped, or waiting for a dead disk."""

_PIPE_BYTES: Final = 1 << 20  # Linux gives this to anyone: most bodies then go through in one write
_WALL_S: Final = 3_600.0  # in which a decoder gets its processor time on the busiest machine
_LOOK_S: Final = 1.0  # between two looks at the processor time of a process that is waited for
_TRIES: Final = 2
_STALLED_REMEDY: Final = "Remedy: see what stops processes or the disk of this machine, and run again"
_REMEDY: Final = "Remedy: raise download.decode_memory_mb, or see whether `import laion_dask.images.prepare` works"


class DecoderError(Exception):
    """A decoder cannot be started, or does not run: no fault of a picture."""


class _DiedError(Exception):
    """The process ended before it answered; the message says how."""


class _SlowError(Exception):
    """The process has used up its processor time."""


class _StalledError(Exception):
    """The process does not run, and has not answered."""


class DecoderProcess:
    """One process that decodes, for one caller at a time. Started on first use, and after each end."""

    def __init__(
        self,
        rules: Rules,
        *,
        timeout_s: float,
        memory_bytes: int,
        policy: Policy | None = None,
        stalled_s: float = STALLED_S,
    ) -> None:
        """Decode by `rules`; with a policy, read first what the owner wrote into the picture.

        `timeout_s` is processor time for one body.
        """
        self._rules = rules
        self._policy = policy
        self._timeout_s = timeout_s
        self._memory_bytes = memory_bytes
        self._stalled_s = stalled_s
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
        package = str(packaged.PROJECT)
        path = os.pathsep.join(filter(None, (package, os.environ.get("PYTHONPATH"))))
        self._ready = False
        self._process = subprocess.Popen(
            [sys.executable, "-m", "laion_dask.images.decoder_process"],
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
        """Do what `images.prepare` does; `decoder_crashed` as `look` has it."""
        return self.look(body, boxes)[1]

    def look(self, body: bytes, boxes: Sequence[Box] = (), time: str | None = None) -> tuple[Decision, Prepared]:
        """Do what `received.look` does; `decoder_crashed` where the process crashed on it twice, or took too long.

        Raises `DecoderError` where a process does not start, or twice does not run.
        """
        died, stalled = list[str](), 0
        while len(died) < _TRIES and stalled < _TRIES:
            self.start()
            try:
                if not self._ready:
                    self._greet()
                return self._ask(body, boxes, time)
            except _SlowError:
                died = [f"takes more than {self._timeout_s:g} s of processor time"] * _TRIES
            except _StalledError:
                stalled += 1
            except _DiedError as error:
                died.append(str(error))
            self.close()
        if stalled == _TRIES:
            raise DecoderError(f"a decoder used no processor time for {self._stalled_s:g} s. {_STALLED_REMEDY}")
        return SILENT, Prepared(CRASHED, died[-1])

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
        """Hand over the settings, and wait until the process has made its imports."""
        settings = {
            "rules": dataclasses.asdict(self._rules),
            "policy": dataclasses.asdict(self._policy) if self._policy is not None else None,
            "timeout_s": self._timeout_s,
            "memory_bytes": self._memory_bytes,
            "wall_s": _WALL_S + self._timeout_s,
        }
        waiting = _Waiting(self._pid(), self._stalled_s)
        self._send(settings, b"", waiting)
        self._answer(waiting)
        self._ready = True

    def _ask(self, body: bytes, boxes: Sequence[Box], time: str | None) -> tuple[Decision, Prepared]:
        waiting = _Waiting(self._pid(), self._stalled_s)
        self._send({"boxes": [list(box) for box in boxes], "time": time}, body, waiting)
        fields, picture = self._answer(waiting)
        if fields["reason"] == OUT_OF_MEMORY:
            raise _DiedError(f"decoding takes more memory than {self._memory_bytes // 1_000_000} MB")
        return Decision(**fields.pop("decision")), Prepared(**fields, picture=picture)

    def _answer(self, waiting: _Waiting) -> tuple[dict[str, Any], bytes]:
        text_bytes, picture_bytes = ANSWER_HEAD.unpack(self._receive(ANSWER_HEAD.size, waiting))
        rest = self._receive(text_bytes + picture_bytes, waiting)
        return json.loads(rest[:text_bytes]), bytes(rest[text_bytes:])

    def _send(self, about: object, body: bytes, waiting: _Waiting) -> None:
        end, _ = self._ends()
        text = json.dumps(about).encode()
        parts = [memoryview(BODY_HEAD.pack(len(text), len(body)) + text), memoryview(body)]
        while parts:
            try:
                sent = os.writev(end, parts)
            except BlockingIOError:
                waiting.until(end, select.POLLOUT)
                continue
            except BrokenPipeError:
                raise self._died() from None
            while parts and sent >= len(parts[0]):
                sent -= len(parts.pop(0))
            if parts:
                parts[0] = parts[0][sent:]

    def _receive(self, size: int, waiting: _Waiting) -> bytearray:
        _, end = self._ends()
        received = bytearray()
        while len(received) < size:
            try:
                chunk = os.read(end, size - len(received))
            except BlockingIOError:
                waiting.until(end, select.POLLIN)
                continue
            if not chunk:
                raise self._died()
            received += chunk
        return received

    def _pid(self) -> int:
        if self._process is None:
            raise DecoderError("the decoder has no process: a bug of the caller")
        return self._process.pid

    def _died(self) -> Exception:
        status = self._process.wait() if self._process else 0
        if status == -signal.SIGPROF:
            return _SlowError()
        if status == -signal.SIGALRM:
            return _StalledError()
        if status < 0:
            names = {member.value: member.name for member in signal.Signals}
            return _DiedError(f"the decoder was killed by {names.get(-status, -status)}")
        if not self._ready:
            raise DecoderError(f"a decoder ended with status {status} before it decoded anything. {_REMEDY}")
        return _DiedError(f"the decoder ended with status {status}")


class _Waiting:
    """Waits for a process for as long as it runs: for one that uses processor time, there is no clock."""

    def __init__(self, pid: int, stalled_s: float) -> None:
        self._pid = pid
        self._stalled_s = stalled_s
        self._used_s = -1.0
        self._idle_s = 0.0

    def until(self, end: int, event: int) -> None:
        """Wait until the pipe is ready; `_StalledError` where the process has not run since long."""
        waiting = select.poll()
        waiting.register(end, event)
        while not waiting.poll(_LOOK_S * 1000):
            # Counted in looks: where the whole machine was asleep, no time has passed.
            used_s = _processor_s(self._pid)
            self._idle_s = self._idle_s + _LOOK_S if used_s == self._used_s else 0.0
            self._used_s = used_s
            if self._idle_s > self._stalled_s:
                raise _StalledError


def _processor_s(pid: int) -> float:
    """Return the processor time that a process has used; it stands still for one that is gone."""
    with contextlib.suppress(psutil.Error):
        used = psutil.Process(pid).cpu_times()
        return float(used.user + used.system)
    return 0.0


_KEPT: OrderedDict[tuple[object, ...], Decoders] = OrderedDict()
_KEPT_RULES: Final = 4
_KEEPING: Final = threading.Lock()


def kept(rules: Rules, policy: Policy, *, count: int, timeout_s: float, memory_bytes: int) -> Decoders:
    """Return decoders that this process keeps until it ends: starting one costs as much as a hundred pictures.

    A worker has one set of rules; of several in one process the last few are kept.
    """
    key = (rules, policy, count, timeout_s, memory_bytes)
    with _KEEPING:
        if key not in _KEPT:
            ready = Decoders(rules, count=count, timeout_s=timeout_s, memory_bytes=memory_bytes, policy=policy)
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

    def __init__(
        self, rules: Rules, *, count: int, timeout_s: float, memory_bytes: int, policy: Policy | None = None
    ) -> None:
        self._all = [
            DecoderProcess(rules, timeout_s=timeout_s, memory_bytes=memory_bytes, policy=policy) for _ in range(count)
        ]
        self._free: queue.SimpleQueue[DecoderProcess] = queue.SimpleQueue()

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
        return self.look(body, boxes)[1]

    def look(self, body: bytes, boxes: Sequence[Box] = (), time: str | None = None) -> tuple[Decision, Prepared]:
        """Do what `Decoder.look` does."""
        with self._one() as decoder:
            return decoder.look(body, boxes, time)

    @contextlib.contextmanager
    def _one(self) -> Iterator[DecoderProcess]:
        decoder = self._free.get()
        try:
            yield decoder
        finally:
            self._free.put(decoder)
