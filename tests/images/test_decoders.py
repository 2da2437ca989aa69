"""A decoder that is killed, stopped, or asked for too much costs one row at most, and the next body decodes."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from made.images import marked
from made.images.pictures import RULES, encoded, photo, prepared, rules
from made.places import ROOT, TESTS
from made.processes import programs
from PIL import Image

from laion_dask import params
from laion_dask.images import prepare
from laion_dask.images.decoders import CRASHED, DecoderError, DecoderProcess, Decoders
from laion_dask.images.prepare import Prepared
from laion_dask.schema.reasons import KEEP, REASONS
from laion_dask.web.rights.decision import Policy
from laion_dask.web.rights.embedded import decide_file

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
def decoder(
    timeout_s: float = 30.0,
    memory_bytes: int = MEMORY,
    policy: Policy | None = None,
    stalled_s: float = 300.0,
    **changes: object,
) -> Iterator[DecoderProcess]:
    one = DecoderProcess(
        rules(**changes), timeout_s=timeout_s, memory_bytes=memory_bytes, policy=policy, stalled_s=stalled_s
    )
    try:
        yield one
    finally:
        one.close()


def running(one: DecoderProcess) -> int:
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
def each_process(one: DecoderProcess, act: Callable[[int], None], times: int) -> Iterator[list[int]]:
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
        assert blurred == prepare.prepare(BODY, RULES, boxes)
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


def test_a_body_that_takes_more_processor_time_than_allowed_ends_with_the_reason_and_the_next_decodes() -> None:
    with decoder(timeout_s=0.05) as one:
        first = one.start() or running(one)
        result = one.prepare(SLOW)
        assert result == Prepared(CRASHED, "takes more than 0.05 s of processor time")
        assert not alive(first)
    with decoder(timeout_s=30) as one:
        assert one.prepare(SLOW) == prepared(SLOW)


@pytest.mark.slow
@pytest.mark.parametrize("body", [BODY, LARGE], ids=["in the pipe", "larger than the pipe"])
def test_a_machine_that_gives_no_processor_for_longer_than_the_limit_decides_nothing(body: bytes) -> None:
    with decoder(timeout_s=2) as one:
        one.prepare(BODY)
        os.kill(stopped := running(one), signal.SIGSTOP)
        wakes = threading.Timer(5, os.kill, (stopped, signal.SIGCONT))
        wakes.start()
        assert one.prepare(body) == prepared(body)
        assert one.pid == stopped
        wakes.join()


@pytest.mark.slow
@pytest.mark.parametrize("body", [BODY, LARGE], ids=["in the pipe", "larger than the pipe"])
def test_a_process_that_does_not_run_is_replaced_and_the_body_decodes(body: bytes) -> None:
    with decoder(stalled_s=8) as one:
        one.prepare(BODY)
        os.kill(stopped := running(one), signal.SIGSTOP)
        assert one.prepare(body) == prepared(body)
        assert not alive(stopped)


@pytest.mark.slow
def test_a_machine_that_lets_no_process_run_is_an_error_and_no_verdict_about_the_picture() -> None:
    with decoder(stalled_s=8) as one:
        one.prepare(BODY)
        os.kill(running(one), signal.SIGSTOP)
        over = threading.Event()

        def stop_others(seen: int) -> None:
            while not over.wait(0.01):
                if (pid := one.pid) is not None and pid != seen:
                    os.kill(seen := pid, signal.SIGSTOP)

        stopping = threading.Thread(target=stop_others, args=(running(one),))
        stopping.start()
        with pytest.raises(DecoderError, match=r"used no processor time for 8 s. Remedy"):
            one.prepare(BODY)
        over.set()
        stopping.join()


@pytest.mark.slow
def test_a_body_that_needs_more_memory_than_allowed_ends_with_the_reason_and_the_next_decodes() -> None:
    large = encoded(Image.new("L", (6_000, 6_000)))
    with decoder(memory_bytes=300_000_000) as one:
        assert one.prepare(BODY) == prepared(BODY)
        result = one.prepare(encoded(Image.new("RGBA", (6_000, 6_000))))
        assert (result.reason, result.picture) == (CRASHED, b"")
        assert result.message == "decoding takes more memory than 300 MB"
        assert one.prepare(large).reason == KEEP


@pytest.mark.slow
def test_with_the_default_memory_the_largest_picture_that_is_allowed_decodes(defaults: params.Params) -> None:
    largest = encoded(Image.new("RGBA", (8_000, 5_000), (9, 9, 9, 99)), compress_level=1)
    assert defaults.download.max_pixels == 8_000 * 5_000
    with decoder(memory_bytes=defaults.download.decode_memory_mb * 1_000_000) as one:
        assert one.prepare(largest).reason == KEEP


STRICT = Policy(unknown=("xmp_data_mining", "xmp_tdm", "c2pa"))
SAID = {
    "nothing": BODY,
    "a refusal in XMP": marked.with_xmp("PNG", marked.mining("DMI-PROHIBITED")),
    "a permission in XMP": marked.with_xmp("JPEG", marked.mining("DMI-ALLOWED")),
    "a refusal of TDMRep": marked.with_xmp("PNG", marked.packet("<tdm:reservation>1</tdm:reservation>")),
    "a refusal in a C2PA manifest": marked.signed("JPEG", {"cawg.ai_training": {"use": "notAllowed"}}),
    "no picture": b"<html>",
}


@pytest.mark.parametrize("body", SAID.values(), ids=SAID.keys())
def test_what_an_owner_wrote_into_a_picture_is_read_in_the_process(body: bytes, defaults: params.Params) -> None:
    """A picture that its owner refuses is not decoded; with the default memory a manifest can be read."""
    date = "2015-10-21T07:28:00Z"
    with decoder(policy=STRICT, memory_bytes=defaults.download.decode_memory_mb * 1_000_000) as one:
        decision, result = one.process(body, (), date)
    assert decision == decide_file(body, STRICT, date)
    told = Prepared(decision.signal, f"refused by {decision.signal}")
    assert result == (told if STRICT.binds(decision) else prepared(body))


def test_hostile_words_of_an_owner_are_read_within_the_limits() -> None:
    element = f"{marked.RDF} DataMining".encode() + b"<a/>" * 4_000_000
    xmp = b"<x:xmpmeta xmlns:x='adobe:ns:meta/'>" + element + b"</x:xmpmeta>"
    body = b"II*\0" + xmp
    with decoder(policy=STRICT, timeout_s=10, memory_bytes=400_000_000) as one:
        first = one.start() or running(one)
        decision, result = one.process(body)
        assert (decision.rights, decision.signal, result.reason) == ("unknown", "xmp_data_mining", "xmp_data_mining")
        assert one.pid == first


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


@pytest.mark.slow
def test_a_decoder_ends_when_its_owner_is_gone() -> None:
    code = (
        f"import os, sys; sys.path.insert(0, {str(TESTS)!r});"
        "from made.images.pictures import RULES; from laion_dask.images.decoders import DecoderProcess as One;"
        "one = One(RULES, timeout_s=30, memory_bytes=2_000_000_000); one.prepare(b''); print(one.pid, flush=True);"
        "os._exit(1)"
    )
    done = programs.finished([sys.executable, "-c", code], cwd=ROOT)
    programs.until(lambda: not alive(int(done.stdout)), "the decoder ends")


def test_what_a_library_prints_does_not_land_between_the_answers(shared_data: Path) -> None:
    # libtiff complains on standard error, Pillow warns: both of files that decode.
    files = [*(shared_data / "images" / "robustness" / "pillow").glob("*.tif"), *_with_broken_exif(shared_data)]
    assert len(files) > 5
    with decoder() as one:
        assert [one.prepare(path.read_bytes()).reason for path in files] == [KEEP] * len(files)


def _with_broken_exif(shared_data: Path) -> list[Path]:
    return sorted((shared_data / "images" / "robustness" / "pillow").glob("*exif*.jpg"))
