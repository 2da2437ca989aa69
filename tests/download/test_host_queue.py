"""Rows by host: limits hold at every moment, every row ends once, and a host that fails holds up nobody."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from hypothesis import given
from hypothesis import settings as tested
from hypothesis import strategies as st

from laion_dask import params
from laion_dask.download.host_queue import HostQueue


def settings(defaults: params.Params, **changes: object) -> params.Download:
    given: dict[str, Any] = {"connections_per_host": 2, "connections_per_domain": 3, "host_failures": 3, **changes}
    return defaults.download.model_copy(update=given)


HOSTS = ("a.one.example", "b.one.example", "c.one.example", "two.example", "three.example")


@tested(deadline=None)
@given(
    hosts=st.lists(st.sampled_from(HOSTS), max_size=60),
    ends=st.lists(st.tuples(st.integers(0, 100), st.sampled_from(["good", "good", "failed", "paused"])), max_size=60),
)
def test_every_row_ends_once_and_limits_hold_whatever_happens(
    defaults: params.Params, hosts: list[str], ends: list[tuple[int, str]]
) -> None:
    queue = HostQueue(hosts, settings(defaults))
    running: list[int] = []
    ended: list[int] = []
    how = iter(ends)
    while not queue.done:
        while (row := queue.start()) is not None:
            running.append(row)
        at = [hosts[row] for row in running]
        assert all(at.count(host) <= 2 for host in HOSTS)
        assert sum(host.endswith("one.example") for host in at) <= 3
        while (given_up := queue.give_up()) is not None:
            ended.append(given_up)
        if not running:
            assert queue.done
            break
        which, end = next(how, (0, "good"))
        row = running.pop(which % len(running))
        ended.append(row)
        queue.end(row, failed=end == "failed", paused=end == "paused")
    assert sorted(ended) == list(range(len(hosts)))
    assert not running


def test_hosts_take_turns_and_a_slow_one_holds_up_no_other(defaults: params.Params) -> None:
    queue = HostQueue(["slow.example"] * 50 + ["a.example", "b.example"], settings(defaults))
    # Nothing has ended yet: one row of each host is under way.
    assert [queue.start() for _ in range(4)] == [0, 50, 51, None]
    queue.end(0)
    assert [queue.start() for _ in range(3)] == [1, 2, None]


def test_a_host_that_fails_is_tried_once_more_at_the_end_and_then_given_up(defaults: params.Params) -> None:
    queue = HostQueue(["dead.example"] * 9 + ["a.example"] * 2, settings(defaults))
    order, dropped = drive(queue, lambda row: row < 9)
    assert order == [0, 9, 1, 10, 2, 3]
    assert dropped == [4, 5, 6, 7, 8]


def test_a_host_that_answers_the_probe_goes_on(defaults: params.Params) -> None:
    queue = HostQueue(["ill.example"] * 9, settings(defaults))
    order, dropped = drive(queue, lambda row: row < 3)
    assert (order, dropped) == (list(range(9)), [])


def test_failures_that_are_not_in_a_row_open_nothing(defaults: params.Params) -> None:
    queue = HostQueue(["half.example"] * 12, settings(defaults))
    order, dropped = drive(queue, lambda row: row % 3 != 0)
    assert (len(order), dropped) == (12, [])


def test_a_host_that_asks_for_a_long_pause_is_not_asked_again(defaults: params.Params) -> None:
    queue = HostQueue(["a.example"] * 4, settings(defaults))
    assert queue.start() == 0
    queue.end(0, paused=True)
    assert queue.start() is None
    assert [queue.give_up() for _ in range(4)] == [1, 2, 3, None]
    assert queue.done


def drive(queue: HostQueue, fails: Callable[[int], bool]) -> tuple[list[int], list[int]]:
    """Run one row at a time to the end: rows in the order in which they began, and those given up."""
    order, dropped = [], []
    while not queue.done:
        row = queue.start()
        while (given_up := queue.give_up()) is not None:
            dropped.append(given_up)
        if row is not None:
            order.append(row)
            queue.end(row, failed=fails(row))
    return order, dropped
