"""A decoder that is killed, stopped, or asked for too much costs one row at most, and the next body decodes."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from pictures import RULES, encoded, photo, prepared, rules
from PIL import Image

from laion_dask import images, params
from laion_dask.decoders import CRASHED, Decoder, DecoderError, Decoders
from laion_dask.images import Prepared
from laion_dask.verdict import KEEP, REASONS

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning:PIL")

MEMORY = 2_000_000_000
BODY = encoded(photo(1, 320, 200), "JPEG")
BODIES = [
    BODY,
    encoded(photo(2, 1600, 1200), "JPEG", quality=95),
    encoded(photo(3, 300, 300), "PNG"),
    encoded(photo(4, 300, 300), "WEBP"),
    BODY[:3_000],
    b"",
    b"<html>",
    bytes(3_000_000),
    encoded(Image.new("1", (9_000, 9_000))),
]
# Larger than the pipe, so that a process that does not read blocks the one that writes.
LARGE = encoded(Image.effect_noise((1300, 1300), 90), "PNG")


@contextlib.contextmanager
def decoder(timeout_s: float = 30.0, memory_bytes: int = MEMORY, **changes: object) -> Iterator[Decoder]:
    one = Decoder(rules(**changes), timeout_s=timeout_s, memory_bytes=memory_bytes)
    try:
        yield one
    finally:
        one.close()


def running(one: Decoder) -> int:
    # A signal to process 0 goes to every process of this test run.
    assert one.pid, "the decoder has no process"
    return one.pid


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


@contextlib.contextmanager
def each_process(one: Decoder, act: Callable[[int], None], times: int) -> Iterator[list[int]]:
    """Do something to the decoder's process, and to those that replace it, once each has begun to decode."""
    met: list[int] = []
    over = threading.Event()

    def watch() -> None:
        while not over.is_set() and len(met) < times:
            pid = one.pid
            if pid is not None and pid not in met and _decodes(pid):
                met.append(pid)
                act(pid)
            time.sleep(0.001)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield met
    finally:
        over.set()
        watcher.join()


def _decodes(pid: int) -> bool:
    # With its imports a process takes about 55 MB, with the decoded picture of 36 million pixels about 200.
    with contextlib.suppress(OSError):
        resident = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return resident * os.sysconf("SC_PAGE_SIZE") > 100_000_000
    return False


def test_decoded_apart_a_body_gives_what_it_gives_here() -> None:
    with decoder() as one:
        for body in BODIES:
            assert one.prepare(body) == prepared(body)


def test_boxes_reach_the_process() -> None:
    boxes = [(0.2, 0.3, 0.5, 0.9), (0.6, 0.1, 0.9, 0.4)]
    with decoder() as one:
        blurred = one.prepare(BODY, boxes)
        assert blurred == images.prepare(BODY, RULES, boxes)
        assert blurred.picture != one.prepare(BODY).picture == prepared(BODY).picture


def test_rules_reach_the_process() -> None:
    changes: dict[str, object] = {"mode": "border", "side_px": 100, "encode": "webp", "quality": 50, "pdq": "exact"}
    with decoder(**changes) as one:
        assert one.prepare(BODY) == prepared(BODY, **changes)


def test_one_process_serves_all_bodies_and_ends_with_its_owner() -> None:
    with decoder() as one:
        pids = {(one.prepare(BODY), one.pid)[1] for _ in range(5)}
        assert len(pids) == 1
    assert not alive(pids.pop() or 0)


def test_a_process_that_is_killed_from_outside_is_replaced_and_the_body_decodes() -> None:
    with decoder() as one:
        one.prepare(BODY)
        os.kill(first := running(one), signal.SIGKILL)
        assert one.prepare(BODY) == prepared(BODY)
        assert one.pid != first


# A picture that takes long enough to be met while it decodes.
SLOW = encoded(Image.new("RGB", (6_000, 6_000), (9, 99, 200)), compress_level=1)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSEGV])
def test_a_body_on_which_two_processes_die_ends_with_the_reason_and_the_next_decodes(number: signal.Signals) -> None:
    with decoder() as one:
        one.prepare(BODY)
        with each_process(one, lambda pid: os.kill(pid, number), times=2) as met:
            result = one.prepare(SLOW)
        assert result == Prepared(CRASHED, f"the decoder was killed by {number.name}")
        assert len(met) == 2
        assert one.prepare(BODY) == prepared(BODY)


def test_a_body_on_which_one_process_dies_is_decoded_by_the_next() -> None:
    with decoder() as one:
        one.prepare(BODY)
        with each_process(one, lambda pid: os.kill(pid, signal.SIGSEGV), times=1) as met:
            result = one.prepare(SLOW)
        assert len(met) == 1
        assert result == prepared(SLOW)


@pytest.mark.parametrize("body", [BODY, LARGE], ids=["in the pipe", "larger than the pipe"])
def test_a_process_that_hangs_is_given_up_after_its_time(body: bytes) -> None:
    with decoder(timeout_s=3) as one:
        one.prepare(BODY)
        os.kill(stopped := running(one), signal.SIGSTOP)
        began = time.monotonic()
        result = one.prepare(body)
        assert result == Prepared(CRASHED, "not decoded within 3 s")
        assert time.monotonic() - began < 20
        assert not alive(stopped)
        assert one.prepare(BODY).reason == KEEP


