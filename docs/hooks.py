"""What mkdocs.yml cannot say: pages from outside docs/, links that leave docs/, and the reference out of docstrings.

- The navigation names a file of the repository as `repository/PATH.md`, with its whole PATH: README.md alone would be
  taken for the index of its section. Markdown becomes a page, any other file is shown as it is.
- The navigation entry `reference/` becomes a page for each package of laion_dask, found in the tree of folders.
- Links are written so that they work where the repository is browsed: relative to the file that holds them. In the site
  they lead to the page of the same file or module. Where the site has no page (a script, a folder), the text stays and
  its title names the path, because the site knows no address of the repository. A link to nothing is left as it is, and
  MkDocs warns of it.
"""

from __future__ import annotations

import ast
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit
from xml.etree.ElementTree import Element

from markdown import Extension, Markdown
from markdown.treeprocessors import Treeprocessor
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

_PACKAGE = "laion_dask"
_REPOSITORY = "repository/"
_REFERENCE = "reference/"


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Fill in the navigation of the reference, and add the rewriting of links to Markdown's extensions."""
    root = _root(config)
    config.nav = _with_reference(config.nav, root)
    config.markdown_extensions.append(_Links(root, set(_named(config.nav))))
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that have no file in docs/."""
    root = _root(config)
    for name in _named(config.nav):
        if name.startswith(_REPOSITORY):
            files.append(File.generated(config, name, content=_repository_page(root, name)))
        elif name.startswith(_REFERENCE):
            files.append(File.generated(config, name, content=_reference_page(root, name)))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Tell the rewriting of links which file the links of this page are relative to."""
    _Links.source = _source(page.file.src_uri)
    return markdown


def _root(config: MkDocsConfig) -> Path:
    return Path(str(config.config_file_path)).parent


def _named(entries: object) -> Iterator[str]:
    """Yield the files that a navigation names, at all levels."""
    if isinstance(entries, str):
        yield entries
    elif isinstance(entries, dict | list):
        for entry in entries.values() if isinstance(entries, dict) else entries:
            yield from _named(entry)


def _with_reference(entries: Any, root: Path) -> Any:  # noqa: ANN401 - navigations are lists in mappings in lists
    if entries == _REFERENCE:
        return [f"{_REFERENCE}index.md", *(_navigation(package) for package in _packages(root / _PACKAGE))]
    if isinstance(entries, dict):
        return {title: _with_reference(entry, root) for title, entry in entries.items()}
    return [_with_reference(entry, root) for entry in entries] if isinstance(entries, list) else entries


def _packages(folder: Path) -> list[Path]:
    return sorted(path.parent for path in folder.glob("*/__init__.py"))


def _navigation(folder: Path) -> dict[str, object]:
    """Return the entry of a package: its page, or a list of its page and those of the packages inside."""
    below = folder.as_posix().rpartition(f"/{_PACKAGE}/")[2]
    page = f"{_REFERENCE}{below}/index.md"
    inside = [_navigation(package) for package in _packages(folder)]
    return {folder.name: [page, *inside] if inside else page}


def _repository_page(root: Path, name: str) -> str:
    path = root / _source(name)
    if path.suffix == ".md":
        return path.read_text()
    return f"# {path.name}\n\n~~~~ {{.{path.suffix.lstrip('.')}}}\n{path.read_text()}~~~~\n"


def _reference_page(root: Path, name: str) -> str:
    """Return the page of a package: its docstring with a link for each module that it names, then its modules."""
    below = name.removeprefix(_REFERENCE).removesuffix("index.md").strip("/")
    folder = root / _PACKAGE / below
    dotted = ".".join([_PACKAGE, *below.split("/")]).rstrip(".")
    text = ast.get_docstring(ast.parse((folder / "__init__.py").read_text())) or ""
    modules = sorted(path.stem for path in folder.glob("*.py") if path.stem != "__init__")
    links = {module: f"#{dotted}.{module}" for module in modules}
    links |= {package.name: f"{package.name}/index.md" for package in _packages(folder)}

    def linked(match: re.Match[str]) -> str:
        names = [f"[{one}]({links[one]})" if one in links else one for one in match[1].split(", ")]
        return f"- {', '.join(names)}:"

    listed = re.sub(r"^- ([a-z_0-9, ]+):", linked, text, flags=re.MULTILINE)
    return "\n\n".join([f"# {dotted}", listed, *(f"::: {dotted}.{module}" for module in modules)]) + "\n"


def _source(page: str) -> str:
    """Return the path in the repository of the file that a page is made of."""
    if page.startswith(_REPOSITORY):
        return page.removeprefix(_REPOSITORY).removesuffix(".md")
    return f"{_PACKAGE}/{page.removeprefix(_REFERENCE)}" if page.startswith(_REFERENCE) else f"docs/{page}"


class _Links(Extension):
    source = ""

    def __init__(self, root: Path, pages: set[str]) -> None:
        super().__init__()
        self._root, self._pages = root, pages

    def extendMarkdown(self, md: Markdown) -> None:  # noqa: N802 - Markdown calls it so
        # After links are elements (20), before MkDocs looks where they lead (0).
        md.treeprocessors.register(_Rewriting(md, self._root, self._pages), "repository_links", 4)


class _Rewriting(Treeprocessor):
    def __init__(self, md: Markdown, root: Path, pages: set[str]) -> None:
        super().__init__(md)
        self._root, self._pages = root, pages

    def run(self, root: Element) -> None:
        for element in root.iter():
            for key in ("href", "src"):
                address = element.get(key)
                if address and not _Links.source.startswith(f"{_PACKAGE}/"):
                    self._rewrite(element, key, address)

    def _rewrite(self, element: Element, key: str, address: str) -> None:
        parts = urlsplit(address)
        if parts.scheme or parts.netloc or not parts.path or parts.path.startswith("/"):
            return
        here = _Links.source
        target = posixpath.normpath(posixpath.join(posixpath.dirname(here), unquote(parts.path)))
        if here.startswith("docs/") and target.startswith("docs/"):
            return
        page, anchor = self._page(target)
        if page:
            fragment = parts.fragment or anchor
            element.set(key, _relative(page, here) + (f"#{fragment}" if fragment else ""))
        elif (self._root / target).exists():
            del element.attrib[key]
            element.tag = "span"
            element.set("title", f"{target} in the repository")

    def _page(self, target: str) -> tuple[str, str]:
        """Return the page that shows a file, folder or module of the repository, and the anchor on it."""
        if target.startswith("docs/"):
            return target.removeprefix("docs/"), ""
        if f"{_REPOSITORY}{target}.md" in self._pages:
            return f"{_REPOSITORY}{target}.md", ""
        if target.partition("/")[0] != _PACKAGE or not (self._root / target).exists():
            return "", ""
        module = target.removesuffix("/__init__.py").removesuffix(".py")
        is_folder = (self._root / module).is_dir()
        folder = module if is_folder else posixpath.dirname(module)
        page = posixpath.normpath(posixpath.join(_REFERENCE, posixpath.relpath(folder, _PACKAGE), "index.md"))
        return (page, "" if is_folder else module.replace("/", ".")) if page in self._pages else ("", "")


def _relative(page: str, here: str) -> str:
    """Return the address of a page, relative to the page of a file of the repository."""
    own = here.removeprefix("docs/") if here.startswith("docs/") else f"{_REPOSITORY}{here}.md"
    return posixpath.relpath(page, posixpath.dirname(own) or ".")
