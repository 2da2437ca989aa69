"""Make the hosts of the demo crawl: page hosts, image hosts, and their rights files.

Every host is under `.example` (RFC 2606), so no name can be registered. Hosts in `CLOSED` and the fixed addresses of
the removal ledger are the same for every seed and size.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from hashlib import md5
from typing import Final, Literal

import numpy as np

from laion_dask.demo.crawl.answers import HostAnswer

LogoStyle = Literal["pair", "svg", "no_alt"]

_FIRST: Final = (
    "amber",
    "birch",
    "cedar",
    "delta",
    "ember",
    "fjord",
    "grove",
    "hazel",
    "ivory",
    "juniper",
    "kettle",
    "larch",
)
_SECOND: Final = ("atelier", "bazaar", "courier", "gardens", "museum", "notes", "studio", "travel")


@dataclass(frozen=True, slots=True)
class Site:
    """One web site: host of its pages, host of its pictures (often the same), scheme, style of its logo."""

    name: str
    scheme: str
    host: str
    image_host: str
    logo: LogoStyle

    @property
    def root(self) -> str:
        """Address of the home page."""
        return f"{self.scheme}://{self.host}/"

    @property
    def images(self) -> str:
        """Address of the root of the image host."""
        return f"{self.scheme}://{self.image_host}/"


@dataclass(frozen=True, slots=True)
class Closed:
    """An image host with a rights file that refuses some or all folders."""

    root: str
    path: str
    text: str
    status: int = 200

    @property
    def answer(self) -> HostAnswer:
        """The response with the rights file."""
        kind = "application/json" if self.path.endswith(".json") else "text/plain; charset=utf-8"
        return HostAnswer(self.root + self.path, status=self.status, content_type=kind, text=self.text)


def _rules(*rules: tuple[str, int]) -> str:
    return json.dumps([{"location": location, "tdm-reservation": value} for location, value in rules], indent=1)


# Label of the links -> their host. `media.partly` and `images.reserved` also have open folders.
CLOSED: Final[dict[str, Closed]] = {
    "robots_all": Closed("https://images.quiet.example/", "robots.txt", "User-agent: *\nDisallow: /\n"),
    "robots_ccbot": Closed(
        "http://photos.noccbot.example/", "robots.txt", "User-agent: CCBot\nDisallow: /\n\nUser-agent: *\nAllow: /\n"
    ),
    "robots_own": Closed(
        "https://pics.nodatasets.example/",
        "robots.txt",
        "User-agent: laion-dask\nDisallow: /\n\nUser-agent: *\nDisallow:\n",
    ),
    "robots_path": Closed(
        "https://media.partly.example/",
        "robots.txt",
        "# Comments and unknown lines are no rules\nSitemap: https://media.partly.example/sitemap.xml\n"
        "User-agent: *\nDisallow: /private/\nAllow: /private/press/\n",
    ),
    # RFC 9309, 2.3.1.4: a server error is "unreachable", which means complete disallow.
    "robots_down": Closed("http://img.busy.example/", "robots.txt", "try again later\n", status=503),
    "tdmrep": Closed(
        "https://images.reserved.example/",
        ".well-known/tdmrep.json",
        # TDMRep: the first rule that matches decides.
        _rules(("/photos/free/", 0), ("/photos/*.jpg", 1), ("/", 0)),
    ),
}

# Removals are the same for every seed and size, since the tracked removals.csv names them.
REMOVED_DOMAIN: Final = "takedown.example"
REMOVED_DOMAIN_ROOT: Final = f"https://images.{REMOVED_DOMAIN}/"
HARBOR: Final = "https://images.harbor.example/"
REMOVED_URLS: Final = tuple(f"{HARBOR}withdrawn/{number:04d}.jpg" for number in range(1, 17))
# Pairs that are removed by uid: address, text, thing and color.
REMOVED_PAIRS: Final = (
    (f"{HARBOR}archive/boat-01.jpg", "A small red boat by the sea", "boat", "red"),
    (f"{HARBOR}archive/house-02.jpg", "A large white house in the snow", "house", "white"),
    (f"{HARBOR}archive/tree-03.jpg", "A large green tree on a meadow", "tree", "green"),
    (f"{HARBOR}archive/car-04.jpg", "A small yellow car in the desert", "car", "yellow"),
    (f"{HARBOR}archive/star-05.jpg", "A small blue star in the night sky", "star", "blue"),
)
# A host that no longer exists: no WARC has a response of it.
GONE_ROOT: Final = "https://images.gone.example/"

_OPEN_ROBOTS: Final = (
    "User-agent: *\nDisallow:\n",
    "User-agent: *\nAllow: /\n\nUser-agent: BadBot\nDisallow: /\n",
    "User-agent: *\nDisallow: /admin/\nDisallow: /*.pdf$\n",
    "",
)


def uid(text: str, url: str) -> str:
    """Return the uid of a pair: md5 of text + url, as in cc2dataset and DataComp."""
    return md5((text + url).encode(), usedforsecurity=False).hexdigest()


def make_sites(rng: np.random.Generator, pages: int) -> tuple[Site, ...]:
    """Return 12 sites for a small crawl, 64 from 3,000 pages on; two thirds use https, half have an image host."""
    count = min(64, max(12, pages // 46))
    names = [f"{first}-{second}" for first in _FIRST for second in _SECOND]
    # One name outside ASCII, in punycode.
    chosen = [*rng.permutation(names).tolist()[: count - 1], "xn--bcherstube-9db"]
    styles: tuple[LogoStyle, ...] = ("pair", "no_alt", "pair", "svg", "no_alt")
    sites = []
    for number, name in enumerate(chosen):
        host = f"www.{name}.example" if number % 3 == 0 else f"{name}.example"
        image_host = f"images.{name}.example" if number % 2 == 0 else host
        scheme = "http" if number % 3 == 1 else "https"
        sites.append(Site(name, scheme, host, image_host, styles[number % len(styles)]))
    return tuple(sites)


def rights_files(sites: tuple[Site, ...]) -> list[HostAnswer]:
    """Return the responses for robots.txt and tdmrep.json of all hosts; every fifth site has no robots.txt."""
    answers = [closed.answer for closed in CLOSED.values()]
    answers += [
        HostAnswer(root + "robots.txt", text=_OPEN_ROBOTS[0], content_type="text/plain")
        for root in (HARBOR, REMOVED_DOMAIN_ROOT)
    ]
    for number, site in enumerate(sites):
        if number % 5:
            text = _OPEN_ROBOTS[number % len(_OPEN_ROBOTS)]
            answers.append(HostAnswer(site.images + "robots.txt", text=text, content_type="text/plain"))
        else:
            answers.append(HostAnswer(site.images + "robots.txt", status=404, text="<h1>Not Found</h1>"))
        if number % 7 == 3:
            answers.append(
                HostAnswer(
                    site.images + ".well-known/tdmrep.json", text=_rules(("/", 0)), content_type="application/json"
                )
            )
    return answers
