"""Train the small detector of drawn faces, write it as ONNX with SCRFD's outputs, and evaluate it.

    python -m laion_dask.demo.training.faces --out faces.onnx

The faces are drawn: an oval with two eyes and a mouth, on scenes of the demo, among ovals without any. No photo of a
person is used, and the detector does not find real faces: it only demonstrates the handling of boxes.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import onnx
import torch
import typer
from onnx import helper, numpy_helper
from PIL import Image, ImageDraw
from torch import nn

from laion_dask.demo.crawl.scenes import draw as draw_scene
from laion_dask.demo.crawl.scenes import random_scene
from laion_dask.params.heads import Faces
from laion_dask.score import faces

SIDE_PX: Final = 224
ANCHORS: Final = 2
STRIDES: Final = (8, 16, 32)
# Range of the faces' longer side, in px of the square, for each stride; each anchor has one half of the range.
REACH: Final = ((10.0, 40.0), (40.0, 90.0), (90.0, 224.0))
_CHANNELS: Final = (3, 8, 16, 24, 24, 32, 32, 48, 48)
_STEPS: Final = (2, 2, 2, 1, 2, 1, 2, 1)
# Layers whose outputs have heads.
_LEVELS: Final = (3, 5, 7)
_SKINS: Final = ((246, 215, 190), (224, 172, 130), (176, 120, 80), (120, 76, 50), (255, 224, 60), (150, 205, 120))

Truth = list[tuple[float, float, float, float]]
"""Boxes of a picture's faces: x1, y1, x2, y2 as shares of width and height."""


def picture(rng: np.random.Generator, *, most: int = 3) -> tuple[Image.Image, Truth]:
    """Return a scene with up to `most` drawn faces and some ovals without a face, and the boxes of the faces."""
    width, height = (int(side) for side in rng.integers(160, 321, 2))
    image = draw_scene(random_scene(rng), width, height)
    pen, taken, truth = ImageDraw.Draw(image), Truth(), Truth()
    for number in range(int(rng.integers(0, most + 1)) + int(rng.integers(0, 3))):
        tall = float(rng.uniform(0.09, 0.6)) * min(width, height)
        wide = tall * float(rng.uniform(0.72, 0.95))
        left, top = float(rng.uniform(0, width - wide)), float(rng.uniform(0, height - tall))
        box = (left, top, left + wide, top + tall)
        if any(box[0] < b[2] and b[0] < box[2] and box[1] < b[3] and b[1] < box[3] for b in taken):
            continue
        taken.append(box)
        if number < most and rng.random() < 0.75:
            face(pen, box, rng)
            truth.append((left / width, top / height, box[2] / width, box[3] / height))
        else:
            pen.ellipse(box, fill=tuple(int(one) for one in rng.integers(0, 256, 3)))
    return image, truth


def face(pen: ImageDraw.ImageDraw, box: tuple[float, float, float, float], rng: np.random.Generator) -> None:
    """Draw an oval with two eyes and a mouth into a box, in px."""
    left, top, right, bottom = box
    wide, tall = right - left, bottom - top
    pen.ellipse(box, fill=_SKINS[int(rng.integers(len(_SKINS)))], outline=(40, 30, 30))
    height, apart = top + tall * float(rng.uniform(0.36, 0.44)), wide * float(rng.uniform(0.17, 0.22))
    for middle in (left + wide / 2 - apart, left + wide / 2 + apart):
        across, up = wide * 0.09, tall * 0.06
        pen.ellipse((middle - across, height - up, middle + across, height + up), fill=(250, 250, 250))
        across, up = across * 0.55, up * 0.75
        pen.ellipse((middle - across, height - up, middle + across, height + up), fill=(20, 20, 30))
    mouth = (left + wide * 0.3, top + tall * 0.6, right - wide * 0.3, top + tall * 0.82)
    pen.arc(mouth, 20, 160, fill=(140, 20, 40), width=max(1, round(tall * 0.05)))


class Network(nn.Module):
    """Convolutions with strides of 8, 16 and 32 px, and heads at each: scores and distances of two anchors."""

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(
            nn.Conv2d(into, out, 3, stride=step, padding=1)
            for into, out, step in zip(_CHANNELS[:-1], _CHANNELS[1:], _STEPS, strict=True)
        )
        self.heads = nn.ModuleList(
            nn.Conv2d(_CHANNELS[level + 1], count * ANCHORS, 3, padding=1) for count in (1, 4) for level in _LEVELS
        )
        for head in self.heads[: len(_LEVELS)]:
            # Nearly every place has no face, so training starts with low scores.
            nn.init.constant_(head.bias, -4.0)  # type: ignore[arg-type]

    def forward(self, images: Any) -> list[Any]:  # noqa: ANN401 - torch tensors
        """Map normalised images to logits (rows, places, 1) of each stride, then distances (rows, places, 4)."""
        levels = []
        for number, layer in enumerate(self.layers):
            images = layer(images).relu()
            if number in _LEVELS:
                levels.append(images)
        outputs = []
        for number, head in enumerate(self.heads):
            last = 4 if number >= len(_LEVELS) else 1
            values = head(levels[number % len(_LEVELS)]).permute(0, 2, 3, 1)
            outputs.append(values.reshape(len(values), -1, last))
        return outputs


