"""Digests are those of the original bytes; perceptual hashes those that the sources publish, within what they allow."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pdqhash
import pytest
from made.images.pictures import encoded, photo, prepared
from PIL import Image

from laion_dask.images.hashes import PDQ_SIDE_PX, Pdq, digests, pdq

MATCH = 31
"""Upstream calls two pictures the same up to this distance, of 256 bits."""
VAGUE = 50
"""Upstream advises against matching hashes of a lower quality."""


def test_hashes_are_those_of_the_original_bytes() -> None:
    found = digests(b"abc", ["md5", "sha1", "sha256"])
    assert found["md5"] == "900150983cd24fb0d6963f7d28e17f72"
    assert found["sha256"] == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert found["sha1"] == "a9993e364706816aba3e25717850c26c9cd0d89d"


def test_only_the_digests_that_are_asked_for_are_made() -> None:
    assert digests(b"", ["md5"]).keys() == {"md5"}
    assert digests(b"", []) == {}


def published(shared_data: Path) -> dict[Path, str]:
    """Return the files with published hashes; of two values of a file the one of upstream's Python."""
    folder = shared_data / "hashes"
    rows = json.loads((folder / "pdqhash-python" / "expected.json").read_text())
    files = json.loads((folder / "pdq" / "expected.json").read_text())["files"]
    found = {folder / "pdqhash-python" / row["image"]: str(row["hex_of_bits_msb_first"]) for row in rows}
    for name, values in files.items():
        found[folder / "pdq" / name] = values.get("python") or values["python_hash_and_quality"][0]
    assert len(found) == 21
    return found


def distance(one: str | None, other: str | None) -> int:
    return (int(one or "0", 16) ^ int(other or "0", 16)).bit_count()


def of_full_picture(image: Image.Image) -> tuple[str, int]:
    bits, quality = pdqhash.compute(np.asarray(image.convert("RGB")))
    return np.packbits(bits.astype(np.uint8)).tobytes().hex(), quality


@pytest.mark.parametrize(("kind", "most", "mean"), [("quick", 24, 12.0), ("exact", 10, 2.0)])
def test_every_published_hash_is_matched_from_the_reduced_picture(
    shared_data: Path, kind: str, most: int, mean: float
) -> None:
    distances = {
        path.name: distance(prepared(path.read_bytes(), pdq=kind).pdq, value)
        for path, value in published(shared_data).items()
    }
    assert max(distances.values()) <= most <= MATCH, distances
    assert np.mean(list(distances.values())) <= mean, distances


@pytest.mark.slow
def test_the_hash_stays_near_that_of_the_full_picture_at_every_size(shared_data: Path) -> None:
    distances: dict[Pdq, list[int]] = {"quick": [], "exact": []}
    for path in published(shared_data):
        with Image.open(path) as image:
            whole = image.convert("RGB")
        for width in (180, 257, 300, 385, 640, 900):
            if width > whole.width:
                continue
            picture = whole.resize((width, round(width * whole.height / whole.width)), Image.Resampling.LANCZOS)
            full, quality = of_full_picture(picture)
            if quality >= VAGUE:
                # As a JPEG it takes the way of most pictures: decoded at reduced size, resized, hashed.
                body = encoded(picture, "JPEG", quality=95)
                for kind, found in distances.items():
                    found.append(distance(prepared(body, pdq=kind).pdq, full))
    assert len(distances["quick"]) > 60
    for kind, most, mean in (("quick", 24, 11.0), ("exact", 16, 4.0)):
        assert max(distances[kind]) <= most <= MATCH, distances
        assert np.mean(distances[kind]) <= mean, distances


def test_a_picture_of_no_content_has_quality_zero() -> None:
    assert prepared(encoded(Image.new("RGB", (300, 300), "gray"))).pdq_quality == 0


@pytest.mark.parametrize("size", [(1, 1), (1, 300), (300, 1), (2, 3), (3000, 2), (63, 64), (64, 65), (257, 3)])
@pytest.mark.parametrize("kind", ["quick", "exact"])
def test_pictures_of_every_shape_have_a_hash(size: tuple[int, int], kind: str) -> None:
    result = prepared(encoded(photo(1, *size)), pdq=kind)
    assert len(result.pdq or "") == 64
    assert 0 <= (result.pdq_quality or 0) <= 100


def test_the_hash_is_skipped_where_it_is_not_wanted() -> None:
    result = prepared(encoded(photo(1, 300, 300)), pdq="skip")
    assert (result.pdq, result.pdq_quality) == (None, None)


def test_re_encoded_copies_match_and_other_pictures_do_not() -> None:
    first = photo(1, 900, 700)
    hashes = [
        prepared(body).pdq
        for body in (
            encoded(first, "PNG"),
            encoded(first, "JPEG", quality=30),
            encoded(first.resize((300, 233)), "WEBP"),
            encoded(photo(2, 900, 700), "PNG"),
        )
    ]
    assert all(distance(hashes[0], other) <= MATCH for other in hashes[1:3])
    assert distance(hashes[0], hashes[3]) > 3 * MATCH


def test_small_pictures_are_hashed_by_upstreams_code_alone() -> None:
    picture = photo(3, 200, 150)
    assert pdq(picture, picture.size, "quick") == pdq(picture, picture.size, "exact")
    assert pdq(picture, picture.size, "quick").hex == of_full_picture(picture)[0]
    assert PDQ_SIDE_PX["quick"] >= max(picture.size)


def test_the_hash_does_not_depend_on_how_the_picture_is_stored() -> None:
    body = encoded(photo(5, 1000, 800), "PNG")
    found = [prepared(body, mode=mode, side_px=side).pdq for mode in ("border", "center_crop") for side in (256, 64)]
    found.append(prepared(body, mode="no", encode="original").pdq)
    assert max(distance(found[0], other) for other in found) <= 12
