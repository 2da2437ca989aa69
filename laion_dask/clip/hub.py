"""Load what open_clip needs from the hub's cache on this machine; ask the hub only where the cache lacks it.

The hub's client retries a hub that does not answer: six attempts of up to 60 s with pauses of 23 s in all, for every
name that a file may have. So one request is sent first; where it is not answered, the machine counts as offline.
"""

from __future__ import annotations

import queue
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Final, TypeVar

T = TypeVar("T")
# HF_HUB_OFFLINE is global to the process: two tasks must not reset it for each other.
_offline: Final = threading.Lock()


class HubError(ConnectionError):
    """The hub did not answer one request; the message has its address and the cause."""


def cache() -> str:
    """Return the hub's cache folder: HF_HUB_CACHE, or its default."""
    from huggingface_hub import constants  # noqa: PLC0415 - seconds

    return str(constants.HF_HUB_CACHE)


def cached_or_fetched(make: Callable[[], T], what: str) -> T:
    """Return what `make` returns: offline where the cache has all it needs, else with requests to the hub.

    Cached files are not revalidated, so all workers load the same weights. `what` is printed before a fetch. Raises
    `HubError` where the hub does not answer, and what `make` raises.
    """
    try:
        with _cache_alone():
            return make()
    except Exception as error:
        # Any exception: open_clip and transformers wrap the hub's errors in their own.
        if not _wanted_the_hub(error):
            raise
    from huggingface_hub import constants  # noqa: PLC0415

    sys.stderr.write(f"fetching {what} from {constants.ENDPOINT}\n")
    _ask(constants.ENDPOINT, constants.HF_HUB_ETAG_TIMEOUT)
    return make()


def licence(folder: Path) -> str | None:
    """Return the licence that the model card in a folder states (`license` of README.md's front matter), if any."""
    from huggingface_hub import ModelCard  # noqa: PLC0415 - seconds

    card = folder / "README.md"
    if not card.is_file():
        return None
    try:
        stated = ModelCard.load(card, ignore_metadata_errors=True).data.license
    except Exception:  # noqa: BLE001 - a card that others wrote: its YAML and its fields raise errors of several libraries
        return None
    listed = stated if isinstance(stated, list) else [stated]
    return ", ".join(str(one) for one in listed if one) or None


@contextmanager
def _cache_alone() -> Iterator[None]:
    """Keep the hub's client offline inside the block, as HF_HUB_OFFLINE=1 does for a whole process."""
    from huggingface_hub import constants  # noqa: PLC0415

    with _offline:
        was_offline = constants.HF_HUB_OFFLINE
        constants.HF_HUB_OFFLINE = True
        try:
            yield
        finally:
            constants.HF_HUB_OFFLINE = was_offline


def _wanted_the_hub(error: BaseException | None) -> bool:
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled  # noqa: PLC0415

    while error is not None:
        if isinstance(error, LocalEntryNotFoundError | OfflineModeIsEnabled):
            return True
        error = error.__cause__ or error.__context__
    return False


def _ask(address: str, timeout_s: float) -> None:
    """Raise `HubError` unless one request is answered in time, with any status."""
    from huggingface_hub import get_session  # noqa: PLC0415

    answers: queue.SimpleQueue[Exception | None] = queue.SimpleQueue()

    def request() -> None:
        try:
            get_session().head(address, timeout=timeout_s, follow_redirects=False)
        except Exception as error:  # noqa: BLE001 - it is raised below, by the thread that waits
            answers.put(error)
        else:
            answers.put(None)

    # A daemon thread, which may outlive the timeout: DNS has none, and each address of a host has a timeout of its own.
    threading.Thread(target=request, daemon=True).start()
    try:
        error = answers.get(timeout=timeout_s)
    except queue.Empty:
        message = f"{address} gave no answer within {timeout_s} s (HF_HUB_ETAG_TIMEOUT is how long it may take)"
        raise HubError(message) from None
    if error is not None:
        message = f"{address} gave no answer: {error}"
        raise HubError(message) from error
