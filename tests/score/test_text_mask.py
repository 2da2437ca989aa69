"""Text masked out of images: regions of a detector's map, real text found by a real detector, and the column."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Mapping
from importlib import util
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from made.images import small_clips
from made.versions import tables
from PIL import Image, ImageDraw, ImageFont

from laion_dask import params, schema
from laion_dask.clip import models
from laion_dask.clip.clip import DEMO_MODEL, ModelError
from laion_dask.inputs.named_files import named_files
from laion_dask.params.heads import MaskedText
from laion_dask.preflight import preflight
from laion_dask.score import part, score_columns, text_mask
from laion_dask.storage import shards

HAS_DETECTOR = util.find_spec("rapidocr") is not None
real = pytest.mark.skipif(not HAS_DETECTOR, reason="the extra masks is not installed")
SETTINGS = MaskedText()
BLUE, RED = (90, 140, 200), (200, 60, 60)
LINES = {(30, 20): "SUMMER SALE 50%", (30, 300): "Breaking news today"}


def poster(lines: Mapping[tuple[int, int], str] = LINES, tilt: float = 0) -> Image.Image:
    """Draw a red disc on blue with lines of black text."""
    image = Image.new("RGB", (640, 400), BLUE)
    draw = ImageDraw.Draw(image)
    draw.ellipse((270, 120, 390, 240), fill=RED)
    for place, line in lines.items():
        paper = Image.new("RGBA", (560, 70))
        ImageDraw.Draw(paper).text((5, 5), line, font=ImageFont.load_default(42), fill="black")
        turned = paper.rotate(tilt, expand=True)
        image.paste(turned, place, turned)
    return image


def meadow() -> Image.Image:
    """Draw a picture in which the detector sees no text: it takes single shapes for signs."""
    return Image.merge("RGB", [Image.linear_gradient("L").rotate(turn) for turn in (0, 90, 180)]).resize((640, 400))


def dark(image: Image.Image) -> int:
    """Count pixels that are nearly black: the text."""
    return int((np.asarray(image).max(axis=2) < 60).sum())


def paper_map(*boxes: tuple[int, int, int, int, float]) -> np.ndarray:
    """Return a map with these boxes (top, bottom, left, right, probability)."""
    found = np.zeros((128, 256), np.float32)
    for top, bottom, left, right, sure in boxes:
        found[top:bottom, left:right] = sure
    return found


def test_a_region_grows_by_area_over_perimeter_and_the_pixels_around_it_are_named() -> None:
    found = text_mask.regions(paper_map((50, 60, 40, 140, 0.9)), SETTINGS)
    # 11 by 101 px with the dilation, times 1.6, over twice their sum: 7.9 px to each side.
    rows, columns = np.nonzero(found.labels)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (49 - 7, 59 + 7, 39 - 7, 139 + 7)
    around = np.nonzero(found.around)
    assert (around[0].min(), around[0].max()) == (49 - 11, 59 + 11)
    assert not (found.around.astype(bool) & found.labels.astype(bool)).any()


@pytest.mark.parametrize(
    ("boxes", "settings", "count"),
    [
        ((), {}, 0),
        (((50, 60, 40, 140, 0.2),), {}, 0),
        (((50, 60, 40, 140, 0.4),), {}, 0),
        (((50, 60, 40, 140, 0.4),), {"least_score": 0.2}, 1),
        (((50, 60, 40, 140, 0.9), (90, 100, 40, 90, 0.4)), {}, 1),
        (((10, 20, 40, 140, 0.9), (90, 100, 40, 90, 0.9)), {}, 2),
        (((10, 11, 40, 41, 0.9),), {}, 0),
        (((0, 128, 0, 256, 0.9),), {}, 1),
    ],
)
def test_regions_are_sure_enough_and_large_enough(
    boxes: tuple[tuple[int, int, int, int, float], ...], settings: dict[str, float], count: int
) -> None:
    found = text_mask.regions(paper_map(*boxes), MaskedText(**settings))
    assert sorted({*np.unique(found.labels).tolist()} - {0}) == [*range(1, count + 1)]


def test_a_mask_of_the_whole_image_has_its_average_colour(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(text_mask, "detect", lambda image, _: np.ones((image.height, image.width), np.float32))
    masked = text_mask.masked(poster({}), SETTINGS)
    (colour,) = np.unique(np.asarray(masked).reshape(-1, 3), axis=0)
    assert np.abs(colour - np.asarray(poster({})).mean(axis=(0, 1))).max() <= 1


@real
@pytest.mark.parametrize("tilt", [0, 20])
def test_text_is_filled_with_the_colour_around_it_and_the_picture_stays(tilt: float) -> None:
    lines = LINES if not tilt else {(30, 130): "tilted caption here"}
    image = poster(lines, tilt)
    masked = text_mask.masked(image, SETTINGS)
    assert dark(image) > 2_000
    assert dark(masked) < dark(image) / 50
    if not tilt:
        # The disc is untouched, and the paper has the colour of the background.
        disc = (slice(130, 230), slice(300, 360))
        assert (np.asarray(masked)[disc] == np.asarray(image)[disc]).all()
        assert np.abs(np.asarray(masked)[45, 60].astype(int) - BLUE).max() <= 3


@real
def test_a_picture_without_text_stays_as_it_is_and_its_shape_does_not_matter() -> None:
    plain = Image.new("RGB", (300, 200), BLUE)
    assert text_mask.masked(plain, SETTINGS) is plain
    for size in ((1, 1), (5, 900), (2_000, 30)):
        assert text_mask.masked(Image.new("RGB", size, RED), SETTINGS).size == size


def rules(model: Path, **values: Any) -> params.Score:  # noqa: ANN401 - as in params.yaml
    listed = [{"name": "one", "model": f"local-dir:{model}"}]
    usual = {
        "heads": None,
        "tags": None,
        "faces": None,
        "masked_text": {},
        "batch": 2,
        "decode": "full",
        "compile": "none",
    }
    return params.Score(**{"models": listed} | usual | values)


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return small_clips.folder(tmp_path_factory.mktemp("models") / "one", seed=1)


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Posters with and without text, one of which was not found, one broken, one without a caption."""
    folder = tmp_path_factory.mktemp("shard")
    bodies = []
    for row in range(6):
        out = io.BytesIO()
        (meadow() if row in {1, 4} else poster()).save(out, "PNG")
        bodies.append(out.getvalue())
    bodies[3] = b"no picture"
    gone = {"reason": "not_found", "status": "failed_to_download", "error_message": "not_found"}
    rows = [{"uid": tables.uid(row), "key": f"00000{row:04d}", "caption": f"disc {row}"} for row in range(6)]
    rows[2] |= gone
    rows[5]["caption"] = ""
    shards.write_shard(folder, "00000", zip(tables.images(*rows).to_pylist(), bodies, strict=True))
    return folder


