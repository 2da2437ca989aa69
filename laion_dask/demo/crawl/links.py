"""Write links like real pages: relative, padded or misspelt addresses, and links that are not images.

This is the noise around the pairs, which extraction has to resolve, clean or drop.
"""

from __future__ import annotations

import posixpath
from dataclasses import dataclass
from typing import Final
from urllib.parse import unquote, urlsplit

import numpy as np

from laion_dask.demo.crawl.sites import Site

IMAGE: Final = "IMG@/src"
LICENSES: Final = (
    "https://creativecommons.org/licenses/by/4.0/",
    "https://creativecommons.org/licenses/by-sa/4.0/",
    "https://creativecommons.org/licenses/by-nc/3.0/",
    "http://creativecommons.org/publicdomain/zero/1.0/",
)


@dataclass(frozen=True, slots=True)
class Truth:
    """The truth about one image link: the columns of `schema.TRUTH` that do not depend on its place."""

    url: str
    text: str
    expected: str
    language: str = ""
    matching: bool = False
    unsafe: bool = False
    watermark: bool = False
    opted_out: str = ""
    broken: str = ""
    near_duplicate: bool = False
    original: str = ""
    beauty: float | None = None
    thing: str = ""
    color: str = ""
    uid: str = ""


@dataclass(frozen=True, slots=True)
class WrittenLink:
    """One object of `HTML-Metadata.Links`, its fields in order; image links have a truth."""

    fields: tuple[tuple[str, str], ...]
    truth: Truth | None = None


def image_link(truth: Truth, url: str | None, alt: str | None, title: str = "") -> WrittenLink:
    """Return an image link; a field that is None is left out, as in Common Crawl."""
    fields = [("path", IMAGE)]
    fields += [] if url is None else [("url", url)]
    fields += [] if alt is None else [("alt", alt)]
    fields += [("title", title)] if title else []
    return WrittenLink(tuple(fields), truth)


def written(rng: np.random.Generator, target: str, base: str) -> str:
    """Return a spelling of `target` for a page with the effective `base`, which resolves to `target`."""
    to, at = urlsplit(target), urlsplit(base)
    rest = target.split(to.netloc, 1)[1]
    forms = [target, target, target, f"{to.scheme.upper()}://{to.netloc}{rest}", f" {target}\n"]
    port = "443" if to.scheme == "https" else "80"
    forms.append(f"{to.scheme}://{to.netloc.upper()}:{port}{rest}")
    if to.scheme == at.scheme:
        forms += [f"//{to.netloc}{rest}"] * 2
        if to.netloc == at.netloc:
            folder = posixpath.dirname(at.path) or "/"
            query = f"?{to.query}" if to.query else ""
            relative = posixpath.relpath(to.path, folder) + query
            forms += [rest, rest, rest, relative, relative, f"./{relative}", f"/static/..{rest}"]
    form = forms[int(rng.integers(len(forms)))]
    # Pages often write spaces and accents unencoded; browsers encode them.
    return unquote(form) if "%" in form and rng.random() < 0.5 else form


def noisy(rng: np.random.Generator, text: str, language: str) -> str:
    """Return an alt text that cleaning turns into `text`: padded, on two lines, with a control character, mojibake."""
    kind = int(rng.integers(6))
    if kind == 0:
        return f"  {text} "
    if kind == 1:
        return f"\n\t{text}\n"
    if kind == 2:
        return text.replace(" ", "  ", 1)
    if kind == 3:
        return text.replace(" ", "\n   ", 1)
    if kind == 4:
        return text.replace(" ", " \x07", 1)
    # UTF-8 read as Windows-1252: "étoile" becomes "Ã©toile".
    return text.encode().decode("cp1252") if language == "fr" else text


# Kind of junk -> its verdict.
JUNK: Final[dict[str, str]] = {
    "icon": "no_alt",
    "blank": "no_alt",
    "data": "no_alt",
    "spacer": "no_alt",
    "data_alt": "url_scheme",
    "spacer_alt": "url_pattern",
    "svg": "url_pattern",
    "gif": "url_pattern",
    "script": "url_scheme",
    "ftp": "url_scheme",
    "local": "private_host",
    "loopback": "private_host",
    "private": "private_host",
    "long": "url_too_long",
    "bracket": "bad_url",
    "space": "bad_url",
    "port": "bad_url",
    "percent": "bad_url",
    "nothing": "no_url",
}


