"""Say how a version is cited: BibTeX for its card, CITATION.cff, and the metadata of a deposit at Zenodo."""

from __future__ import annotations

import io
import re
from typing import Any, Final

from ruamel.yaml import YAML

from laion_dask.params import Release

CITATION: Final = "CITATION.cff"
LICENSE: Final = "CC-BY-4.0"
_ABSTRACT: Final = (
    "Links to images with their alternative texts, found in web crawls and filtered by the similarity of image and "
    "text. No image is part of it; no right is claimed in any image or text."
)
# What BibTeX reads as a command, a comment or mathematics.
_SPECIAL: Final = re.compile(r"([#$%&_{}~^\\])")


def bibtex(release: Release, published: str) -> str:
    """Return an entry of BibTeX."""
    key = re.sub(r"[^a-z0-9]+", "-", f"{release.name}-{release.version}".lower()).strip("-")
    creator, title = _plain(release.creator), _plain(f"{release.name} {release.version}")
    return (
        f"@misc{{{key},\n"
        f"  author = {{{{{creator}}}}},\n"
        f"  title = {{{{{title}}}}},\n"
        f"  year = {{{published[:4]}}},\n"
        f"  version = {{{release.version}}},\n"
        f"  url = {{{release.url}}}\n"
        "}"
    )


def cff(release: Release, published: str) -> str:
    """Return CITATION.cff 1.2.0 of the dataset."""
    out = io.StringIO()
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.dump(
        {
            "cff-version": "1.2.0",
            "message": "If you use this dataset, please cite it as below.",
            "type": "dataset",
            "title": release.name,
            "authors": [{"name": release.creator}],
            "version": release.version,
            "date-released": published,
            "url": release.url,
            "license": LICENSE,
            "abstract": _ABSTRACT,
        },
        out,
    )
    return out.getvalue()


def zenodo(release: Release, published: str) -> dict[str, Any]:
    """Return the body of a new deposit, as Zenodo's REST interface takes it."""
    return {
        "metadata": {
            "upload_type": "dataset",
            "title": f"{release.name} {release.version}",
            "creators": [{"name": release.creator}],
            "description": f"<p>{_ABSTRACT}</p>",
            "access_right": "open",
            "license": LICENSE.lower(),
            "publication_date": published,
            "version": release.version,
            "keywords": ["image-text pairs", "web crawl", "CLIP", "multimodal"],
            "related_identifiers": [
                {"identifier": release.url, "relation": "isIdenticalTo", "resource_type": "dataset"}
            ],
        }
    }


def _plain(text: str) -> str:
    return _SPECIAL.sub(lambda found: "\\textbackslash{}" if found[1] == "\\" else f"\\{found[1]}", text)
