"""Prepare pictures in separate processes, so that a crash or a hang of a decoder costs only one row.

A decoder lives as long as its owner and receives bodies through a pipe, at little more than the cost of copying them.
One that dies or runs out of memory is replaced; its body is tried once more in a fresh process, because the cause (e.g.
the kernel, out of memory) may be unrelated to the body. The time limit is processor time, so that the load of the
machine does not affect results. A decoder that uses no processor time at all is stalled by the machine: it is replaced
too, and a second stall is an error, not a verdict on the picture.
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
"""A process without any processor time for this long is stalled: stopped, or waiting for a disk that hangs."""

_PIPE_BYTES: Final = 1 << 20  # Linux allows this to any user; most bodies then need one write
_WALL_S: Final = 3_600.0  # enough for a decoder to get its processor time on a busy machine
_POLL_S: Final = 1.0  # between two checks of a process's processor time
_TRIES: Final = 2
_STALLED_REMEDY: Final = "Remedy: find out what stops processes or the disk of this machine, and run again"
_REMEDY: Final = "Remedy: raise download.decode_memory_mb, or check that `import laion_dask.images.prepare` works"


class DecoderError(Exception):
    """A decoder cannot be started or stalls, for a reason other than a picture."""


class _DiedError(Exception):
    """The process ended before it answered; the message says how."""


class _SlowError(Exception):
    """The process has reached its limit of processor time."""


class _StalledError(Exception):
    """The process has stalled before it answered."""


class DecoderProcess:
    """A decoder process for one caller at a time; started on first use, restarted after each end."""

    def __init__(
        self,
        rules: Rules,
        *,
        timeout_s: float,
        memory_bytes: int,
        policy: Policy | None = None,
        stalled_s: float = STALLED_S,
    ) -> None:
        """Decode by `rules`; with a policy, first read the rights metadata of the picture.

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
        """The id of the running process."""
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
            env={
                **os.environ,
                "PYTHONPATH": path,
                "PYTHONSAFEPATH": "1",
                "OPENBLAS_NUM_THREADS": "1",
                "OMP_NUM_THREADS": "1",
            },
            # Ctrl-C goes to the owner only, which closes the pipe.
            process_group=0,
        )
        for end in self._ends():
            os.set_blocking(end, False)
            with contextlib.suppress(OSError, AttributeError):
                fcntl.fcntl(end, fcntl.F_SETPIPE_SZ, _PIPE_BYTES)

    def prepare(self, body: bytes, boxes: Sequence[Box] = ()) -> Prepared:
        """Run `images.prepare`; the reason is `decoder_crashed` as in `process`."""
        return self.process(body, boxes)[1]

    def process(self, body: bytes, boxes: Sequence[Box] = (), time: str | None = None) -> tuple[Decision, Prepared]:
        """Run `received.process`; the reason is `decoder_crashed` if the decoder crashed twice or took too long.

        Raises `DecoderError` if a decoder does not start, or stalls twice.
        """
        deaths, stalled = list[str](), 0
        while len(deaths) < _TRIES and stalled < _TRIES:
            self.start()
            try:
                if not self._ready:
                    self._configure()
                return self._ask(body, boxes, time)
            except _SlowError:
                deaths = [f"takes more than {self._timeout_s:g} s of processor time"] * _TRIES
            except _StalledError:
                stalled += 1
            except _DiedError as error:
                deaths.append(str(error))
            self.close()
        if stalled == _TRIES:
            raise DecoderError(f"a decoder used no processor time for {self._stalled_s:g} s. {_STALLED_REMEDY}")
        return SILENT, Prepared(CRASHED, deaths[-1])

    def close(self) -> None:
        """Kill the process; a later body starts another."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            process.communicate()

    def _ends(self) -> tuple[int, int]:
        if self._process is None or self._process.stdin is None or self._process.stdout is None:
            raise DecoderError("the decoder has no process: a bug of the caller")
        return self._process.stdin.fileno(), self._process.stdout.fileno()

    def _configure(self) -> None:
        """Send the settings, and wait until the process has imported its modules."""
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
    """Waits for a process as long as it uses processor time, without a limit of wall time."""

    def __init__(self, pid: int, stalled_s: float) -> None:
        self._pid = pid
        self._stalled_s = stalled_s
        self._used_s = -1.0
        self._idle_s = 0.0

    def until(self, end: int, event: int) -> None:
        """Wait until the pipe is ready; raises `_StalledError` if the process stalls."""
        pipe = select.poll()
        pipe.register(end, event)
        while not pipe.poll(_POLL_S * 1000):
            # Counted in polls, so that time in which the whole machine was suspended does not count.
            used_s = _processor_s(self._pid)
            self._idle_s = self._idle_s + _POLL_S if used_s == self._used_s else 0.0
            self._used_s = used_s
            if self._idle_s > self._stalled_s:
                raise _StalledError


def _processor_s(pid: int) -> float:
    """Return the processor time of a process in seconds; 0 if it has ended."""
    with contextlib.suppress(psutil.Error):
        used = psutil.Process(pid).cpu_times()
        return float(used.user + used.system)
    return 0.0


_CACHED: OrderedDict[tuple[object, ...], Decoders] = OrderedDict()
_MAX_CACHED: Final = 4
_CACHE_LOCK: Final = threading.Lock()


def cached(rules: Rules, policy: Policy, *, count: int, timeout_s: float, memory_bytes: int) -> Decoders:
    """Return decoders that this process reuses until it ends: starting one costs as much as a hundred pictures.

    A worker has one set of rules; the decoders of the last few sets are cached.
    """
    key = (rules, policy, count, timeout_s, memory_bytes)
    with _CACHE_LOCK:
        if key not in _CACHED:
            decoders = Decoders(rules, count=count, timeout_s=timeout_s, memory_bytes=memory_bytes, policy=policy)
            _CACHED[key] = decoders.__enter__()
        _CACHED.move_to_end(key)
        while len(_CACHED) > _MAX_CACHED:
            _CACHED.popitem(last=False)[1].__exit__(None, None, None)
        return _CACHED[key]


@atexit.register
def _close_cached() -> None:
    while _CACHED:
        _CACHED.popitem()[1].__exit__(None, None, None)


class Decoders:
    """A pool of `count` decoders for as many threads, as a context manager; each body goes to a free one."""

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
        """Run `DecoderProcess.prepare` on a free decoder."""
        return self.process(body, boxes)[1]

    def process(self, body: bytes, boxes: Sequence[Box] = (), time: str | None = None) -> tuple[Decision, Prepared]:
        """Run `DecoderProcess.process` on a free decoder."""
        with self._free_decoder() as decoder:
            return decoder.process(body, boxes, time)

    @contextlib.contextmanager
    def _free_decoder(self) -> Iterator[DecoderProcess]:
        decoder = self._free.get()
        try:
            yield decoder
        finally:
            self._free.put(decoder)
