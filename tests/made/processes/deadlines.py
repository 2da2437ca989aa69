"""Deadlines for tests on a busy machine: short for requests that are meant to hang, and minutes for all others."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import replace
from typing import Any, Final

import pytest

from laion_dask.web.fetch import fetcher, guard
from laion_dask.web.fetch.exchange import Ask, ExchangeLimits, Reply

LONG_S: Final = 120.0
"""The deadline for whatever is meant to end by itself."""
SHORT_S: Final = 0.5


@contextmanager
def short_for(hangs: Callable[[str], bool], within_s: float = SHORT_S) -> Iterator[None]:
    """Give requests for addresses that hang a deadline of `within_s`; others keep that of the settings."""
    real = fetcher.open_session

    @asynccontextmanager
    async def opened(*arguments: Any, **options: Any) -> AsyncIterator[Ask]:  # noqa: ANN401 - of open_session
        async with real(*arguments, **options) as ask:

            async def asked(target: guard.Target, limits: ExchangeLimits, wanted: Callable[[Reply], bool]) -> Reply:
                shorter = replace(limits, timeout_s=within_s) if hangs(target.href) else limits
                return await ask(target, shorter, wanted)

            yield asked

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(fetcher, "open_session", opened)
        yield