def scored(shard: Path, out: Path, settings: params.Score) -> Any:  # noqa: ANN401 - pyarrow's table
    out.mkdir()
    tar = shard / "00000.tar"
    part.score(out, name="00000", images=shard / "00000.parquet", tar=tar, shard_rows=8, settings=settings)
    kind = schema.scores(["one"], score_columns.columns(settings))
    return kind.check(pq.read_table(out / "00000.parquet"))


@real
def test_the_column_is_the_similarity_of_the_masked_image(shard: Path, model: Path, tmp_path: Path) -> None:
    settings = rules(model)
    table = scored(shard, tmp_path / "out", settings)
    found, plain = table["masked_similarity"].to_numpy(), table["similarity_one"].to_numpy()
    assert np.isnan(found).tolist() == [False, False, True, True, False, True]
    clip = models.load(settings.models[0], "none")
    assert text_mask.masked(meadow(), SETTINGS) == meadow()
    image, text = clip.embed([text_mask.masked(poster(), SETTINGS), meadow(), meadow()], ["disc 0", "disc 1", "disc 4"])
    np.testing.assert_allclose(found[[0, 1, 4]], np.einsum("ij,ij->i", image, text), atol=1e-5)
    np.testing.assert_allclose(found[[1, 4]], plain[[1, 4]], atol=1e-6)
    assert abs(found[0] - plain[0]) > 1e-4