def junk(rng: np.random.Generator, kind: str, site: Site, base: str) -> WrittenLink:
    """Return an image link that extraction drops."""
    n = int(rng.integers(10_000))
    pixel = "data:image/gif;base64,"
    addresses: dict[str, tuple[str | None, str | None]] = {
        "icon": (f"{site.images}assets/icon-{n}.png", None),
        "blank": (f"{site.images}assets/photo-{n}.jpg", ""),
        "data": (pixel, None),
        "spacer": (f"{site.images}assets/spacer.gif", ""),
        "data_alt": (pixel, "Picture is loading"),
        "spacer_alt": (f"{site.images}assets/spacer.gif", "spacer image"),
        "svg": (f"{site.images}icons/menu-{n}.svg?v=3", "Open the menu & search"),
        "gif": (f"{site.images}banners/{n}.GIF", "Banner of our spring sale"),
        "script": ("javascript:void(0)", "Next picture"),
        "ftp": (f"ftp://{site.host}/pub/{n}.jpg", "Picture in the old archive"),
        "local": (f"http://localhost/preview/{n}.jpg", "Preview of the new page"),
        "loopback": (f"http://127.0.0.1:8080/{n}.jpg", "Preview of the new page"),
        "private": (f"http://192.168.1.20/cam/{n}.jpg", "Camera at the front door"),
        "long": (f"{site.images}scaled/{n}/{'x' * 2_100}.jpg", "Picture with a long address"),
        "bracket": (f"http://[::1/{n}.jpg", "Picture with a broken address"),
        "space": (f"https://{site.name} photos.example/{n}.jpg", "Picture with a broken address"),
        "port": (f"https://{site.host}:99999/{n}.jpg", "Picture with a broken address"),
        "percent": (f"https://%zz/{n}.jpg", "Picture with a broken address"),
        "nothing": (None, "Picture without an address"),
    }
    url, alt = addresses[kind]
    shown = url
    # Only addresses that resolve get another spelling.
    if kind in {"icon", "blank", "spacer", "spacer_alt", "svg", "gif"} and url:
        shown = written(rng, url, base)
    return image_link(Truth(url or "", alt or "", JUNK[kind]), shown, alt)


def furniture(rng: np.random.Generator, site: Site, number: int, count: int) -> list[WrittenLink]:
    """Return `count` links that are not images: anchors, backgrounds, forms, empty objects of self-closed tags."""
    shop = f"{site.name.replace('-', ' ').title()} & Friends"
    kinds: list[tuple[tuple[str, str], ...]] = [
        (("path", "A@/href"), ("url", "/"), ("text", f"Home of {shop}")),
        (("path", "A@/href"), ("url", f"page-{number + 1}.html"), ("title", 'The "next" page'), ("text", "Next >")),
        (
            ("path", "A@/href"),
            ("url", f"{site.root}full/{number}.jpg"),
            ("alt", "A link is no picture"),
            ("target", "_blank"),
        ),
        (("path", "A@/href"), ("url", "javascript:history.back()"), ("text", "Back")),
        (("path", "A@/href"), ("url", f"mailto:desk@{site.host}"), ("text", "Write to us")),
        (("path", "AREA@/href"), ("url", "#map"), ("rel", "nofollow")),
        (("path", "STYLE/#text"), ("href", "/css/background.png")),
        (("path", "DIV@/background"), ("url", "/css/tile.png")),
        (("path", "FORM@/action"), ("url", "/search"), ("method", "get")),
        (("path", "IMG@/longdesc"), ("url", f"/descriptions/{number}.html")),
        (("path", "VIDEO@/poster"), ("url", f"/video/{number}.jpg")),
        (),
    ]
    return [WrittenLink(kinds[int(place)]) for place in rng.integers(len(kinds), size=count)]


def license_link(rng: np.random.Generator) -> WrittenLink:
    """Return a link to a Creative Commons licence in the body of the page."""
    url = LICENSES[int(rng.integers(len(LICENSES)))]
    return WrittenLink((("path", "A@/href"), ("url", url), ("text", "Some rights reserved"), ("rel", "license")))
