"""Lists of prompts for tests of zero-shot tags."""

from __future__ import annotations

# As many as LAION-400M has, with harmless names instead of its prompts.
LISTS = {
    "neutral": [f"landscape {number}" for number in range(19)],
    "unsafe": [f"cake {number}" for number in range(17)],
    "joined": 12,
    "minors": [f"sapling {number}" for number in range(4)],
    "adults": [f"tree {number}" for number in range(4)],
    "things": [f"stone {number}" for number in range(21)],
    "animals": [f"bird {number}" for number in range(12)],
    "words": ["teen", "kid", "child", "baby"],
}
