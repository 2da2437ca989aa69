"""What can become of a pair when its address is asked again: the classes of a comparison of two downloads."""

from __future__ import annotations

from typing import Final

from laion_dask.schema.values import PDQ_DISTANCE

SAME_BYTES: Final = "same_bytes"
SAME_PICTURE: Final = "same_picture"
CHANGED: Final = "changed"
GONE: Final = "gone"
REFUSED: Final = "newly_refused"
UNREACHABLE: Final = "unreachable"

CLASSES: Final = {
    SAME_BYTES: "the address gave the same bytes (sha256)",
    SAME_PICTURE: f"other bytes of the same picture (PDQ, at most {PDQ_DISTANCE} of 256 bits apart)",
    CHANGED: "the address gave another picture",
    REFUSED: "robots.txt, headers or other signals refuse now",
    GONE: "the server answered, but with no picture that can be read",
    UNREACHABLE: "no answer, or one that asks to come later: not decided",
}
"""What can become of a pair that an earlier version has a picture of, in the order of the report."""
