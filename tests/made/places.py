"""Where the project and the helpers of its tests lie."""

from __future__ import annotations

from pathlib import Path
from typing import Final

ROOT: Final = Path(__file__).parents[2]
TESTS: Final = Path(__file__).parents[1]
"""What a program needs on its path to import `made`."""
