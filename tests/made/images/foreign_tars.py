"""Tars that others made, for tests: pictures of any kind, and `laion-dask score` over a folder of them."""

from __future__ import annotations

import io
from typing import Any

from made.images import small_clips
from PIL import Image
from typer.testing import CliRunner

from laion_dask.cli.main import app


def picture(kind: str, number: int = 1) -> bytes:
    """Return a small picture in any format of Pillow."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(small_clips.jpeg(number))).save(buffer, kind)
    return buffer.getvalue()


def run(*arguments: object) -> Any:  # noqa: ANN401 - click's result
    """Run `laion-dask score` in this process."""
    return CliRunner().invoke(app, ["score", *(str(argument) for argument in arguments)])
