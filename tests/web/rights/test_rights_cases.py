"""Every case of the table of rights ends as it says, and docs/rights.md shows that table."""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator

import pytest
from made.texts import rights_cases
from made.texts.rights_cases import CASES, ERROR, KEPT, Case

from laion_dask.schema.reasons import REASONS
from laion_dask.schema.values import SIGNALS
from laion_dask.web.rights import c2pa
from laion_dask.web.rights.decision import Policy

STRICT = rights_cases.strict()


@pytest.fixture
def library(case: Case, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    if case.library:
        yield
        return
    case.body()  # signed while the library is there
    with monkeypatch.context() as without:
        without.setitem(sys.modules, "c2pa", None)  # an import fails, as where it is not installed
        c2pa.library.cache_clear()
        yield
    c2pa.library.cache_clear()


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.signal}: {case.sentence}")
def test_a_word_of_the_owner_ends_as_the_table_says(case: Case) -> None:
    decision, ends = rights_cases.decide(case, STRICT)
    assert (decision.rights, decision.signal, ends) == (case.rights, case.decided, case.ends), decision
    assert bool(ends == KEPT) is not STRICT.binds(decision)


@pytest.mark.usefixtures("library")
@pytest.mark.parametrize("case", CASES, ids=lambda case: f"{case.signal}: {case.sentence}")
def test_where_nothing_binds_every_picture_is_kept_and_no_refusal_is_lost(case: Case) -> None:
    """As in the recipe laion-5b-as-run."""
    none = Policy((), (), STRICT.tokens, STRICT.directives)
    decision, ends = rights_cases.decide(case, none)
    assert ends == (KEPT if case.answer == 200 else ERROR)
    if case.rights != "allowed":
        assert decision.rights == case.rights


def test_the_table_has_cases_of_every_signal_for_and_against() -> None:
    assert len(CASES) >= 60
    assert len({(case.signal, case.sentence) for case in CASES}) == len(CASES)
    refusing = Counter(case.decided for case in CASES if case.rights == "refused")
    passing = Counter(case.signal for case in CASES if case.ends == KEPT)
    assert set(refusing) == set(SIGNALS)
    assert set(passing) >= set(SIGNALS)
    assert all(case.decided in REASONS["download"] for case in CASES if case.ends != KEPT)


def test_the_page_shows_the_table() -> None:
    text = rights_cases.PAGE.read_text(encoding="utf-8")
    assert rights_cases.page(text) == text, "run PYTHONPATH=tests python -m made.texts.rights_cases"