def export(network: Network) -> bytes:
    """Return the ONNX file; its outputs are scores (places, 1) of each stride, then distances (places, 4)."""
    nodes: list[onnx.NodeProto] = []
    weights: dict[str, np.ndarray] = {}
    outputs: dict[str, tuple[int, ...]] = {}

    def conv(name: str, source: str, layer: Any) -> str:  # noqa: ANN401 - a torch module
        weights[f"{name}.w"], weights[f"{name}.b"] = layer.weight.detach().numpy(), layer.bias.detach().numpy()
        attributes = {"strides": layer.stride, "pads": (1, 1, 1, 1), "kernel_shape": (3, 3)}
        node = helper.make_node("Conv", [source, f"{name}.w", f"{name}.b"], [name])
        # make_node would sort them by name; the committed file has this order.
        node.attribute.extend(helper.make_attribute(key, value) for key, value in attributes.items())
        nodes.append(node)
        return name

    levels, last = [], "input"
    for number, layer in enumerate(network.layers):
        source, last = conv(f"conv{number}", last, layer), f"relu{number}"
        nodes.append(helper.make_node("Relu", [source], [last]))
        if number in _LEVELS:
            levels.append(last)
    for number, head in enumerate(network.heads):
        level, kind = number % len(_LEVELS), "bbox" if number >= len(_LEVELS) else "score"
        name, columns = f"{kind}_{STRIDES[level]}", 4 if kind == "bbox" else 1
        places = conv(f"{name}.conv", levels[level], head)
        nodes.append(helper.make_node("Transpose", [places], [f"{name}.rows"], perm=(0, 2, 3, 1)))
        weights[f"{name}.shape"] = np.array([-1, columns], np.int64)
        whole = f"{name}.logits" if kind == "score" else name
        nodes.append(helper.make_node("Reshape", [f"{name}.rows", f"{name}.shape"], [whole]))
        if kind == "score":
            nodes.append(helper.make_node("Sigmoid", [whole], [name]))
        outputs[name] = (ANCHORS * (SIDE_PX // STRIDES[level]) ** 2, columns)
    return onnx_model(nodes, weights, inputs={"input": (1, 3, SIDE_PX, SIDE_PX)}, outputs=outputs)


def onnx_model(
    nodes: Sequence[onnx.NodeProto],
    weights: Mapping[str, np.ndarray],
    *,
    inputs: Mapping[str, Sequence[int | str]],
    outputs: Mapping[str, Sequence[int | str]],
) -> bytes:
    """Return an ONNX file with float32 inputs and outputs; a text in a shape names a dynamic axis.

    IR version 8 and opset 17, as in the committed file.
    """
    inputs_, outputs_ = (
        [helper.make_tensor_value_info(name, onnx.TensorProto.FLOAT, shape) for name, shape in shapes.items()]
        for shapes in (inputs, outputs)
    )
    initializers = [numpy_helper.from_array(values, name) for name, values in weights.items()]
    graph = helper.make_graph(nodes, "graph", inputs_, outputs_, initializers)
    file = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    return bytes(file.SerializeToString())


def targets(truth: Truth, size: tuple[int, int]) -> list[np.ndarray]:
    """Return for each stride (places, 5): 1 if the anchor has a face, and its distances, in strides."""
    scale = SIDE_PX / max(size)
    by_stride = []
    for stride, (least, most) in zip(STRIDES, REACH, strict=True):
        cells = SIDE_PX // stride
        target = np.zeros((cells, cells, ANCHORS, 5), np.float32)
        y, x = (values * float(stride) for values in np.mgrid[:cells, :cells])
        for box in truth:
            x1, y1, x2, y2 = (share * side * scale for share, side in zip(box, size * 2, strict=True))
            longest = max(x2 - x1, y2 - y1)
            if not (least <= longest < most or (stride == STRIDES[0] and longest < least)):
                continue
            anchor = int(longest >= (least + most) / 2)
            off = np.maximum(np.abs(x - (x1 + x2) / 2) / (x2 - x1), np.abs(y - (y1 + y2) / 2) / (y2 - y1))
            near = (off < 0.25) | (off == off.min())
            reach = np.stack([x - x1, y - y1, x2 - x, y2 - y], axis=-1) / stride
            target[:, :, anchor][near] = np.concatenate([np.ones_like(reach[..., :1]), reach], axis=-1)[near]
        by_stride.append(target.reshape(-1, 5))
    return by_stride


def train(seed: int, pictures: int, rounds: int, batch: int = 8) -> Network:
    """Train on drawn pictures for `rounds` epochs; prints the loss."""
    rng = np.random.default_rng([seed, 1])
    torch.manual_seed(seed)
    drawn = [picture(rng) for _ in range(pictures)]
    inputs = torch.from_numpy(np.stack([np.asarray(faces.square(image, side_px=SIDE_PX)) for image, _ in drawn]))
    by_picture = [targets(truth, image.size) for image, truth in drawn]
    by_stride = [torch.from_numpy(np.stack(level)) for level in zip(*by_picture, strict=True)]
    network = Network()
    optimizer = torch.optim.AdamW(network.parameters(), lr=2e-3, weight_decay=1e-4)
    steps = rounds * -(-pictures // batch)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 4e-3, total_steps=steps)
    for number in range(rounds):
        order, total = torch.from_numpy(rng.permutation(pictures)), 0.0
        for first in range(0, pictures, batch):
            rows = order[first : first + batch]
            images = _normalised(inputs[rows])
            loss = _loss(network(images), [level[rows] for level in by_stride])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
            total += loss.item()
        typer.echo(f"round {number + 1} of {rounds}: loss {total / -(-pictures // batch):.4f}", err=True)
    return network.eval()


def evaluate(detector: faces.FaceDetector, seed: int, pictures: int) -> tuple[int, int, int]:
    """Return the numbers of drawn faces, of found ones (IoU of at least 0.5), and of all boxes."""
    rng = np.random.default_rng([seed, 2])
    there = found = boxes = 0
    for _ in range(pictures):
        image, truth = picture(rng)
        seen = torch.from_numpy(np.array(faces.square(image, side_px=SIDE_PX)))[None]
        within, _ = faces.relative(detector.score(seen)[0], image.size, SIDE_PX)
        there, boxes = there + len(truth), boxes + len(within)
        found += sum(any(shared(one, box) >= 0.5 for box in within) for one in truth)
    return there, found, boxes


def shared(one: Sequence[float], two: Sequence[float]) -> float:
    """Return the intersection over union of two boxes."""
    sides = [min(one[2 + axis], two[2 + axis]) - max(one[axis], two[axis]) for axis in (0, 1)]
    common = max(sides[0], 0.0) * max(sides[1], 0.0)
    areas = [(box[2] - box[0]) * (box[3] - box[1]) for box in (one, two)]
    return float(common / (sum(areas) - common))


def _normalised(images: Any) -> Any:  # noqa: ANN401 - torch tensors
    return (images.permute(0, 3, 1, 2).float() - 127.5) / 128


def _loss(found: Sequence[Any], wanted: Sequence[Any]) -> Any:  # noqa: ANN401 - torch tensors
    """Return the focal loss of the scores plus 1 - IoU of the boxes of faces."""
    levels = len(wanted)
    logits = torch.cat([one[..., 0] for one in found[:levels]], dim=1)
    boxes = torch.cat(list(found[levels:]), dim=1)
    truth = torch.cat(list(wanted), dim=1)
    there = truth[..., 0]
    plain = nn.functional.binary_cross_entropy_with_logits(logits, there, reduction="none")
    sure = torch.where(there > 0, logits.sigmoid(), 1 - logits.sigmoid())
    focal = (plain * (1 - sure) ** 2).sum() / there.sum().clamp(min=1)
    here, distances = boxes[there > 0], truth[..., 1:][there > 0]
    if not len(here):
        return focal
    here = here.clamp(min=0) + 0.01 * here
    both = torch.minimum(here, distances), torch.maximum(here, distances)
    inner, outer = ((one[:, 0] + one[:, 2]).clamp(min=0) * (one[:, 1] + one[:, 3]).clamp(min=0) for one in both)
    return focal + (1 - inner / outer.clamp(min=1e-6)).mean() + 0.1 * nn.functional.smooth_l1_loss(here, distances)


def main(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The ONNX file to write.")],
    seed: int = 7,
    pictures: int = 1_000,
    rounds: int = 16,
) -> None:
    """Train the detector, write it, and print its results on held-out pictures."""
    # One thread, since the number of threads changes the order of sums, and so the file.
    torch.set_num_threads(1)
    out.write_bytes(export(train(seed, pictures, rounds)))
    there, found, boxes = evaluate(faces.load(Faces(file=str(out))), seed, 400)
    typer.echo(f"wrote {out}: {found} of {there} drawn faces found, {boxes} boxes, on 400 further pictures")


if __name__ == "__main__":
    typer.run(main)
