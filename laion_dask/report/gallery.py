"""Draw a seeded sample of pictures for the report; unsafe ones are blurred, reserved ones left out.

Never shown: pictures that a removal or a list of known content names, and pictures whose host or page reserves rights.
Blurred: pictures above the unsafe limit, and those without an unsafe score, which may be unsafe.
"""

from __future__ import annotations

import base64
import hashlib
import io
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from laion_dask import params
from laion_dask.schema.reasons import KEEP, REASONS, WITHHELD
from laion_dask.storage import attempts, shards

THUMBNAIL_PX: Final = 160
# A tenth of a thumbnail's side: no face, text or body part can be recognised.
BLUR_RADIUS_PX: Final = 16
_COLUMNS: Final = ("key", "caption", "host", "split", "language", "sha256", "rights", "page_signals")
_TEXT_CHARS: Final = 120


@dataclass(frozen=True, slots=True)
class Pick:
    """One picture of the gallery: its verdict, its scores (None if missing), and a JPEG as a data URI."""

    verdict: str
    caption: str
    host: str
    split: str
    language: str
    similarity: float | None
    punsafe: float | None
    blurred: str
    image: str


def gallery(data: Path, settings: params.Params) -> list[Pick]:
    """Return up to `report.gallery` kept and as many dropped pairs with pictures, spread over the reasons.

    The sample is drawn by the hash of `report.seed` and uid, independent of the order of the shards. Copies of hidden
    pictures are left out too. Memory: a few candidates for each verdict.
    """
    wanted = settings.report.gallery
    if not wanted:
        return []
    hidden = known(data)
    best: dict[str, list[tuple[str, Path, dict[str, Any]]]] = {}
    for shard in attempts.attempts(data, _COLUMNS, ("similarity", "punsafe")):
        for row in shard.table.filter(shard.table["downloaded"]).to_pylist():
            if held_back(row, hidden):
                continue
            rank = hashlib.sha256(f"{settings.report.seed}:{row['uid']}".encode()).hexdigest()
            best.setdefault(row["verdict"], []).append((rank, shard.tar, row))
        best = {verdict: sorted(rows, key=lambda row: row[0])[:wanted] for verdict, rows in best.items()}
    chosen = best.pop(KEEP, []) + _in_turn(best, wanted)
    pictures = read(chosen)
    return [
        _pick(row, pictures[str(tar), row["key"]], settings)
        for _, tar, row in chosen
        if (str(tar), row["key"]) in pictures
    ]


def held_back(row: Mapping[str, Any], hidden: Collection[str]) -> bool:
    """Tell whether a picture is hidden, by verdict, sha256, rights and page_signals; `hidden` comes from `known`."""
    return (
        row["verdict"] in WITHHELD or row["sha256"] in hidden or row["rights"] == "refused" or bool(row["page_signals"])
    )


def known(data: Path) -> set[str]:
    """Return the sha256 of all pictures that a removal or a list of known content names."""
    # The same bytes may have another address, whose own verdict does not show this.
    return {
        str(digest)
        for shard in attempts.attempts(data, ["sha256"])
        for digest, verdict in zip(shard.table["sha256"].to_pylist(), shard.table["verdict"].to_pylist(), strict=True)
        if verdict in WITHHELD and digest
    }


def _in_turn(
    best: Mapping[str, list[tuple[str, Path, dict[str, Any]]]], wanted: int
) -> list[tuple[str, Path, dict[str, Any]]]:
    # Round-robin over the reasons, so that a common reason does not fill the page.
    order = [reason for reason in REASONS["filter"] if reason in best]
    turns = [(turn, order.index(reason), row) for reason in order for turn, row in enumerate(best[reason])]
    chosen = sorted(turns, key=lambda item: item[:2])[:wanted]
    return [row for _, _, row in sorted(chosen, key=lambda item: (item[1], item[0]))]


def read(chosen: list[tuple[str, Path, dict[str, Any]]]) -> dict[tuple[str, str], bytes]:
    """Return the bytes of pictures by tar and key; takes (anything, tar, row) of each."""
    pictures = {}
    for tar in sorted({tar for _, tar, _ in chosen}):
        keys = {row["key"] for _, other, row in chosen if other == tar}
        pictures.update({(str(tar), key): body for key, body in shards.read_shard(tar) if key in keys})
    return pictures


def _pick(row: Mapping[str, Any], body: bytes, settings: params.Params) -> Pick:
    punsafe = number(row["punsafe"])
    blurred = why_blurred(punsafe, settings)
    image = thumbnail(body, blur=bool(blurred))
    return Pick(
        row["verdict"],
        shortened(row["caption"]),
        row["host"],
        row["split"],
        row["language"],
        number(row["similarity"]),
        punsafe,
        blurred,
        image,
    )


def why_blurred(punsafe: float | None, settings: params.Params) -> str:
    """Return why a picture is blurred, or an empty text."""
    if punsafe is None:
        return "blurred: no unsafe score"
    return "blurred: unsafe score above the limit" if punsafe > settings.filter.max_punsafe else ""


def shortened(text: str) -> str:
    """Cut a text to what fits under a thumbnail."""
    return text if len(text) <= _TEXT_CHARS else text[: _TEXT_CHARS - 1] + "…"


def number(score: float | None) -> float | None:
    """Return a score, or None where it is null or NaN."""
    return None if score is None or score != score else score  # noqa: PLR0124 - NaN is not itself


def thumbnail(body: bytes, *, blur: bool, side_px: int = THUMBNAIL_PX) -> str:
    """Return a JPEG without metadata, at most `side_px` squared, as a data URI; `blur` makes it unrecognisable."""
    from PIL import ImageFilter  # noqa: PLC0415 - only the report draws

    from laion_dask.images import prepare  # noqa: PLC0415

    small = prepare.upright(body)
    small.thumbnail((side_px, side_px))
    if blur:
        small = small.filter(ImageFilter.GaussianBlur(BLUR_RADIUS_PX))
    out = io.BytesIO()
    small.save(out, "JPEG", quality=80)
    return "data:image/jpeg;base64," + base64.b64encode(out.getvalue()).decode()
