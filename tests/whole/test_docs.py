"""The documentation as a site: it builds without network, all of its links lead somewhere, and it loads nothing."""

from __future__ import annotations

import asyncio
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urlsplit

import pytest
from made.processes import browser, programs
from ruamel.yaml import YAML

ROOT = Path(__file__).parents[2]
# MkDocs in a process that may open no connection.
OFFLINE = """
import socket, sys

def refuse(*_):
    raise OSError("the documentation must build without network")

socket.socket.connect = socket.socket.connect_ex = socket.getaddrinfo = refuse
from mkdocs.__main__ import cli
cli(sys.argv[1:])
"""
# Elements that make a browser load something, and where they name it.
LOADING = {
    "audio": ("src",),
    "embed": ("src",),
    "iframe": ("src",),
    "img": ("src", "srcset"),
    "link": ("href",),
    "object": ("data",),
    "script": ("src",),
    "source": ("src", "srcset"),
    "video": ("src", "poster"),
}


class Html(HTMLParser):
    """The anchors of a page, the addresses that it links to, and those that it loads."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.anchors: set[str] = set()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = {name: value for name, value in attrs if value is not None}
        self.anchors |= {values[name] for name in ("id", "name") if name in values}
        loaded = [values[name] for name in LOADING.get(tag, ()) if name in values]
        self.loaded += loaded
        self.links += [*loaded, *([values["href"]] if tag == "a" and "href" in values else [])]


def build(config: Path, site: Path) -> subprocess.CompletedProcess[str]:
    """Build a site with the options of `make docs`."""
    options = re.search(r"mkdocs (build[^#\n]*)", (ROOT / "Makefile").read_text())
    assert options
    places = ["--config-file", str(config), "--site-dir", str(site)]
    command = [sys.executable, "-c", OFFLINE, *options[1].split(), *places]
    environment = os.environ | {"NO_MKDOCS_2_WARNING": "1"}
    return programs.finished(command, env=environment, cwd=config.parent)


def pages(site: Path) -> dict[Path, Html]:
    # MkDocs shows 404.html for any address of a server: its links start at the server's root.
    return {path: Html(path.read_text()) for path in sorted(site.rglob("*.html")) if path.name != "404.html"}


def broken(found: dict[Path, Html], site: Path) -> Iterator[str]:
    """Yield each link of a page that leads to no file of the site, or to no anchor of a page."""
    for page, html in found.items():
        for link in html.links:
            parts = urlsplit(link)
            if parts.scheme or parts.netloc:
                continue
            target = Path(os.path.normpath(page.parent / unquote(parts.path))) if parts.path else page
            target = target / "index.html" if target.is_dir() else target
            anchor = unquote(parts.fragment)
            known = not anchor or (target in found and anchor in found[target].anchors)
            if not target.is_file() or not target.is_relative_to(site) or not known:
                yield f"{page.relative_to(site)}: {link}"


def foreign(found: dict[Path, Html], site: Path) -> Iterator[str]:
    """Yield what pages and style sheets load from other hosts."""
    for page, html in found.items():
        yield from (f"{page.name}: {link}" for link in html.loaded if re.match(r"(https?:)?//", link))
    for sheet in site.rglob("*.css"):
        yield from (
            f"{sheet.name}: {one}"
            for one in re.findall(r"(?:url\(|@import)\s*[\"']?(?:https?:)?//[^\"')]*", sheet.read_text())
        )


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    done = build(ROOT / "mkdocs.yml", folder)
    assert done.returncode == 0, done.stdout + done.stderr
    return folder


@pytest.fixture(scope="module")
def found(site: Path) -> dict[Path, Html]:
    return pages(site)


class TestSite:
    def test_every_link_and_anchor_leads_somewhere(self, site: Path, found: dict[Path, Html]) -> None:
        assert sum(len(html.links) for html in found.values()) > 1000
        assert sorted(set(broken(found, site))) == []

    def test_nothing_is_loaded_from_another_host(self, site: Path, found: dict[Path, Html]) -> None:
        assert list(foreign(found, site)) == []

    def test_every_page_of_docs_is_in_the_navigation_once(self) -> None:
        text = (ROOT / "mkdocs.yml").read_text()
        named = re.findall(r"^ +- .*?([\w/.-]+\.md)$", text, re.MULTILINE)
        written = {path.relative_to(ROOT / "docs").as_posix() for path in (ROOT / "docs").rglob("*.md")}
        assert sorted(name for name in named if not name.startswith("repository/")) == sorted(written)

    def test_the_front_page_leads_to_every_page_of_the_navigation(self, site: Path) -> None:
        nav = YAML(typ="safe", pure=True).load(ROOT / "mkdocs.yml")["nav"]
        named = {name.removesuffix(".md") for name in re.findall(r"'([\w/.-]+\.md)'", str(nav))} - {"index"}
        linked = re.findall(r'<a href="([^"#]+)', (site / "index.html").read_text().partition("<article")[2])
        led = {link.removesuffix(".html") for link in linked}
        assert named - led == set()

    def test_each_package_has_a_page_with_each_of_its_modules(self, site: Path, found: dict[Path, Html]) -> None:
        for init in (ROOT / "laion_dask").rglob("__init__.py"):
            below = init.parent.relative_to(ROOT / "laion_dask")
            anchors = found[site / "reference" / below / "index.html"].anchors
            dotted = ".".join(("laion_dask", *below.parts))
            modules = {f"{dotted}.{path.stem}" for path in init.parent.glob("*.py") if path != init}
            assert modules - anchors == set()

    def test_code_of_the_hooks_is_not_published(self, site: Path) -> None:
        assert list(site.rglob("*.py")) == []

    @pytest.mark.skipif(browser.PROGRAM is None, reason="no Chromium on this machine")
    def test_pages_opened_from_the_disk_have_search_and_ask_nothing_of_the_network(
        self, site: Path, tmp_path: Path
    ) -> None:
        async def look() -> tuple[str, list[str], list[str]]:
            async with browser.tab(tmp_path / "profile", tmp_path) as tab:
                await tab.listen()
                await tab.screen(390, 844, phone=True)
                await tab.open((site / "rights.html").as_uri())
                assert await tab.value("document.documentElement.scrollWidth") == 390
                await tab.value("document.querySelector('#__search').click()")
                await tab.value("document.querySelector('.md-search__input').focus()")
                await tab.ask("Input.insertText", text="tombstones")
                await tab.until("!!document.querySelector('.md-search-result__link')")
                text = await tab.value("document.querySelector('.md-search-result__list').textContent")
                return text, [one for one in tab.asked() if not one.startswith("file:")], tab.complaints()

        text, asked, complaints = asyncio.run(look())
        assert "Tombstones" in text
        assert (asked, complaints) == ([], [])


class TestFaults:
    """A small site with the settings of the real one, so that faults of its pages are seen to be found."""

    GOOD = (
        "# Start\n\n## Here\n\n[here](#here), [readme](../README.md#top), [script](../run.py)\n\n"
        "[stage](../laion_dask/a/b.py)\n"
    )

    @pytest.fixture
    def project(self, tmp_path: Path) -> Path:
        files = {
            "docs/index.md": self.GOOD,
            "README.md": "# Top\n\n[docs](docs/index.md#here), [its package](laion_dask/), [run](run.py)\n",
            "run.py": "",
            "laion_dask/__init__.py": '"""All.\n\n- a: A package.\n"""\n',
            "laion_dask/a/__init__.py": '"""A package.\n\n- b: A module.\n"""\n',
            "laion_dask/a/b.py": '"""A module."""\n\n\ndef run() -> int:\n    """Run."""\n    return 1\n',
            "mkdocs.yml": f"INHERIT: {ROOT / 'mkdocs.yml'}\nhooks: ['{ROOT / 'docs/hooks.py'}']\nextra_css: []\n"
            "extra: {polyfills: []}\nnav: [index.md, repository/README.md.md, {Reference: reference/}]\n",
        }
        for name, text in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(text)
        return tmp_path

    def test_links_that_leave_docs_lead_to_pages_or_are_text(self, project: Path) -> None:
        site = project / "site"
        done = build(project / "mkdocs.yml", site)
        assert done.returncode == 0, done.stdout + done.stderr
        text = (site / "index.html").read_text()
        assert 'href="repository/README.md.html#top"' in text
        assert 'href="reference/a/index.html#laion_dask.a.b"' in text
        assert '<span title="run.py in the repository">script</span>' in text
        assert 'href="../reference/index.html">its package' in (site / "repository/README.md.html").read_text()
        assert list(broken(pages(site), site)) == []

    def test_strict_building_refuses_each_link_that_leads_nowhere(self, project: Path) -> None:
        wrong = {
            "no page": "missing.md",
            "no anchor": "#missing",
            "no anchor there": "../README.md#missing",
            "no file": "../missing.py",
            "no module": "../laion_dask/a/missing.py",
            "absolute": "/index.html",
        }
        links = "".join(f"[{title}]({link})\n\n" for title, link in wrong.items())
        (project / "docs/index.md").write_text(self.GOOD + "\n" + links)
        (project / "docs/lonely.md").write_text("# Not in the navigation\n")
        done = build(project / "mkdocs.yml", project / "site")
        warnings = [line for line in done.stderr.splitlines() if line.startswith("WARNING")]
        assert done.returncode == 1
        assert [
            link for link in wrong.values() if not any(link.removeprefix("../README.md") in one for one in warnings)
        ] == []
        assert "lonely.md" in done.stderr

    def test_the_checks_of_the_built_site_find_faults(self, tmp_path: Path) -> None:
        (tmp_path / "page.html").write_text(
            '<p id="a"></p><a href="#a"></a><a href="#b"></a><a href="no.html"></a><a href="../out.html"></a>'
            '<a href="https://a.example/"></a><script src="//cdn.example/a.js"></script><img src="https://b.example/c.png">'
        )
        (tmp_path / "page.css").write_text(
            "@import 'https://c.example/font.css'; a { background: url(//d.example/e.png) }"
        )
        found = pages(tmp_path)
        assert list(broken(found, tmp_path)) == [f"page.html: {one}" for one in ("#b", "no.html", "../out.html")]
        assert re.findall(r"//(\w+)\.example", " ".join(foreign(found, tmp_path))) == ["cdn", "b", "c", "d"]
