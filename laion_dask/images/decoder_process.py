"""The decoder's program: reads bodies from standard input, writes prepared pictures to standard output.

    python -m laion_dask.images.decoder_process

The first message is the settings in JSON. Then each message is what is asked in JSON and a body, and each answer a JSON
object with what the owner wrote into the picture and the fields of `images.Prepared`, its bytes behind it. Bodies are
hostile: the process has little memory, writes no file, and a body that takes too much processor time, asks for too much
memory or crashes a codec ends it, and nothing else. `decoders.py` is the other end.
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
"""Before each message to the process: the lengths of its JSON and of the body behind it."""
ANSWER_HEAD: Final = struct.Struct("<IQ")
"""Before each answer: the lengths of its JSON and of the picture behind it."""
READY: Final = "ready"
"""The reason of the first answer, to the rules."""
OUT_OF_MEMORY: Final = "memory"
"""An answer with this reason is the last one."""


def main() -> None:
    """Answer until standard input ends."""
    bodies = sys.stdin.buffer
    # What a library prints must not land between the answers.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    settings = (_message(bodies) or ({}, b""))[0]
    _limit(settings["memory_bytes"])

    from laion_dask.images import received  # noqa: PLC0415 - under the limits from the first line on

    rules = received.rules_of(settings["rules"])
    policy = received.policy_of(settings["policy"])
    _answer(answers, {"reason": READY}, b"")
    while (message := _message(bodies)) is not None:
        asked, body = message
        # The time of the processor, not of the clock: a busy machine must decide nothing about a picture. Where it is
        # used up, SIGPROF's default is to kill. If the other end has gone, SIGALRM's ends a body that only waits.
        signal.setitimer(signal.ITIMER_PROF, settings["timeout_s"])
        signal.setitimer(signal.ITIMER_REAL, settings["wall_s"])
        try:
            decision, prepared = received.look(body, rules, policy, asked["boxes"], asked["time"])
        except MemoryError:
            _answer(answers, {"reason": OUT_OF_MEMORY}, b"")
            return
        signal.setitimer(signal.ITIMER_PROF, 0)
        fields = {name: getattr(prepared, name) for name in received.FIELDS}
        _answer(answers, {"decision": dataclasses.asdict(decision), **fields}, prepared.picture)
        signal.setitimer(signal.ITIMER_REAL, 0)


def _limit(memory_bytes: int) -> None:
    for kind, most in ((resource.RLIMIT_AS, memory_bytes), (resource.RLIMIT_CORE, 0), (resource.RLIMIT_FSIZE, 0)):
        # A machine may allow less already, and then does not let it be raised.
        hard = resource.getrlimit(kind)[1]
        least = most if hard == resource.RLIM_INFINITY else min(most, hard)
        resource.setrlimit(kind, (least, least))
    # Whoever starts this process may have them ignored.
    for ending in (signal.SIGPROF, signal.SIGALRM):
        signal.signal(ending, signal.SIG_DFL)
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
