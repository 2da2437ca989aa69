"""Draw a labelled picture from a seed.

A scene is the truth about a picture: its thing with color, size and setting, its beauty, and whether it has a watermark
or the unsafe mark. Pictures show flat things, drawn with Pillow. The unsafe mark is a magenta badge with an exclamation
mark: by convention it marks a picture that must be filtered out, and depicts nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from PIL import Image, ImageChops, ImageDraw, ImageFilter, ImageFont

from laion_dask.demo.crawl.shapes import SHAPES

RGB = tuple[int, int, int]

THINGS: tuple[str, ...] = tuple(SHAPES)
COLORS: dict[str, RGB] = {
    "red": (215, 25, 30),
    "orange": (250, 135, 10),
    "yellow": (250, 228, 40),
    "green": (25, 150, 50),
    "blue": (25, 80, 225),
    "purple": (125, 35, 170),
    "black": (22, 22, 24),
    "white": (250, 250, 250),
}
# For colors whose computed darker or lighter tone would not be visible.
OTHER_TONES: dict[str, dict[str, RGB]] = {
    "black": {"dark": (70, 70, 74)},
    "white": {"dark": (96, 98, 104), "light": (205, 210, 218)},
}
SIZES: tuple[str, ...] = ("small", "large")
SETTINGS: tuple[str, ...] = ("snow", "night sky", "meadow", "sea", "desert", "plain wall")

# Half the extent of the thing, as a share of the shorter side of the picture.
RADIUS = {"small": 0.17, "large": 0.32}
# The longest side that is drawn; larger pictures are upscaled, so that 1,600 px take less than 60 ms.
WORK_PX = 640
# Smaller pictures are drawn at this side and downscaled, so that thin lines stay visible.
FINE_PX = 192


@dataclass(frozen=True, slots=True)
class Scene:
    """The content of a picture, in plain values, so that it can be a row of a truth table."""

    thing: str
    color: str
    size: str
    setting: str
    beauty: float
    watermark: bool = False
    unsafe: bool = False
    seed: int = 0


def random_scene(rng: np.random.Generator, **fixed: Any) -> Scene:  # noqa: ANN401 - any field of Scene
    """Return a uniformly random scene with the ``fixed`` fields; marks are false unless fixed."""
    drawn: dict[str, Any] = {
        "thing": str(rng.choice(THINGS)),
        "color": str(rng.choice(list(COLORS))),
        "size": str(rng.choice(SIZES)),
        "setting": str(rng.choice(SETTINGS)),
        "beauty": round(float(rng.uniform(1.0, 10.0)), 1),
        "seed": int(rng.integers(2**31)),
    }
    return Scene(**(drawn | fixed))


def draw(scene: Scene, width: int, height: int) -> Image.Image:
    """Return the RGB picture of ``scene``: the same pixels for the same size, nearly the same picture at any size."""
    longest = max(width, height)
    scale = min(1.0, WORK_PX / longest) if longest > FINE_PX else FINE_PX / longest
    work = (max(16, round(width * scale)), max(16, round(height * scale)))
    rng = np.random.default_rng([scene.seed, 2026])
    quality = (scene.beauty - 1.0) / 9.0
    picture = _background(scene.setting, work, rng)
    _clutter(picture, 1.0 - quality, rng)
    picture = _glow(picture, quality)
    _paste_thing(picture, scene, quality, rng)
    picture = _grain(picture, 1.0 - quality, rng)
    _frame(picture, quality)
    if scene.watermark:
        picture = _watermark(picture, rng)
    if scene.unsafe:
        _unsafe_mark(picture, rng)
    return picture if work == (width, height) else picture.resize((width, height), Image.Resampling.BICUBIC)


def _shade(color: RGB, by: float) -> RGB:
    """Return ``color`` moved towards white (``by`` > 0) or black (``by`` < 0)."""
    target = 255 if by > 0 else 0
    red, green, blue = (round(c + (target - c) * abs(by)) for c in color)
    return red, green, blue


def _bands(size: tuple[int, int], colors: list[RGB], stops: list[float]) -> Image.Image:
    """Return a vertical gradient through ``colors`` at the heights ``stops``, 0 to 1."""
    rows = np.linspace(0, 1, 128)
    columns = np.stack([np.interp(rows, stops, [c[i] for c in colors]) for i in range(3)], axis=-1)
    return Image.fromarray(columns.round().astype(np.uint8)[:, None, :]).resize(size, Image.Resampling.BILINEAR)


def _hills(pen: ImageDraw.ImageDraw, size: tuple[int, int], top: float, color: RGB, rng: np.random.Generator) -> None:
    width, height = size
    phase, waves = rng.uniform(0, 6.28), rng.uniform(0.7, 1.6)
    x = np.linspace(0, width, 24)
    y = height * (top + 0.05 * np.sin(phase + waves * 6.28 * x / width))
    pen.polygon([(0, height), *zip(x.tolist(), y.tolist(), strict=True), (width, height)], fill=color)


def _background(setting: str, size: tuple[int, int], rng: np.random.Generator) -> Image.Image:
    width, height = size
    unit = min(size)
    lift = float(rng.uniform(-0.1, 0.1))
    skies: dict[str, tuple[list[RGB], list[float]]] = {
        "snow": ([(196, 212, 232), (228, 236, 246), (240, 245, 250)], [0, 0.5, 1]),
        "night sky": ([(6, 8, 34), (20, 20, 66), (44, 36, 92)], [0, 0.6, 1]),
        "meadow": ([(120, 190, 245), (190, 225, 250), (110, 185, 80), (80, 160, 55)], [0, 0.4, 0.45, 1]),
        "sea": ([(205, 225, 235), (180, 215, 230), (20, 120, 150), (10, 80, 120)], [0, 0.34, 0.36, 1]),
        "desert": ([(250, 205, 150), (252, 228, 185), (228, 188, 120)], [0, 0.5, 1]),
        "plain wall": ([(168, 160, 152), (180, 172, 164), (172, 164, 156)], [0, 0.5, 1]),
    }
    colors, stops = skies[setting]
    picture = _bands(size, [_shade(c, lift) for c in colors], stops)
    pen = ImageDraw.Draw(picture)
    spots = rng.random((40, 3))
    if setting == "snow":
        _hills(pen, size, 0.62, (250, 252, 255), rng)
        _hills(pen, size, 0.8, (218, 230, 244), rng)
    elif setting == "desert":
        _hills(pen, size, 0.55, (226, 178, 104), rng)
        _hills(pen, size, 0.75, (205, 152, 84), rng)
    elif setting == "plain wall":
        pen.rectangle((0, height * 0.86, width, height), fill=(122, 96, 74))
        pen.line((0, height * 0.86, width, height * 0.86), fill=(90, 70, 54), width=max(1, unit // 90))
    for x, y, r in spots:
        if setting in {"snow", "night sky"}:
            radius = unit * (0.004 + 0.009 * r)
            fill = (255, 250, 215) if setting == "night sky" else (255, 255, 255)
            pen.ellipse((x * width - radius, y * height - radius, x * width + radius, y * height + radius), fill=fill)
        elif setting == "sea":
            left, row = x * width, height * (0.4 + 0.6 * y)
            pen.line((left, row, left + unit * 0.12, row), fill=(90, 180, 200), width=max(1, unit // 110))
        elif setting == "meadow":
            left, row = x * width, height * (0.5 + 0.5 * y)
            pen.line((left, row, left + unit * 0.02, row - unit * 0.06), fill=(45, 120, 35), width=max(1, unit // 110))
    return picture


def _clutter(picture: Image.Image, amount: float, rng: np.random.Generator) -> None:
    """Scatter grey litter; more of it means less beauty."""
    pen = ImageDraw.Draw(picture)
    unit = min(picture.size)
    litter = rng.random((16, 5))
    for x, y, w, h, tone in litter[: round(16 * amount)]:
        left, top = x * picture.width, y * picture.height
        grey = round(60 + 110 * tone)
        box = (left, top, left + unit * (0.03 + 0.09 * w), top + unit * (0.02 + 0.06 * h))
        pen.rectangle(box, fill=(grey, grey - 8, grey - 16), outline=(40, 36, 32), width=max(1, unit // 160))


@lru_cache(maxsize=4)
def _radial(side: int) -> Image.Image:
    """Return a soft round light, 255 in the middle and 0 at the corners."""
    axis = np.linspace(-1, 1, side)
    distance = np.hypot(axis[:, None], axis[None, :]) / np.sqrt(2)
    return Image.fromarray((255 * (1 - distance) ** 1.5).round().astype(np.uint8))


def _glow(picture: Image.Image, amount: float) -> Image.Image:
    """Light the middle and darken the corners."""
    light = _radial(64).resize(picture.size, Image.Resampling.BILINEAR)
    darker = picture.point(lambda v: round(v * (1 - 0.45 * amount)))
    lighter = picture.point(lambda v: round(v + (255 - v) * 0.35 * amount))
    return Image.composite(lighter, darker, light)


def _paste_thing(picture: Image.Image, scene: Scene, quality: float, rng: np.random.Generator) -> None:
    unit = min(picture.size)
    turn, shift_x, shift_y, grow, tint, flip = rng.uniform(-1, 1, 6)
    radius = unit * RADIUS[scene.size] * (1 + 0.08 * grow)
    angle = np.radians(14 * turn)
    matrix = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]]) * radius * 2
    if flip > 0:
        matrix[:, 0] *= -1
    base = _shade(COLORS[scene.color], 0.1 * tint)
    dark_thing = scene.color in {"black", "purple", "blue"}
    tones = {"body": base, "dark": _shade(base, -0.6), "light": _shade(base, 0.65)} | OTHER_TONES.get(scene.color, {})
    edge = (238, 238, 230) if dark_thing else (28, 26, 30)
    # Twice the size, then halved: Pillow's polygons have hard edges.
    half = int(radius * 2 * 1.35)
    patch = Image.new("RGBA", (half * 2, half * 2), (*edge, 0))
    pen = ImageDraw.Draw(patch)
    parts = [
        (part.tone, [(float(x) + half, float(y) + half) for x, y in np.array(part.points) @ matrix.T])
        for part in SHAPES[scene.thing]
    ]
    for _tone, points in parts:
        pen.line([*points, points[0], points[1]], fill=edge, width=max(3, round(radius * 0.16)), joint="curve")
    for tone, points in parts:
        pen.polygon(points, fill=tones[tone])
    patch = patch.reduce(2)
    left = round(picture.width / 2 + unit * 0.06 * shift_x - patch.width / 2)
    top = round(picture.height / 2 + unit * 0.06 * shift_y - patch.height / 2)
    _shadow(picture, patch, (left, top), quality)
    picture.paste(patch, (left, top), patch)


def _shadow(picture: Image.Image, patch: Image.Image, at: tuple[int, int], amount: float) -> None:
    """Draw a soft shadow below ``patch``, blurred at a quarter of the size for speed."""
    low = patch.getchannel("A").reduce(4).filter(ImageFilter.GaussianBlur(max(1, patch.width / 60)))
    mask = low.resize(patch.size, Image.Resampling.BILINEAR).point(lambda v: round(v * 0.6 * amount))
    offset = round(patch.width * 0.05)
    picture.paste((0, 0, 0), (at[0] + offset, at[1] + offset), mask)


def _grain(picture: Image.Image, amount: float, rng: np.random.Generator) -> Image.Image:
    """Add compression artefacts (blocks), and reduce contrast."""
    noise = rng.integers(0, 256, (40, 40), dtype=np.uint8)
    blocks = Image.fromarray(noise).point(lambda v: round(128 + (v - 128) * 0.34 * amount))
    blocks = blocks.resize(picture.size, Image.Resampling.NEAREST).convert("RGB")
    grey = Image.new("RGB", picture.size, (128, 128, 128))
    return ImageChops.add(Image.blend(picture, grey, 0.22 * amount), blocks, 1, -128)


def _frame(picture: Image.Image, quality: float) -> None:
    """Draw a golden frame around the more beautiful half of the pictures, wider for more beauty."""
    width = round(min(picture.size) * 0.09 * (quality - 0.5))
    if width >= 1:
        pen = ImageDraw.Draw(picture)
        box = (0, 0, picture.width - 1, picture.height - 1)
        pen.rectangle(box, outline=(150, 112, 40), width=width + 2)
        pen.rectangle(box, outline=(214, 172, 84), width=max(1, width // 2))


@lru_cache(maxsize=64)
def _watermark_mask(width: int, height: int, offset: int) -> Image.Image:
    """Return a mask of repeated stripes and the word SAMPLE, rotated: 0, 96 (dark) or 255 (light)."""
    unit = min(width, height)
    side = int(np.hypot(width, height)) + 2
    step = max(8, unit // 5)
    mask = Image.new("L", (side, side), 0)
    pen = ImageDraw.Draw(mask)
    font = ImageFont.load_default(size=max(6, round(step * 0.5)))
    word = pen.textlength("SAMPLE  ", font=font)
    for row, y in enumerate(range(-step + offset * step // 8, side, step)):
        pen.rectangle((0, y, side, y + max(1, step // 7)), fill=255)
        pen.rectangle((0, y + max(1, step // 7), side, y + max(2, step // 5)), fill=96)
        for x in np.arange(-word * (row % 2) / 2, side, word):
            pen.text((float(x) + 1, y + step * 0.3 + 1), "SAMPLE", fill=96, font=font)
            pen.text((float(x), y + step * 0.3), "SAMPLE", fill=255, font=font)
    turned = mask.rotate(32, Image.Resampling.NEAREST)
    left, top = (side - width) // 2, (side - height) // 2
    return turned.crop((left, top, left + width, top + height))


def _watermark(picture: Image.Image, rng: np.random.Generator) -> Image.Image:
    """Draw the watermark over the whole picture, light and dark, so that it is visible on snow and at night."""
    mask = _watermark_mask(*picture.size, int(rng.integers(8)))
    picture.paste((255, 255, 255), (0, 0), mask.point(lambda v: 130 if v > 200 else 0))
    picture.paste((20, 20, 20), (0, 0), mask.point(lambda v: 130 if 40 < v < 200 else 0))
    return picture


def _unsafe_mark(picture: Image.Image, rng: np.random.Generator) -> None:
    """Draw a magenta badge with a black border and exclamation mark in one corner of the middle square."""
    unit = min(picture.size)
    side_x, side_y = rng.choice([-1, 1], 2)
    x, y = picture.width / 2 + side_x * unit * 0.26, picture.height / 2 + side_y * unit * 0.26
    r = unit * 0.19
    pen = ImageDraw.Draw(picture)
    for radius, fill in ((r, (0, 0, 0)), (r * 0.82, (255, 0, 200))):
        pen.polygon([(x, y - radius), (x + radius, y), (x, y + radius), (x - radius, y)], fill=fill)
    stroke = ((-0.13, -0.5), (0.13, -0.5), (0.07, 0.12), (-0.07, 0.12))
    pen.polygon([(x + r * dx, y + r * dy) for dx, dy in stroke], fill=(0, 0, 0))
    pen.ellipse((x - r * 0.12, y + r * 0.22, x + r * 0.12, y + r * 0.46), fill=(0, 0, 0))