def test_a_machine_that_stands_still_costs_no_picture() -> None:
    # The owner of the decoder is stopped with it, for longer than the decoder may take: nobody had the time.
    code = (
        "import sys; sys.path.insert(0, 'tests');"
        "from test_decoders import SLOW, decoder; from laion_dask.decoders import Decoder\n"
        "with decoder(timeout_s=3) as one:\n"
        "    one.prepare(b''); print(one.pid, flush=True); print(one.prepare(SLOW).reason, flush=True)\n"
    )
    root = Path(__file__).parents[1]
    with subprocess.Popen([sys.executable, "-c", code], cwd=root, stdout=subprocess.PIPE, text=True) as owner:
        assert owner.stdout is not None
        both = [int(owner.stdout.readline()), owner.pid]
        for _ in range(3):
            for number, seconds in ((signal.SIGSTOP, 4.0), (signal.SIGCONT, 0.05)):
                for pid in both:
                    with contextlib.suppress(ProcessLookupError):
                        os.kill(pid, number)
                time.sleep(seconds)
        assert owner.stdout.readline() == f"{KEEP}\n"


def test_a_process_that_is_ready_and_gets_no_processor_is_waited_for() -> None:
    with decoder(timeout_s=3) as one:
        one.prepare(BODY)
        # Others want the same processor, so that the clock is far ahead of what the decoder computes.
        here = min(os.sched_getaffinity(0))
        os.sched_setaffinity(running(one), {here})
        spin = [sys.executable, "-c", f"import os\nos.sched_setaffinity(0, {{{here}}})\nwhile True: pass"]
        hogs = [subprocess.Popen(spin) for _ in range(5)]
        try:
            assert one.prepare(SLOW) == prepared(SLOW)
        finally:
            for hog in hogs:
                hog.kill()
                hog.wait()


def test_a_body_that_needs_more_memory_than_allowed_ends_with_the_reason_and_the_next_decodes() -> None:
    large = encoded(Image.new("L", (6_000, 6_000)))
    with decoder(memory_bytes=300_000_000) as one:
        assert one.prepare(BODY) == prepared(BODY)
        result = one.prepare(encoded(Image.new("RGBA", (6_000, 6_000))))
        assert (result.reason, result.picture) == (CRASHED, b"")
        assert result.message == "decoding takes more memory than 300 MB"
        assert one.prepare(large).reason == KEEP


def test_with_the_default_memory_the_largest_picture_that_is_allowed_decodes(defaults: params.Params) -> None:
    largest = encoded(Image.new("RGBA", (8_000, 5_000), (9, 9, 9, 99)), compress_level=1)
    assert defaults.download.max_pixels == 8_000 * 5_000
    with decoder(memory_bytes=defaults.download.decode_memory_mb * 1_000_000) as one:
        assert one.prepare(largest).reason == KEEP


def test_a_process_that_cannot_start_is_an_error_with_the_remedy_and_no_verdict() -> None:
    with decoder(memory_bytes=20_000_000) as one, pytest.raises(DecoderError, match=r"decode_memory_mb"):
        one.prepare(BODY)


def test_the_reason_is_on_the_closed_list() -> None:
    assert CRASHED in REASONS["download"]


def test_many_threads_share_a_few_decoders_and_each_gets_its_own_answer() -> None:
    bodies = [encoded(photo(seed, 200 + seed, 100), "JPEG") for seed in range(24)]
    with Decoders(RULES, count=3, timeout_s=30, memory_bytes=MEMORY) as some, ThreadPoolExecutor(6) as pool:
        results = list(pool.map(some.prepare, bodies))
    assert results == [prepared(body) for body in bodies]


def test_a_decoder_ends_when_its_owner_is_gone() -> None:
    code = (
        "import os, sys; sys.path.insert(0, 'tests');"
        "from pictures import RULES; from laion_dask.decoders import Decoder;"
        "one = Decoder(RULES, timeout_s=30, memory_bytes=2_000_000_000); one.prepare(b''); print(one.pid, flush=True);"
        "os._exit(1)"
    )
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=False)
    deadline = time.monotonic() + 10
    while alive(int(done.stdout)) and time.monotonic() < deadline:
        time.sleep(0.02)
    assert not alive(int(done.stdout))


def test_what_a_library_prints_does_not_land_between_the_answers(shared_data: Path) -> None:
    # libtiff complains on standard error, Pillow warns: both of files that decode.
    files = [*(shared_data / "images" / "robustness" / "pillow").glob("*.tif"), *_with_broken_exif(shared_data)]
    assert len(files) > 5
    with decoder() as one:
        assert [one.prepare(path.read_bytes()).reason for path in files] == [KEEP] * len(files)


def _with_broken_exif(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "images" / "robustness" / "pillow").glob("*exif*.jpg"))
