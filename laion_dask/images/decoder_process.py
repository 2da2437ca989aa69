"""The decoder's program: reads bodies from standard input, writes prepared pictures to standard output.

    python -m laion_dask.images.decoder_process

The first message has the settings in JSON. Each further message has a request in JSON and a body; each answer has the
rights decision and the fields of `images.Prepared` in JSON, and the encoded picture. Bodies are hostile: memory is
limited, writing files is disabled, and a body that takes too much processor time or memory or crashes a codec ends only
this process. `decoders.py` is the other end.
"""

from __future__ import annotations

import dataclasses
import json
import os
import resource
import signal
import struct
import sys
import warnings
from typing import Any, BinaryIO, Final

BODY_HEAD: Final = struct.Struct("<IQ")
"""Header of each message: the lengths of its JSON and of the body after it."""
ANSWER_HEAD: Final = struct.Struct("<IQ")
"""Header of each answer: the lengths of its JSON and of the picture after it."""
READY: Final = "ready"
"""The reason of the first answer, which acknowledges the settings."""
OUT_OF_MEMORY: Final = "memory"
"""The reason of an answer after which the process ends."""


def main() -> None:
    """Answer until standard input ends."""
    bodies = sys.stdin.buffer
    # Output that a library prints must not end up between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    settings = (_message(bodies) or ({}, b""))[0]
    _limit(settings["memory_bytes"])

    from laion_dask.images import received  # noqa: PLC0415 - imported under the limits

    rules = received.rules_of(settings["rules"])
    policy = received.policy_of(settings["policy"])
    _answer(answers, {"reason": READY}, b"")
    while (message := _message(bodies)) is not None:
        request, body = message
        # A limit of processor time, not of wall time, so that the load of the machine does not affect results. At the
        # limit, SIGPROF kills the process. SIGALRM ends a process that waits for an owner that has died.
        signal.setitimer(signal.ITIMER_PROF, settings["timeout_s"])
        signal.setitimer(signal.ITIMER_REAL, settings["wall_s"])
        try:
            decision, prepared = received.process(body, rules, policy, request["boxes"], request["time"])
        except MemoryError:
            _answer(answers, {"reason": OUT_OF_MEMORY}, b"")
            return
        signal.setitimer(signal.ITIMER_PROF, 0)
        fields = {name: getattr(prepared, name) for name in received.FIELDS}
        _answer(answers, {"decision": dataclasses.asdict(decision), **fields}, prepared.picture)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit(memory_bytes: int) -> None:
    for kind, limit in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        # The hard limit may be lower already, and cannot be raised.
        hard = resource.getrlimit(kind)[1]
        lowest = limit if hard == resource.RLIM_INFINITY else min(limit, hard)
        resource.setrlimit(kind, (lowest, lowest))
    # The parent process may ignore these signals, which is inherited.
    for number in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    # Pillow warns of broken EXIF and of large pictures; both are handled.
    warnings.simplefilter("ignore")


def _message(stream: BinaryIO) -> tuple[Any, bytes] | None:
    head = stream.read(BODY_HEAD.size)
    if len(head) < BODY_HEAD.size:
        return None
    text_bytes, body_bytes = BODY_HEAD.unpack(head)
    return json.loads(stream.read(text_bytes)), stream.read(body_bytes)


def _answer(stream: BinaryIO, fields: dict[str, object], picture: bytes) -> None:
    text = json.dumps(fields).encode()
    stream.write(ANSWER_HEAD.pack(len(text), len(picture)) + text + picture)
    stream.flush()


if __name__ == "__main__":
    main()
