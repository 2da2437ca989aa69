"""One file of the crawl, or the list of another source in; its files and counts out."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any


def crawl(
    out: Path,
    *,
    write: Callable[..., dict[str, Any]],
    **args: Any,  # noqa: ANN401 - as `write` takes them
) -> dict[str, Any]:
    """Call what writes a part of this source: `listing.write`, or the demo's `write_part`, which returns its counts."""
    return write(out, **args)
