"""Run parts of the next stage while this one runs: each as soon as the part that it needs is final.

The next stage has workers of its own, by its own settings, so the GPUs of one stage work while the other waits for the
network. Its parts get the keys that the next stage asks for, so that this one finds them finished. What fails here
fails no stage: it is reported, and the next stage runs it again.
"""

from __future__ import annotations

import contextlib
import queue
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from laion_dask.params import Params
from laion_dask.runner.attempts import PartFunction
from laion_dask.runner.part import Done, Part


@dataclass(frozen=True, slots=True)
class Following:
    """What a stage must know of the next one to run its parts."""

    name: str
    unit: str
    function: PartFunction
    check: Callable[[Params], object]
    """As `Stage.check`."""
    part: Callable[[Params, Done], Part | None]
    """Returns the part of the next stage that needs this part only; None while it may still change."""
    gpu: bool = False


class Ahead:
    """Runs the parts that it is given, in another thread of the driver, a few at a time."""

    def __init__(
        self,
        find: Callable[[Done], Part | None],
        run: Callable[[Sequence[Part]], object],
        most: Callable[[], int],
        say: Callable[[str], None],
    ) -> None:
        """`run` finishes parts; `most` says how many it gets at once, since the stage waits for those at its end."""
        self._find, self._run, self._most, self._say = find, run, most, say
        self._finished: queue.SimpleQueue[Done | None] = queue.SimpleQueue()
        self._stopped = threading.Event()
        self._thread = threading.Thread(target=self._work, name="ahead", daemon=True)
        self.ready = 0
        """How many parts of the next stage are finished."""

    def add(self, done: Done) -> None:
        """Take note of a finished part of this stage."""
        self._finished.put(done)

    @contextmanager
    def running(self) -> Iterator[None]:
        """Run parts during the block; at its end, wait for those that have begun, unless the block has failed."""
        self._thread.start()
        try:
            yield
        except BaseException:
            self._stop()
            raise
        self._stop()
        self._thread.join()

    def _stop(self) -> None:
        self._stopped.set()
        self._finished.put(None)

    def _work(self) -> None:
        try:
            while not self._stopped.is_set():
                todo = [part for done in self._next() if (part := self._find(done)) is not None]
                if todo and not self._stopped.is_set():
                    self._run(todo)
                    self.ready += len(todo)
        except Exception as error:  # noqa: BLE001 - whatever fails here, the next stage runs again and reports
            if not self._stopped.is_set():
                self._say(f"nothing more runs ahead: {type(error).__name__}: {error}. The next stage runs it again.")

    def _next(self) -> list[Done]:
        """Wait for a finished part, and take the others that are there, as many as run at once."""
        found = [self._finished.get()]
        with contextlib.suppress(queue.Empty):
            while len(found) < max(1, self._most()):
                found.append(self._finished.get_nowait())
        return [done for done in found if done is not None]
