"""Decide how many links of the demo crawl have each label: how the image is made and served, and its expected verdict.

A label is a row of `LABELS`. The verdicts are those of the default params.yaml.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

import numpy as np

from laion_dask.demo.crawl.sites import CLOSED, GONE_ROOT, REMOVED_DOMAIN_ROOT, REMOVED_PAIRS, REMOVED_URLS

Size = Literal["normal", "large", "small", "long"]
Caption = Literal["right", "wrong", "short"]


@dataclass(frozen=True, slots=True)
class Label:
    """One kind of image link: its share of all links with usable alt text, its verdict, and the cause of that."""

    share: float
    expected: str
    root: str = ""
    folder: str = "photos"
    size: Size = "normal"
    caption: Caption = "right"
    picture: bool = True
    extension: str = ""
    opted_out: str = ""
    broken: str = ""


def _closed(share: float, kind: str, expected: str, folder: str = "photos", extension: str = "") -> Label:
    opted_out = kind if expected != "keep" else ""
    return Label(share, expected, root=CLOSED[kind].root, folder=folder, extension=extension, opted_out=opted_out)


def _broken(
    share: float, expected: str, kind: str, *, root: str = "", picture: bool = False, extension: str = ""
) -> Label:
    return Label(share, expected, root=root, broken=kind, picture=picture, extension=extension)


# The remainder of the links, about 6 in 10, is `good`.
LABELS: Final[dict[str, Label]] = {
    "good": Label(0.0, "keep"),
    "large": Label(0.02, "keep", size="large"),
    "near": Label(0.03, "keep", folder="copies"),
    "twin": Label(0.01, "keep", folder="mirror"),
    "turned": Label(0.008, "keep", extension="jpg"),
    "headers": Label(0.015, "keep"),
    "moved": Label(0.007, "keep", folder="old"),
    "odd_type": Label(0.01, "keep", folder="my.gifts"),
    "robots_open": _closed(0.006, "robots_path", "keep", folder="private/press"),
    "tdmrep_open": _closed(0.004, "tdmrep", "keep", folder="photos/free"),
    "wrong": Label(0.12, "low_similarity", caption="wrong"),
    "short": Label(0.02, "text_too_short", caption="short"),
    "repeat": Label(0.04, "duplicate_pair"),
    "watermark": Label(0.03, "watermark"),
    "unsafe": Label(0.03, "unsafe"),
    "listed": Label(0.005, "listed_hash"),
    "small": Label(0.02, "image_too_small", size="small"),
    "long": Label(0.01, "aspect_ratio", size="long"),
    "page_opt_out": Label(0.02, "page_opt_out"),
    "robots_all": _closed(0.008, "robots_all", "robots"),
    "robots_ccbot": _closed(0.007, "robots_ccbot", "robots"),
    "robots_own": _closed(0.006, "robots_own", "robots"),
    "robots_path": _closed(0.005, "robots_path", "robots", folder="private"),
    "robots_down": _closed(0.003, "robots_down", "robots"),
    "tdmrep": _closed(0.005, "tdmrep", "tdmrep", extension="jpg"),
    "x_robots_tag": Label(0.008, "x_robots_tag", opted_out="x_robots_tag"),
    "tdm_reservation": Label(0.004, "tdm_reservation", opted_out="tdm_reservation"),
    "content_usage": Label(0.004, "content_usage", opted_out="content_usage"),
    "not_found": _broken(0.012, "not_found", "not_found"),
    "gone": _broken(0.002, "not_found", "gone"),
    "html": _broken(0.008, "not_an_image", "html", extension="jpg"),
    "truncated": _broken(0.008, "truncated_image", "truncated", picture=True, extension="jpg"),
    "bomb": _broken(0.004, "too_many_pixels", "too_many_pixels", extension="png"),
    "unreachable": _broken(0.006, "unreachable", "unreachable", root=GONE_ROOT),
    "forbidden": _broken(0.004, "http_error", "forbidden"),
    "server_error": _broken(0.002, "http_error", "server_error"),
    "loop": _broken(0.004, "redirects", "redirect_loop"),
    "removed_domain": Label(0.009, "removed_domain", root=REMOVED_DOMAIN_ROOT),
    "removed_url": Label(0.004, "removed_url", extension="jpg"),
    "removed_uid": Label(0.0012, "removed_uid", extension="jpg"),
}

STATUS: Final = {"not_found": 404, "gone": 410, "forbidden": 403, "server_error": 500}

Headers = tuple[tuple[str, str], ...]

# facts.md of the project's sources, 5.3 to 5.7, has the grammar and these cases.
REFUSING_HEADERS: Final[dict[str, tuple[Headers, ...]]] = {
    "x_robots_tag": (
        (("X-Robots-Tag", "noai"),),
        (("X-Robots-Tag", "max-image-preview:large, noai"),),
        (("x-robots-tag", "NOAI, NOIMAGEAI"),),
        (("X-Robots-Tag", "nofollow"), ("X-Robots-Tag", "noimageai")),
        (("X-Robots-Tag", "googlebot: nofollow, laion-dask: noai"),),
        (("X-Robots-Tag", "noindex"),),
        (("X-Robots-Tag", "none"),),
        (("X-Robots-Tag", "noml"),),
    ),
    "tdm_reservation": (
        (("tdm-reservation", "1"),),
        (("TDM-Reservation", "1"), ("TDM-Policy", "https://policy.example/tdm")),
    ),
    "content_usage": ((("Content-Usage", "train-ai=n"),), (("Content-Usage", "search=y, train-ai=n"),)),
}
ALLOWED_HEADERS: Final[tuple[Headers, ...]] = (
    (("X-Robots-Tag", "googlebot: noindex"),),
    (("X-Robots-Tag", "googlebot: noindex, noai"),),
    (("X-Robots-Tag", "all"),),
    (("X-Robots-Tag", "index, follow, max-snippet:-1"),),
    (("X-Robots-Tag", "unavailable_after: 25 Jun 2030 15:00:00 PST"),),
    (("tdm-reservation", "0"),),
    (("Content-Usage", "train-ai=y"),),
)

# How a page opts out: its kind, its metas (attribute, name, content), its headers.
PageSignal = tuple[str, tuple[tuple[str, str, str], ...], Headers]
PAGE_OPT_OUTS: Final[tuple[PageSignal, ...]] = (
    ("page_meta_robots", (("name", "robots", "noai, noimageai"),), ()),
    ("page_meta_robots", (("name", "ROBOTS", "index, NOIMAGEAI"),), ()),
    ("page_meta_robots", (("name", "robots", "noindex"),), ()),
    ("page_x_robots_tag", (), (("X-Robots-Tag", "noai"),)),
    ("page_x_robots_tag", (), (("X-Robots-Tag", "nofollow"), ("X-Robots-Tag", "noimageai"))),
    ("page_tdm_reservation", (("name", "tdm-reservation", "1"),), ()),
    ("page_content_usage", (), (("Content-Usage", "train-ai=n"),)),
)
PAGE_ALLOWED: Final[tuple[PageSignal, ...]] = (
    ("", (("name", "robots", "index, follow"),), ()),
    ("", (("name", "robots", "nofollow, max-image-preview:large"),), ()),
    ("", (("name", "tdm-reservation", "0"),), ()),
    ("", (), (("X-Robots-Tag", "googlebot: noindex"),)),
    ("", (), (("X-Robots-Tag", "all"),)),
)


def counts(links: int) -> dict[str, int]:
    """Return the number of links of each label in a crawl of about `links`: at least one, and at least 8 good ones."""
    numbers = {name: max(1, round(label.share * links)) for name, label in LABELS.items()}
    # At least one link for each signal of pages and images.
    numbers["page_opt_out"] = max(len(PAGE_OPT_OUTS), numbers["page_opt_out"])
    for name, signals in (*REFUSING_HEADERS.items(), ("headers", ALLOWED_HEADERS)):
        numbers[name] = max(min(len(signals), links // 100), numbers[name])
    # The ledger of removals has a fixed number of addresses and pairs.
    for name, most in (("removed_url", len(REMOVED_URLS)), ("removed_uid", len(REMOVED_PAIRS))):
        numbers[name] = min(most, max(2, numbers[name]))
    rest = links - sum(numbers.values()) + numbers["good"]
    return numbers | {"good": max(8, rest)}


def draw_size(rng: np.random.Generator, size: Size) -> tuple[int, int]:
    """Return width and height in px, upright, either of them the longer side."""
    if size == "large":
        short = int(rng.integers(1024, 1281))
        long = min(1600, round(short * rng.uniform(1.0, 1.5)))
    elif size == "small":
        short = int(rng.integers(32, 57))
        long = round(short * rng.uniform(1.0, 1.6))
    elif size == "long":
        short = int(rng.integers(70, 120))
        long = round(short * rng.uniform(3.2, 4.5))
    else:
        # Most pictures on the web are thumbnails: the median is 190 px, one in twenty is above 400 px.
        short = int(np.clip(np.exp(rng.normal(5.25, 0.42)), 100, 700))
        long = round(short * rng.uniform(1.0, 1.6))
    return (long, short) if rng.random() < 0.6 else (short, long)
