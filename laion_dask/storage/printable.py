"""Escape characters in untrusted text that could control a terminal.

Alt texts, rights signals, addresses and file names may contain escape sequences that move the cursor or overwrite
output, and invisible or direction-changing characters. Each is replaced by its escaped form, so that a reader sees it.
All terminal output of this package goes through `plain`, or through `line` if the text must stay on one line.
"""

from __future__ import annotations

import re
from typing import Final

# Controls (C0 without tab and line feed, DEL, C1), invisible and direction-changing format characters, line and
# paragraph separators, lone surrogates, tags.
_UNSAFE: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)


def plain(text: str) -> str:
    """Escape control characters and invisible characters of a text; tabs and line breaks stay."""
    return _UNSAFE.sub(_escaped, text)


def line(text: str) -> str:
    """Do the same, and escape line breaks too."""
    return plain(text).replace("\n", r"\n")


def _escaped(match: re.Match[str]) -> str:
    return match[0].encode("unicode_escape").decode("ascii")
