"""Make the pairs of the demo crawl: scene, caption, address, and the response of the address."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final

import numpy as np

from laion_dask.demo.crawl.answers import EXTENSIONS, DrawnPicture, Fault, Format, HostAnswer
from laion_dask.demo.crawl.captions import caption, code_caption
from laion_dask.demo.crawl.labels import ALLOWED_HEADERS, LABELS, REFUSING_HEADERS, STATUS, Label, counts, draw_size
from laion_dask.demo.crawl.links import Truth, WrittenLink, image_link
from laion_dask.demo.crawl.scenes import Scene, random_scene
from laion_dask.demo.crawl.sites import REMOVED_PAIRS, REMOVED_URLS, Site
from laion_dask.schema.reasons import REASONS

if TYPE_CHECKING:
    from laion_dask.demo.crawl.plan import PlannedPage

# Texts of fewer than five characters, the limit of LAION-5B.
SHORT: Final = ("logo", "NA", "img", "1/2", "pic", "图片", "foto", "фото")
NO_LANGUAGE: Final = 0.1
# Share of wrong captions whose picture has a right caption on another page.
REUSED: Final = 0.75
FORMATS: Final[tuple[Format, ...]] = ("JPEG", "JPEG", "JPEG", "PNG", "WEBP")
# Labels whose links are derived from earlier ones.
DERIVED: Final = ("near", "twin", "wrong", "short", "repeat")


@dataclass(frozen=True, slots=True)
class PlannedPair:
    """One image link to be placed on a page."""

    page: int
    truth: Truth


class Pairs:
    """Makes the pairs, one label after the other, and collects their responses, pictures and copies."""

    def __init__(self, rng: np.random.Generator, sites: tuple[Site, ...], links: int) -> None:
        self.answers: list[HostAnswer] = []
        self.same_bytes: dict[str, str] = {}
        self._rng = rng
        self._counts = counts(links)
        self._number = 0
        self._good: list[tuple[PlannedPair, DrawnPicture]] = []
        self._made: list[PlannedPair] = []
        self._logos = {site.name: self._make_logo(site) for site in sites}

    def logo(self, site: Site) -> WrittenLink:
        """Return the link to the site's logo, the same on all of its pages."""
        return self._logos[site.name]

    def make(self, pages: list[PlannedPage], open_pages: list[int], closed_pages: list[int]) -> list[PlannedPair]:
        """Return all pairs, each with the number of its page; only `page_opt_out` uses `closed_pages`."""
        for name in sorted(LABELS, key=lambda name: name in DERIVED):
            for order in range(self._counts[name]):
                if name == "page_opt_out":
                    page = pages[closed_pages[order % len(closed_pages)]]
                else:
                    page = pages[open_pages[int(self._rng.integers(len(open_pages)))]]
                pair = self._derived(name, order, page) if name in DERIVED else self._pair(name, order, page)
                self._made.append(pair)
        return self._made

    def _language(self, page: PlannedPage) -> str:
        return "" if self._rng.random() < NO_LANGUAGE else page.language

    def _caption(self, scene: Scene, language: str) -> str:
        return caption(scene, language, self._rng) if language else code_caption(scene, self._rng)

    def _wrong_caption(self, scene: Scene, language: str) -> str:
        """Return the caption of another thing in another color, or a bare code."""
        if not language:
            codes = [code_caption(None, self._rng) for _ in range(2)]
            return " & ".join(codes[: int(self._rng.integers(1, 3))])
        other = scene
        while other.thing == scene.thing or other.color == scene.color:
            other = random_scene(self._rng)
        return caption(other, language, self._rng)

    def _picture(self, scene: Scene, label: Label, *, turned: bool = False) -> DrawnPicture:
        width, height = draw_size(self._rng, label.size)
        kinds = [kind for kind in FORMATS if EXTENSIONS[kind] == label.extension] or FORMATS
        kind = kinds[int(self._rng.integers(len(kinds)))]
        orientation = (3, 6, 8)[int(self._rng.integers(3))] if turned else 1
        quality = int(self._rng.integers(75, 96))
        return DrawnPicture(
            scene, width, height, kind, quality, orientation, alpha=kind == "PNG" and self._rng.random() < 0.15
        )

    def _address(self, root: str, folder: str, scene: Scene, extension: str) -> str:
        """Return a new address; some have a query, a space or a letter outside ASCII, percent-encoded."""
        self._number += 1
        chance = self._rng.random()
        slug = scene.thing
        if chance < 0.04:
            slug = f"{scene.color}%20{scene.thing}"
        elif chance < 0.08:
            slug = f"gr%C3%B6%C3%9Fe-{scene.thing}"
        query = "?w=640&fit=crop" if chance > 0.9 else ""
        return f"{root}{folder}/{slug}-{self._number:05d}.{extension}{query}"

    def _make_logo(self, site: Site) -> WrittenLink:
        url = f"{site.images}assets/logo.{'svg' if site.logo == 'svg' else 'png'}"
        if site.logo == "svg":
            return image_link(Truth(url, "Logo & claim", "url_pattern"), url, "Logo & claim")
        if site.logo == "no_alt":
            return image_link(Truth(url, "", "no_alt"), url, None)
        scene = random_scene(self._rng, size="large")
        side = int(self._rng.integers(128, 200))
        self.answers.append(HostAnswer(url, picture=DrawnPicture(scene, side, side, "PNG")))
        text = caption(scene, "en", self._rng)
        # Most sites write it relative to the root, if pictures are on the same host.
        shown = "/assets/logo.png" if site.host == site.image_host else url
        return image_link(_with_scene(Truth(url, text, "keep", "en", matching=True), scene), shown, text)

    def _pair(self, name: str, order: int, page: PlannedPage) -> PlannedPair:
        """Make a pair with its own picture."""
        label = LABELS[name]
        language = self._language(page)
        fixed: dict[str, object] = {"watermark": name == "watermark", "unsafe": name in {"unsafe", "listed"}}
        if name == "removed_uid":
            url, text, thing, color = REMOVED_PAIRS[order]
            scene = random_scene(self._rng, **fixed, thing=thing, color=color)
            language = "en"
            picture = self._picture(scene, label)
        else:
            scene = random_scene(self._rng, **fixed)
            text = self._caption(scene, language)
            picture = self._picture(scene, label, turned=name == "turned")
            url = self._address(
                label.root or page.site.images, label.folder, scene, label.extension or EXTENSIONS[picture.format]
            )
            if name == "removed_url":
                url = REMOVED_URLS[order]
        truth = Truth(url, text, label.expected, language, opted_out=label.opted_out, broken=label.broken)
        truth = replace(truth, unsafe=scene.unsafe, watermark=scene.watermark)
        if label.picture:
            truth = _with_scene(replace(truth, matching=True), scene)
        self._answer(name, order, url, picture)
        pair = PlannedPair(page.number, truth)
        if name == "good":
            self._good.append((pair, picture))
        return pair

    def _derived(self, name: str, order: int, page: PlannedPage) -> PlannedPair:
        """Make a pair from an earlier one: repeated, copied, or with another caption."""
        label = LABELS[name]
        language = self._language(page)
        if name == "repeat":
            # A third repeats any pair that reaches the catalog, the others a good pair.
            pool = self._made if order % 3 == 0 else [pair for pair, _ in self._good]
            choice = pool[int(self._rng.integers(len(pool)))]
            while choice.truth.expected in REASONS["extract"]:
                choice = pool[int(self._rng.integers(len(pool)))]
            return PlannedPair(page.number, choice.truth)
        if name == "wrong" and self._rng.random() > REUSED:
            scene = random_scene(self._rng)
            picture = self._picture(scene, label)
            url = self._address(page.site.images, label.folder, scene, EXTENSIONS[picture.format])
            self.answers.append(HostAnswer(url, picture=picture))
            text = self._wrong_caption(scene, language)
            return PlannedPair(page.number, _with_scene(Truth(url, text, label.expected, language), scene))
        # Every near-duplicate has its own original, so that no two copies are equal.
        place = order % len(self._good) if name == "near" else int(self._rng.integers(len(self._good)))
        source, picture = self._good[place]
        scene = picture.scene
        if name in {"wrong", "short"}:
            text = SHORT[order % len(SHORT)] if name == "short" else self._wrong_caption(scene, language)
            language = "" if name == "short" else language
            return PlannedPair(page.number, _with_scene(Truth(source.truth.url, text, label.expected, language), scene))
        if name == "near":
            scale = float(self._rng.choice([0.75, 0.9, 1.25, 1.5]))
            width, height = (max(100, round(side * scale)) for side in (picture.width, picture.height))
            kind: Format = "WEBP" if picture.format == "JPEG" else "JPEG"
            picture = DrawnPicture(scene, width, height, kind, quality=80)
        url = self._address(page.site.images, label.folder, scene, EXTENSIONS[picture.format])
        self.answers.append(HostAnswer(url, picture=picture))
        if name == "twin":
            self.same_bytes[url] = source.truth.url
        truth = Truth(url, self._caption(scene, language), label.expected, language, matching=True)
        if name == "near":
            truth = replace(truth, near_duplicate=True, original=source.truth.url)
        return PlannedPair(page.number, _with_scene(truth, scene))

    def _answer(self, name: str, order: int, url: str, picture: DrawnPicture) -> None:
        """Add the response of an address; the host that is gone has none."""
        if name == "unreachable":
            return
        if name in STATUS:
            self.answers.append(HostAnswer(url, status=STATUS[name], text=f"<h1>{STATUS[name]}</h1>"))
        elif name == "html":
            self.answers.append(HostAnswer(url, content_type="image/jpeg", text="<!doctype html><p>Please log in</p>"))
        elif name == "loop":
            back = url + "&again=1" if "?" in url else url + "?again=1"
            self.answers += [
                HostAnswer(at, status=302, headers=(("Location", to),)) for at, to in ((url, back), (back, url))
            ]
        elif name == "moved":
            target = url.replace("/old/", "/new/")
            # Every other redirect has a location without the host.
            location = "/" + target.split("/", 3)[3] if order % 2 else target
            self.answers.append(HostAnswer(url, status=301 if order % 3 else 302, headers=(("Location", location),)))
            self.answers.append(HostAnswer(target, picture=picture))
        else:
            signals = ALLOWED_HEADERS if name == "headers" else REFUSING_HEADERS.get(name, ((),))
            faults: dict[str, Fault] = {"truncated": "truncated", "bomb": "bomb"}
            odd = (
                ("application/octet-stream", "image/jpg", "binary/octet-stream")[order % 3]
                if name == "odd_type"
                else ""
            )
            answer = HostAnswer(url, headers=signals[order % len(signals)], picture=picture, content_type=odd)
            answer = replace(answer, fault=faults.get(name, ""), listed=name == "listed")
            self.answers.append(answer)


def _with_scene(truth: Truth, scene: Scene) -> Truth:
    return replace(
        truth, beauty=scene.beauty, thing=scene.thing, color=scene.color, unsafe=scene.unsafe, watermark=scene.watermark
    )
