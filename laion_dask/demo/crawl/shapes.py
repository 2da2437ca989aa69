"""Outlines of the things that scenes show: polygons in a box of -1 to 1, y downwards.

Every outline is a list of points, circles too, so that one matrix rotates, mirrors and scales a thing. The things
differ in silhouette, not only in detail: the small CLIP sees a small one at about 22 x 22 px.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

import numpy as np

Tone = Literal["body", "dark", "light"]
Points = list[tuple[float, float]]


class ShapePart(NamedTuple):
    """A filled polygon in the color of the thing, or in a darker or lighter tone."""

    tone: Tone
    points: Points


def _arc(x: float, y: float, rx: float, ry: float, start: float = 0.0, stop: float = 360.0) -> Points:
    """Return points of an ellipse from ``start`` to ``stop`` degrees; 0 is right, 90 is down."""
    angles = np.radians(np.linspace(start, stop, 8 + round(abs(stop - start) / 15)))
    return [(x + rx * float(np.cos(a)), y + ry * float(np.sin(a))) for a in angles]


def _box(left: float, top: float, right: float, bottom: float) -> Points:
    return [(left, top), (right, top), (right, bottom), (left, bottom)]


def _star() -> tuple[ShapePart, ...]:
    radii = np.where(np.arange(10) % 2 == 0, 1.0, 0.42)
    angles = np.radians(np.arange(10) * 36.0 - 90.0)
    return (
        ShapePart("body", [(float(r * np.cos(a)), float(r * np.sin(a))) for r, a in zip(radii, angles, strict=True)]),
    )


def _heart() -> tuple[ShapePart, ...]:
    t = np.linspace(0, 2 * np.pi, 40, endpoint=False)
    x = np.sin(t) ** 3
    y = -(13 * np.cos(t) - 5 * np.cos(2 * t) - 2 * np.cos(3 * t) - np.cos(4 * t)) / 15
    return (ShapePart("body", [(float(a), float(b)) for a, b in zip(x, y, strict=True)]),)


def _flower() -> tuple[ShapePart, ...]:
    angles = np.radians(np.arange(6) * 60.0)
    petals = [
        ShapePart("body", _arc(0.42 * float(np.cos(a)), -0.3 + 0.42 * float(np.sin(a)), 0.28, 0.28)) for a in angles
    ]
    stem = ShapePart("dark", _box(-0.06, 0.2, 0.06, 1.0))
    leaf = ShapePart("dark", _arc(0.25, 0.72, 0.24, 0.11))
    return (stem, leaf, *petals, ShapePart("light", _arc(0, -0.3, 0.22, 0.22)))


def _umbrella() -> tuple[ShapePart, ...]:
    scallops = [point for x in (0.667, 0.0, -0.667) for point in _arc(x, 0.0, 0.333, 0.2, 0, -180)]
    hook = [*_arc(0.14, 0.78, 0.2, 0.2, 180, 0), *_arc(0.14, 0.78, 0.09, 0.09, 0, 180)]
    return (
        ShapePart("dark", _box(-0.06, -0.2, 0.05, 0.8)),
        ShapePart("dark", hook),
        ShapePart("body", [*_arc(0, 0, 1.0, 0.9, 180, 360), *scallops]),
    )


SHAPES: dict[str, tuple[ShapePart, ...]] = {
    "star": _star(),
    "house": (
        ShapePart("dark", _box(0.42, -0.95, 0.65, -0.3)),
        ShapePart("body", [(-0.75, 1), (-0.75, 0), (-1, 0), (0, -1), (1, 0), (0.75, 0), (0.75, 1)]),
        ShapePart("dark", _box(-0.15, 0.4, 0.2, 1.0)),
        ShapePart("light", _box(-0.58, 0.1, -0.26, 0.42)),
        ShapePart("light", _box(0.3, 0.1, 0.62, 0.42)),
    ),
    "fish": (
        ShapePart("body", [(0.45, 0), (1, -0.5), (0.88, 0), (1, 0.5)]),
        ShapePart("body", [(-0.2, -0.35), (0.1, -0.72), (0.35, -0.3)]),
        ShapePart("body", _arc(-0.25, 0, 0.75, 0.46)),
        ShapePart("light", _arc(-0.62, -0.1, 0.12, 0.12)),
        ShapePart("dark", _arc(-0.62, -0.1, 0.05, 0.05)),
    ),
    "tree": (
        ShapePart("dark", _box(-0.14, 0.6, 0.14, 1.0)),
        ShapePart("body", [(-0.8, 0.65), (0, -0.2), (0.8, 0.65)]),
        ShapePart("body", [(-0.62, 0.15), (0, -0.65), (0.62, 0.15)]),
        ShapePart("body", [(-0.44, -0.35), (0, -1.0), (0.44, -0.35)]),
    ),
    "car": (
        ShapePart(
            "body",
            [(-1, 0.35), (-1, -0.05), (-0.6, -0.1), (-0.35, -0.5), (0.35, -0.5), (0.65, -0.1), (1, 0), (1, 0.35)],
        ),
        ShapePart("light", [(-0.45, -0.1), (-0.28, -0.38), (-0.03, -0.38), (-0.03, -0.1)]),
        ShapePart("light", [(0.05, -0.1), (0.05, -0.38), (0.3, -0.38), (0.48, -0.1)]),
        ShapePart("dark", _arc(-0.52, 0.38, 0.25, 0.25)),
        ShapePart("dark", _arc(0.52, 0.38, 0.25, 0.25)),
    ),
    "moon": (ShapePart("body", [*_arc(0, 0, 0.95, 0.95, 60, 300), *_arc(0.36, 0, 0.83, 0.83, 278, 82)]),),
    "heart": _heart(),
    "boat": (
        ShapePart("dark", _box(-0.05, -1.0, 0.05, 0.45)),
        ShapePart("light", [(0.12, -0.9), (0.85, 0.3), (0.12, 0.3)]),
        ShapePart("body", [(-0.12, -0.8), (-0.12, 0.3), (-0.75, 0.3)]),
        ShapePart("body", [(-1, 0.42), (1, 0.42), (0.65, 0.9), (-0.65, 0.9)]),
    ),
    "flower": _flower(),
    "mushroom": (
        ShapePart("light", [(-0.28, 0), (0.28, 0), (0.36, 0.95), (-0.36, 0.95)]),
        ShapePart("body", _arc(0, 0.1, 1.0, 0.95, 180, 360)),
        ShapePart("light", _arc(-0.4, -0.25, 0.16, 0.14)),
        ShapePart("light", _arc(0.1, -0.5, 0.18, 0.15)),
        ShapePart("light", _arc(0.5, -0.15, 0.14, 0.12)),
    ),
    "cup": (
        ShapePart("body", [*_arc(0.5, 0.0, 0.5, 0.45, -90, 90), *_arc(0.5, 0.0, 0.28, 0.25, 90, -90)]),
        ShapePart("body", [(-0.85, -0.7), (0.6, -0.7), (0.42, 0.75), (-0.67, 0.75)]),
        ShapePart("dark", _arc(-0.125, -0.7, 0.72, 0.14)),
    ),
    "umbrella": _umbrella(),
    "key": (
        ShapePart("body", _box(-0.25, -0.12, 1.0, 0.12)),
        ShapePart("body", _box(0.78, 0.1, 0.96, 0.5)),
        ShapePart("body", _box(0.45, 0.1, 0.63, 0.42)),
        ShapePart("body", _arc(-0.55, 0, 0.45, 0.45)),
        ShapePart("dark", _arc(-0.55, 0, 0.2, 0.2)),
    ),
    "balloon": (
        ShapePart("dark", [(-0.03, 0.4), (0.03, 0.4), (0.12, 0.7), (0.03, 1.0), (-0.03, 1.0), (0.06, 0.7)]),
        ShapePart("body", [(0, 0.3), (0.14, 0.5), (-0.14, 0.5)]),
        ShapePart("body", _arc(0, -0.3, 0.58, 0.7)),
        ShapePart("light", _arc(-0.22, -0.55, 0.1, 0.17)),
    ),
}