@real
def test_any_batch_gives_the_same_column_and_the_other_columns_stay(shard: Path, model: Path, tmp_path: Path) -> None:
    one, two = (scored(shard, tmp_path / str(batch), rules(model, batch=batch)) for batch in (1, 6))
    np.testing.assert_allclose(one["masked_similarity"].to_numpy(), two["masked_similarity"].to_numpy(), atol=1e-6)
    scored(shard, tmp_path / "again", rules(model, batch=6))
    assert (tmp_path / "again" / "00000.parquet").read_bytes() == (tmp_path / "6" / "00000.parquet").read_bytes()
    without = scored(shard, tmp_path / "without", rules(model, batch=6, masked_text=None))
    assert without.column_names == [name for name in two.column_names if name != "masked_similarity"]
    for name in without.column_names:
        assert pc.equal(two[name].cast("string"), without[name].cast("string")).to_pylist().count(False) == 0, name


@real
def test_the_detector_is_known_by_its_digest_and_decides_the_keys_of_parts(model: Path) -> None:
    settings = rules(model)
    file = text_mask.file(SETTINGS)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert score_columns.about(settings, "one") == {"masked_text_sha256": json.dumps({"masked_similarity": digest})}
    assert file in score_columns.files(settings)
    assert text_mask.file(MaskedText(expect_sha256=digest)) == file
    with pytest.raises(ModelError, match=r"not 0{64} of expect_sha256\. Remedy"):
        text_mask.file(MaskedText(expect_sha256="0" * 64))


@pytest.mark.parametrize(
    ("file", "message"),
    [("none.onnx", "none.onnx does not exist. Remedy"), (str(DEMO_MODEL / "faces.onnx"), "does not detect text")],
)
def test_a_file_that_is_no_detector_of_text_is_refused(file: str, message: str) -> None:
    with pytest.raises(ModelError, match=rf"score\.masked_text: .*{message}"):
        text_mask.test(MaskedText(file=file))


def test_without_the_package_the_remedy_names_what_installs_it(
    monkeypatch: pytest.MonkeyPatch, defaults: params.Params
) -> None:
    find = util.find_spec
    monkeypatch.setattr(text_mask.util, "find_spec", lambda name: None if name == "rapidocr" else find(name))
    wanted = defaults.model_copy(update={"score": defaults.score.model_copy(update={"masked_text": SETTINGS})})
    with pytest.raises(preflight.PreflightError, match=r"rapidocr.*is not installed\. Remedy: `pip install .*masks"):
        preflight.check(wanted)


def test_a_detector_of_the_user_is_a_named_file_and_the_package_is_none(defaults: params.Params) -> None:
    keys = {}
    for file in ("rapidocr", "mine.onnx"):
        score = defaults.score.model_copy(update={"masked_text": MaskedText(file=file)})
        found = named_files(defaults.model_copy(update={"score": score}))
        keys[file] = [one.path for one in found if one.key == "score.masked_text.file"]
    assert keys == {"rapidocr": [], "mine.onnx": ["mine.onnx"]}


def test_a_filter_can_use_the_column_where_it_is_scored(defaults: params.Params) -> None:
    rule = {"name": "masked", "column": "masked_similarity", "fraction": 0.5}
    wanted = params.Filter.model_validate(defaults.filter.model_dump() | {"top": [rule]})
    with pytest.raises(preflight.PreflightError, match=r"filter\.top, masked: column = masked_similarity"):
        preflight.check(defaults.model_copy(update={"filter": wanted}))
    if HAS_DETECTOR:
        score = defaults.score.model_copy(update={"masked_text": SETTINGS})
        preflight.check(defaults.model_copy(update={"filter": wanted, "score": score}))


def test_a_model_that_is_not_scored_cannot_be_the_one_that_sees_masked_images(model: Path) -> None:
    with pytest.raises(ValueError, match=r"masked_text: there is no model two\. Remedy: one of one"):
        rules(model, masked_text={"model": "two"})
