"""Write one file of the demo crawl, or the list of WATs of another source; return its counts."""

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
    """Call the function that writes a part of this source, `listing.write` or the demo's `write_part`."""
    return write(out, **args)
