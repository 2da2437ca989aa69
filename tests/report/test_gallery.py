"""The gallery: what is shown, what is blurred, and what is never shown."""

from __future__ import annotations

import base64
import io
from collections import Counter
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest
from made.versions import sample_version
from PIL import Image

from laion_dask.params import Params
from laion_dask.report import gallery


@pytest.fixture
def version(tmp_path: Path) -> Path:
    data, _ = sample_version.write(tmp_path, links=250)
    return data


def picture(uri: str) -> Image.Image:
    assert uri.startswith("data:image/jpeg;base64,")
    return Image.open(io.BytesIO(base64.b64decode(uri.partition(",")[2])))


def with_gallery(settings: Params, pictures: int, seed: int = 3) -> Params:
    return settings.model_copy(
        update={"report": settings.report.model_copy(update={"gallery": pictures, "seed": seed})}
    )


def test_kept_and_dropped_pairs_are_shown_and_every_reason_gets_its_turn(version: Path, defaults: Params) -> None:
    picks = gallery.gallery(version, with_gallery(defaults, 10))
    counts = Counter(pick.verdict for pick in picks)
    assert counts["keep"] == 10
    assert len(picks) == 20
    assert set(counts) == {"keep", "image_too_small", "unsafe", "watermark", "low_similarity", "duplicate_image"}
    assert all(max(picture(pick.image).size) <= 160 for pick in picks)


def test_the_sample_depends_on_the_seed_alone(version: Path, defaults: Params) -> None:
    first = gallery.gallery(version, with_gallery(defaults, 8))
    assert first == gallery.gallery(version, with_gallery(defaults, 8))
    assert first != gallery.gallery(version, with_gallery(defaults, 8, seed=4))


def test_no_pictures_are_read_where_none_are_wanted(tmp_path: Path, defaults: Params) -> None:
    assert gallery.gallery(tmp_path, with_gallery(defaults, 0)) == []


def test_pictures_above_the_unsafe_limit_or_without_a_score_are_blurred(version: Path, defaults: Params) -> None:
    for path in (version / "score").glob("*.parquet"):
        kept = next(
            row["uid"] for row in pq.read_table(version / "filter" / path.name).to_pylist() if row["reason"] == "keep"
        )
        sample_version.change(path, kept, {"punsafe": float("nan")})
    picks = gallery.gallery(version, with_gallery(defaults, 500))
    for pick in picks:
        assert bool(pick.blurred) == (pick.punsafe is None or pick.punsafe > defaults.filter.max_punsafe)
        # The widest step between neighbours: an edge of a drawn thing, or none after the blur.
        steps = np.abs(np.diff(np.asarray(picture(pick.image).convert("L"), int), axis=1)).max()
        assert steps < 16 if pick.blurred else steps > 30
    assert Counter(pick.blurred for pick in picks)["blurred: no unsafe score"] == 2


@pytest.mark.parametrize("verdict", ["listed_later", "removed_hash"])
def test_known_or_removed_pictures_and_their_copies_are_never_shown(
    version: Path, defaults: Params, verdict: str
) -> None:
    path = version / "filter" / "00000.parquet"
    images = pq.read_table(version / "download" / "00000.parquet").to_pylist()
    verdicts = {row["uid"]: row["reason"] for row in pq.read_table(path).to_pylist()}
    hidden, copy = [row for row in images if verdicts[row["uid"]] == "keep"][:2]
    sample_version.change(path, hidden["uid"], {"reason": verdict})
    sample_version.change(version / "download" / "00000.parquet", copy["uid"], {"sha256": hidden["sha256"]})
    shown = {(pick.verdict, pick.caption) for pick in gallery.gallery(version, with_gallery(defaults, 500))}
    assert not {verdict, "listed_later"} & {name for name, _ in shown}
    assert not {hidden["caption"], copy["caption"]} & {caption for _, caption in shown}


@pytest.mark.parametrize("column", [{"rights": "refused"}, {"page_signals": "noai"}])
def test_pictures_of_owners_who_reserve_their_rights_are_not_shown(
    version: Path, defaults: Params, column: dict[str, str]
) -> None:
    before = len(gallery.gallery(version, with_gallery(defaults, 500)))
    verdicts = pq.read_table(version / "filter" / "00000.parquet").to_pylist()
    uid = next(row["uid"] for row in verdicts if row["reason"] == "keep")
    sample_version.change(version / "download" / "00000.parquet", uid, column)
    assert len(gallery.gallery(version, with_gallery(defaults, 500))) == before - 1


def test_a_thumbnail_carries_no_metadata() -> None:
    image, out = Image.new("RGB", (900, 30), "red"), io.BytesIO()
    exif = image.getexif()
    exif[0x010E] = "where it was taken"
    image.save(out, "JPEG", exif=exif)
    small = picture(gallery.thumbnail(out.getvalue(), blur=False))
    assert small.size == (160, 5)
    assert not small.getexif()
