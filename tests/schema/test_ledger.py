"""The closed list of reasons, and the ledger whose sides must be equal."""

from __future__ import annotations

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from laion_dask.schema import reasons as verdict
from laion_dask.schema.ledger import Ledger, LedgerError
from laion_dask.schema.reasons import KEEP, REASON_STAGE, REASONS

ends = st.lists(st.sampled_from([KEEP, *REASON_STAGE]), max_size=60)


def ledger_of(verdicts: list[str]) -> Ledger:
    ledger = Ledger()
    ledger.add(verdicts)
    return ledger


@settings(deadline=None)
@given(ends)
def test_kept_and_dropped_are_what_was_seen(verdicts: list[str]) -> None:
    ledger = ledger_of(verdicts)
    assert ledger.seen == len(verdicts)
    assert ledger.kept == verdicts.count(KEEP)
    assert dict(ledger.dropped) == {reason: verdicts.count(reason) for reason in set(verdicts) - {KEEP}}
    ledger.check("here", expected=len(verdicts))


@settings(deadline=None)
@given(ends, ends)
def test_parts_add_up_to_the_whole(first: list[str], second: list[str]) -> None:
    total = Ledger.total([ledger_of(first).as_dict(), ledger_of(second).as_dict()])
    assert total.as_dict() == ledger_of(first + second).as_dict()


@settings(deadline=None)
@given(ends)
def test_a_ledger_survives_json_with_reasons_in_the_order_of_the_list(verdicts: list[str]) -> None:
    counts = json.loads(json.dumps(ledger_of(verdicts).as_dict()))
    assert Ledger.from_dict(counts) == ledger_of(verdicts)
    assert list(counts["dropped"]) == [reason for reason in REASON_STAGE if reason in set(verdicts)]


@settings(deadline=None)
@given(ends.filter(lambda verdicts: set(verdicts) - {KEEP}), st.data())
def test_a_reason_that_is_not_counted_breaks_the_check(verdicts: list[str], data: st.DataObject) -> None:
    ledger = ledger_of(verdicts)
    del ledger.dropped[data.draw(st.sampled_from(sorted(ledger.dropped)))]
    with pytest.raises(LedgerError, match=r"^stage: .* rows seen, but .* kept"):
        ledger.check("stage")


@pytest.mark.parametrize("expected", [2, 4])
def test_rows_that_vanish_or_appear_between_stages_break_the_check(expected: int) -> None:
    with pytest.raises(LedgerError, match=f"{expected} rows came from the stage before, 3 were seen here"):
        ledger_of([KEEP, KEEP, "robots"]).check("download", expected=expected)


@pytest.mark.parametrize("reason", ["", "Robots", "gone", "keep "])
def test_an_unknown_reason_is_refused_and_not_counted(reason: str) -> None:
    ledger = Ledger()
    with pytest.raises(LedgerError, match=r"unknown reason .* add it to REASONS in laion_dask/schema/reasons\.py"):
        ledger.add([reason])
    assert ledger == Ledger()


def test_rows_are_counted_in_bulk() -> None:
    ledger = Ledger()
    ledger.keep(5)
    ledger.drop("timeout", 2)
    assert ledger.as_dict() == {"seen": 7, "kept": 5, "dropped": {"timeout": 2}}


def test_each_reason_belongs_to_one_stage_and_has_a_meaning() -> None:
    assert len(REASON_STAGE) == sum(len(reasons) for reasons in REASONS.values())
    assert KEEP not in REASON_STAGE
    assert all(meaning.strip() for reasons in verdict.REASONS.values() for meaning in reasons.values())
