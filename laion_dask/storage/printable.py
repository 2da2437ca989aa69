"""Make a text out of the web or out of a file harmless for a terminal.

An alternative text, a signal of rights, an address or the name of a file may hold escape sequences that move the cursor
or rewrite what stands above, and marks that turn the order of letters round or that nobody sees. Each such character is
written out, so that a reader sees that it is there. Everything that this package writes to a terminal goes through
`plain`, or through `line` where the text must stay in one line.
"""

from __future__ import annotations

import re
from typing import Final

# Controls (C0 without tab and line feed, DEL, C1), format characters that show nothing or turn the direction, line and
# paragraph separators, lone surrogates, tags.
_STEERING: Final = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\xad\u034f\u061c\u115f\u1160\u17b4\u17b5\u180b-\u180f\u200b-\u200f\u2028-\u202e"
    "\u2060-\u206f\u3164\ud800-\udfff\ufeff\uffa0\ufff0-\ufffb\U0001bca0-\U0001bca3\U0001d173-\U0001d17a"
    "\U000e0000-\U000e0fff]"
)


def plain(text: str) -> str:
    """Return a text without characters that steer a terminal or hide in it; tabs and line breaks stay."""
    return _STEERING.sub(_written_out, text)


def line(text: str) -> str:
    """Return the same in one line: line breaks are written out too."""
    return plain(text).replace("\n", r"\n")


def _written_out(found: re.Match[str]) -> str:
    return found[0].encode("unicode_escape").decode("ascii")
