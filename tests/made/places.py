"""Where the project and the helpers of its tests lie."""

from __future__ import annotations

from pathlib import Path
from typing import Final

MADE: Final = Path(__file__).parent
ROOT: Final = Path(__file__).parents[2]
