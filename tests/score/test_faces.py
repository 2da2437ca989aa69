"""Faces: SCRFD's outputs become boxes of the picture, and the detector of drawn faces finds them in a shard."""

from __future__ import annotations

import hashlib
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from made.versions import tables
from onnx import helper, numpy_helper
from PIL import Image

from laion_dask import params, schema
from laion_dask.clip.clip import DEMO_MODEL, ModelError
from laion_dask.demo.training import faces as drawn
from laion_dask.filter import where
from laion_dask.images import prepare
from laion_dask.images.blur import blur
from laion_dask.params import ParamsError
from laion_dask.params.heads import Faces
from laion_dask.preflight import preflight
from laion_dask.release import exports
from laion_dask.schema import faces as face_schema
from laion_dask.score import faces, part, score_columns
from laion_dask.storage import shards

SIDE = 224
NAMES = ("face_bboxes", "face_scores")


def outputs(
    seen: Sequence[tuple[int, int, int, int, float, tuple[float, ...]]],
    *,
    strides: Sequence[int] = (8, 16, 32),
    anchors: int = 2,
    landmarks: bool = False,
    rows: tuple[int, ...] = (),
) -> list[np.ndarray]:
    """Return what a network gives that saw (stride, x, y, anchor, score, distances in strides) and nothing else."""
    scores, distances, points = [], [], []
    for stride in strides:
        cells = -(-SIDE // stride)
        score_, distance = (np.zeros((cells, cells, anchors, last), np.float32) for last in (1, 4))
        for level, x, y, anchor, sure, reach in seen:
            if level == stride:
                score_[y, x, anchor], distance[y, x, anchor] = sure, reach
        scores.append(score_.reshape(*rows, -1, 1))
        distances.append(distance.reshape(*rows, -1, 4))
        points.append(np.zeros((*rows, cells * cells * anchors, 10), np.float32))
    return [*scores, *distances, *(points if landmarks else [])]


def always(path: Path, *seen: tuple[int, int, int, int, float, tuple[float, ...]]) -> str:
    """Write a detector that sees the same in every picture, and return its path."""
    arrays = {f"output{place}": values for place, values in enumerate(outputs(seen))}
    nodes = [helper.make_node("Identity", [f"{name}.w"], [name]) for name in arrays]
    weights = {f"{name}.w": values for name, values in arrays.items()}
    shapes = {name: values.shape for name, values in arrays.items()}
    path.write_bytes(drawn.onnx_model(nodes, weights, inputs={"input": (1, 3, SIDE, SIDE)}, outputs=shapes))
    return str(path)


@pytest.mark.parametrize(
    "form",
    [
        {},
        {"landmarks": True},
        {"rows": (1,)},
        {"strides": (8, 16, 32, 64, 128), "anchors": 1},
        {"strides": (8, 16, 32, 64, 128), "anchors": 1, "landmarks": True},
    ],
)
@pytest.mark.parametrize(("stride", "x", "y", "anchor"), [(8, 0, 0, 0), (8, 27, 3, 1), (16, 5, 13, 0), (32, 6, 2, 1)])
def test_a_box_reaches_from_its_place_as_far_as_its_distances_say(
    form: dict[str, Any], stride: int, x: int, y: int, anchor: int
) -> None:
    anchor = min(anchor, form.get("anchors", 2) - 1)
    boxes, scores = faces.decode(outputs([(stride, x, y, anchor, 0.75, (1, 0.5, 2, 3))], **form), Faces(file="x"))
    assert boxes.tolist() == [[(x - 1) * stride, (y - 0.5) * stride, (x + 2) * stride, (y + 3) * stride]]
    assert scores.tolist() == [0.75]


@pytest.mark.parametrize(
    ("sure", "threshold", "kept"), [(0.3, 0.3, True), (0.29, 0.3, False), (0.5, 0.51, False), (1.0, 1.0, True)]
)
def test_a_box_counts_from_the_threshold_on(sure: float, threshold: float, kept: bool) -> None:  # noqa: FBT001 - a case
    found = faces.decode(outputs([(8, 4, 4, 0, sure, (1, 1, 1, 1))]), Faces(file="x", threshold=threshold))
    assert len(found[0]) == kept


@pytest.mark.parametrize(
    ("overlap", "stays"),
    # Squares of 17 px beside each other by 8: 9 x 17 of 25 x 17 px are shared, 36 %.
    [(0.3, [0.9, 0.7]), (0.4, [0.9, 0.8, 0.7])],
)
def test_of_two_boxes_that_share_more_than_allowed_the_surer_stays_and_the_surest_is_first(
    overlap: float, stays: list[float]
) -> None:
    seen = [(8, 5, 4, 0, 0.8, (1, 1, 1, 1)), (8, 4, 4, 1, 0.9, (1, 1, 1, 1)), (16, 9, 9, 0, 0.7, (1, 1, 1, 1))]
    _, scores = faces.decode(outputs(seen), Faces(file="x", overlap=overlap))
    assert scores.tolist() == pytest.approx(stays)


@pytest.mark.parametrize(
    ("size", "box", "wanted"),
    [
        ((448, 448), (56, 112, 112, 224), (0.25, 0.5, 0.5, 1)),
        ((448, 224), (56, 0, 112, 56), (0.25, 0, 0.5, 0.5)),
        ((100, 400), (14, 56, 28, 112), (0.25, 0.25, 0.5, 0.5)),
        ((448, 224), (-10, -10, 300, 300), (0, 0, 1, 1)),
    ],
)
def test_boxes_are_shares_of_the_picture_not_of_the_square(
    size: tuple[int, int], box: tuple[float, ...], wanted: tuple[float, ...]
) -> None:
    found, _ = faces.relative((np.array([box], np.float32), np.ones(1, np.float32)), size, SIDE)
    assert found.tolist() == [list(wanted)]


def test_what_lies_in_the_padding_is_no_face() -> None:
    boxes = np.array([(10, 120, 60, 200), (10, 10, 60, 60)], np.float32)
    found, scores = faces.relative((boxes, np.array([0.9, 0.8], np.float32)), (448, 224), SIDE)
    assert (len(found), scores.tolist()) == (1, pytest.approx([0.8]))


@pytest.mark.parametrize(
    ("given", "told"),
    [
        (outputs([])[:5], "not scores and distances of 3 or 5 strides"),
        (outputs([])[:2] + outputs([])[3:5], "not scores and distances of 3 or 5 strides"),
        ([*outputs([], anchors=1)[:3], *outputs([])[3:]], "at stride 8 1568 distances, 784 scores"),
        (outputs([(8, 1, 1, 0, 1.5, (1, 1, 1, 1))]), "scores not in 0..1"),
        ([one[:-3] for one in outputs([])], "at stride 8 1565 scores do not fit 28 x 28 places"),
    ],
)
def test_outputs_of_another_layout_are_refused(given: list[np.ndarray], told: str) -> None:
    with pytest.raises(ValueError, match=told):
        faces.decode(given, Faces(file="x"))


class TestTheFile:
    @pytest.mark.parametrize(
        ("content", "more", "told"),
        [
            (b"no network", {}, "is not a detector with SCRFD's outputs"),
            ("other outputs", {}, r"its outputs have shapes \(1, 3, 224, 224\), not scores and distances"),
            ("drawn", {"side_px": 320}, "it reads images of 224 x 224 px, score.faces.side_px is 320"),
            ("drawn", {"expect_sha256": "0" * 64}, "of expect_sha256. Remedy: fetch the file again"),
            (None, {}, "does not exist. Remedy: give the path of a detector"),
        ],
    )
    def test_what_is_no_such_detector_is_refused_with_the_remedy(
        self, tmp_path: Path, content: str | bytes | None, more: dict[str, Any], told: str
    ) -> None:
        bodies = {
            "drawn": drawn.export(drawn.Network()),
            "other outputs": drawn.onnx_model(
                [helper.make_node("Relu", ["input"], ["output"])],
                {},
                inputs={"input": (1, 3, "height", "width")},
                outputs={"output": (1, 3, "height", "width")},
            ),
        }
        if content is not None:
            (tmp_path / "faces.onnx").write_bytes(bodies[content] if isinstance(content, str) else content)
        with pytest.raises(ModelError, match=told) as refused:
            faces.load(Faces(file=str(tmp_path / "faces.onnx"), **more))
        assert "Remedy: " in str(refused.value)

    @pytest.mark.parametrize(
        ("given", "told"),
        [
            ({"file": ""}, "score.faces.file"),
            ({"file": "x", "threshold": 0}, "score.faces.threshold = 0"),
            ({"file": "x", "overlap": 1}, "score.faces.overlap = 1"),
            ({"file": "x", "side_px": 100}, "score.faces.side_px = 100"),
            ({"file": "x", "expect_sha256": "abc"}, "score.faces.expect_sha256 = 'abc'"),
            ({"file": "x", "model": "b32"}, "score.faces.model = 'b32': no such parameter"),
        ],
    )
    def test_absurd_values_are_refused(self, defaults: params.Params, given: dict[str, Any], told: str) -> None:
        values = defaults.model_dump()
        values["score"]["faces"] = given
        with pytest.raises(ParamsError) as refused:
            params.parse(values)
        assert told in str(refused.value)
        assert "Remedy: " in str(refused.value)

    def test_a_missing_file_is_told_before_anything_runs(self, defaults: params.Params) -> None:
        rules = defaults.score.model_copy(update={"faces": Faces(file="none.onnx")})
        assert ("score.faces.file", "none.onnx") in preflight.files(defaults.model_copy(update={"score": rules}))


def test_the_committed_weights_are_exported_to_the_bytes_of_the_committed_file() -> None:
    committed = (DEMO_MODEL / "faces.onnx").read_bytes()
    weights = {one.name: numpy_helper.to_array(one) for one in onnx.load_from_string(committed).graph.initializer}
    network = drawn.Network()
    heads = [f"{kind}_{stride}.conv" for kind in ("score", "bbox") for stride in drawn.STRIDES]
    layers = {f"conv{number}": layer for number, layer in enumerate(network.layers)}
    layers |= dict(zip(heads, network.heads, strict=True))
    for name, layer in layers.items():
        layer.load_state_dict(
            {"weight": torch.tensor(weights[f"{name}.w"]), "bias": torch.tensor(weights[f"{name}.b"])}
        )
    assert drawn.export(network) == committed


def test_the_exported_file_gives_the_numbers_of_the_network() -> None:
    import onnxruntime

    torch.manual_seed(5)
    network = drawn.Network().eval()
    seen = torch.rand(1, 3, SIDE, SIDE)
    session = onnxruntime.InferenceSession(drawn.export(network), providers=["CPUExecutionProvider"])
    found = session.run(None, {"input": seen.numpy()})
    with torch.inference_mode():
        wanted = network(seen)
    for number, (one, other) in enumerate(zip(found, wanted, strict=True)):
        plain = other[0].sigmoid() if number < 3 else other[0]
        np.testing.assert_allclose(one, plain.numpy(), atol=1e-4)


def test_what_the_network_is_to_learn_decodes_to_the_faces_that_were_drawn() -> None:
    rng = np.random.default_rng(9)
    for _ in range(20):
        image, truth = drawn.picture(rng)
        wanted = drawn.targets(truth, image.size)
        ideal = [*(one[:, :1] for one in wanted), *(one[:, 1:] for one in wanted)]
        found, _ = faces.relative(faces.decode(ideal, Faces(file="x")), image.size, SIDE)
        assert len(found) == len(truth)
        for box in truth:
            assert max(drawn.shared(box, one) for one in found) > 0.9


def test_the_detector_of_this_package_finds_drawn_faces_that_it_has_not_seen() -> None:
    there, found, boxes = drawn.evaluate(faces.load(Faces(file="demo")), seed=1234, pictures=60)
    assert there > 60
    assert found / there > 0.85
    assert found / boxes > 0.85


# In a shard

ROWS, FAILED, BAD, TURNED = 6, 2, 4, 5
SIZES = [(96, 96), (120, 60), (1, 1), (60, 120), (1, 1), (120, 60)]
# A face at the upper left of the square, and a less sure one in its lower half: padding of a wide picture.
SEEN = ((16, 2, 2, 0, 0.5, (1, 2, 4, 3)), (32, 1, 5, 1, 0.4, (1, 1, 1, 1)))
UPPER, LOWER = (16, 0, 96, 80), (0, 128, 64, 192)


def boxes_of(size: tuple[int, int]) -> list[list[float]]:
    """Return the two boxes of SEEN as shares of a picture of this size."""
    wide, tall = (side * SIDE / max(size) for side in size)
    upper, lower = ([x1 / wide, y1 / tall, min(x2 / wide, 1), min(y2 / tall, 1)] for x1, y1, x2, y2 in (UPPER, LOWER))
    return [upper, lower] if LOWER[1] < tall else [upper]


def stored(row: int) -> bytes:
    """Draw the picture of a row; one lies in its file, with the EXIF that turns it upright."""
    if row == FAILED:
        return b""
    if row == BAD:
        return b"no image"
    image, exif, out = Image.effect_noise(SIZES[row], 90).convert("RGB"), Image.Exif(), io.BytesIO()
    if row == TURNED:
        exif[0x0112] = 6
        image = image.transpose(Image.Transpose.ROTATE_90)
    image.save(out, "PNG", exif=exif)
    return out.getvalue()


@pytest.fixture(scope="module")
def shard(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shard of pictures of several shapes, stored as received, and the file of a detector beside it."""
    folder = tmp_path_factory.mktemp("faces")
    gone = {"reason": "not_found", "status": "failed_to_download", "error_message": "not_found"}
    rows = [
        {"uid": tables.uid(row), "key": f"00000{row:04d}", "caption": "a face"} | (gone if row == FAILED else {})
        for row in range(ROWS)
    ]
    made = tables.images(*rows).to_pylist()
    shards.write_shard(folder, "00000", zip(made, [stored(row) for row in range(ROWS)], strict=True))
    always(folder / "faces.onnx", *SEEN)
    return folder


def rules(**values: Any) -> params.Score:  # noqa: ANN401 - as in params.yaml
    none = dict.fromkeys(("heads", "tags", "faces", "masked_text"))
    usual = {"models": [{"name": "demo", "model": "demo"}], "batch": 3, "decode": "full", "compile": "none"}
    return params.Score(**(none | usual | values))


def scored(shard: Path, out: Path, settings: params.Score) -> Any:  # noqa: ANN401 - pyarrow's table
    out.mkdir()
    part.score(
        out, name="00000", images=shard / "00000.parquet", tar=shard / "00000.tar", shard_rows=16, settings=settings
    )
    found = pq.read_table(out / "00000.parquet")
    return schema.scores(["demo"], score_columns.columns(settings)).check(found)


def detector(shard: Path, **more: Any) -> dict[str, Any]:  # noqa: ANN401 - as in params.yaml
    return {"file": str(shard / "faces.onnx"), **more}


def test_boxes_and_their_scores_become_columns_of_the_scores(shard: Path, tmp_path: Path) -> None:
    table = scored(shard, tmp_path / "out", rules(faces=detector(shard)))
    boxes, scores = table["face_bboxes"].to_pylist(), table["face_scores"].to_pylist()
    for row, size in enumerate(SIZES):
        if row in {FAILED, BAD}:
            assert boxes[row] is scores[row] is None
            continue
        wanted = boxes_of(size)
        assert len(boxes[row]) == len(wanted)
        np.testing.assert_allclose(boxes[row], wanted, atol=0.01)
        assert scores[row] == pytest.approx([0.5, 0.4][: len(wanted)])


def test_a_higher_threshold_leaves_lists_empty_not_null(shard: Path, tmp_path: Path) -> None:
    table = scored(shard, tmp_path / "out", rules(faces=detector(shard, threshold=0.9)))
    assert [row for row, boxes in enumerate(table["face_bboxes"].to_pylist()) if boxes == []] == [0, 1, 3, 5]
    assert table["face_scores"].null_count == 2


@pytest.mark.parametrize("batch", [1, 64])
def test_boxes_do_not_depend_on_the_batch(shard: Path, tmp_path: Path, batch: int) -> None:
    one, two = (
        scored(shard, tmp_path / str(size), rules(faces=detector(shard), batch=size)).select(list(NAMES))
        for size in (3, batch)
    )
    assert one.equals(two)


def test_without_a_detector_there_are_no_such_columns(shard: Path, tmp_path: Path) -> None:
    names = scored(shard, tmp_path / "out", rules()).column_names
    assert not {*NAMES} & {*names}
    assert faces.counts(dict.fromkeys(names, ())) == {}


def test_boxes_and_the_images_that_have_any_are_counted() -> None:
    boxes = [None, [], [[0, 0, 1, 1]], [[0, 0, 1, 1]] * 3]
    assert faces.counts({"face_bboxes": boxes}) == {"faces": 4, "images_with_faces": 2}


def test_shards_are_exported_with_their_faces_blurred_and_datacomp_gets_the_boxes(shard: Path, tmp_path: Path) -> None:
    table = scored(shard, tmp_path / "scored", rules(faces=detector(shard, threshold=0.45)))
    plain = scored(shard, tmp_path / "none", rules(faces=detector(shard, threshold=0.9)))
    boxes = dict(zip(table["uid"].to_pylist(), table["face_bboxes"].to_pylist(), strict=True))
    some, none = (exports.DatasetFolders(shard, tmp_path / name) for name in ("scored", "none"))
    assert exports.blurred(some, tmp_path / "out", None) == 4
    assert exports.blurred(none, tmp_path / "same", None) == plain.num_rows - 2
    before, after, same = (
        dict(shards.read_shard(folder / "00000.tar")) for folder in (shard, tmp_path / "out", tmp_path / "same")
    )
    written = pq.read_table(tmp_path / "out" / "00000.parquet").to_pylist()
    assert [row["key"] for row in written] == [*after]
    for row in written:
        assert row["face_bboxes"] == boxes[row["uid"]]
        assert same[row["key"]] == before[row["key"]]
        wanted = blur(prepare.upright(before[row["key"]]), row["face_bboxes"])
        off = np.abs(np.asarray(wanted).astype(int) - np.asarray(prepare.upright(after[row["key"]])).astype(int))
        assert off.mean() < 4, "JPEG, of noise"
    exports.datacomp(some, tmp_path / "datacomp", None)
    found = pq.read_table(tmp_path / "datacomp" / "00000.parquet")
    assert found["face_bboxes"].to_pylist() == [boxes[uid] for uid in found["uid"].to_pylist()]


def test_where_no_faces_were_looked_for_no_shards_without_faces_can_be_written(shard: Path, tmp_path: Path) -> None:
    scored(shard, tmp_path / "scored", rules())
    with pytest.raises(exports.ExportError, match=r"has no face_bboxes\. Remedy: name a detector in score.faces"):
        exports.blurred(exports.DatasetFolders(shard, tmp_path / "scored"), tmp_path / "out", None)


def test_a_filter_can_ask_for_faces_where_they_are_looked_for(defaults: params.Params) -> None:
    wanted = {"filter": defaults.filter.model_copy(update={"where": "len(face_bboxes) = 0"})}
    with pytest.raises(preflight.PreflightError, match="the column face_bboxes does not exist"):
        preflight.check(defaults.model_copy(update=wanted))
    looked = wanted | {"score": defaults.score.model_copy(update={"faces": Faces(file="demo")})}
    preflight.check(defaults.model_copy(update=looked))
    boxes = pa.table({"face_bboxes": pa.array([[], [[0, 0, 1, 1]], None], face_schema.BOXES.type)})
    assert where.mask("len(face_bboxes) = 0", boxes).tolist() == [True, False, False]


def test_the_detector_is_known_by_its_digest_with_the_first_model(shard: Path) -> None:
    file = shard / "faces.onnx"
    both = [{"name": "demo", "model": "demo"}, {"name": "again", "model": "demo"}]
    settings = rules(faces=detector(shard), models=both)
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    assert score_columns.about(settings, "demo") == {"faces_sha256": json.dumps({"face_bboxes": digest})}
    assert score_columns.about(settings, "again") == {}
    assert file in score_columns.files(settings)
