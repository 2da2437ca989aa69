"""The parameter `catalog.lists`: lists of known content from partners."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, model_validator

from laion_dask.params.section import Section

ListKind = Literal["md5", "sha1", "sha256", "pdq", "url_md5", "url_sha1"]
ListName = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_-]{0,39}$")]


class HashList(Section):
    """One list of hashes: of image bytes, of pictures (PDQ) or of addresses."""

    name: ListName
    """Name of the list in counts, rows and manifest."""
    kind: ListKind
    file: Annotated[str, Field(min_length=1)]
    column: Annotated[str, Field(min_length=1)] | None = None
    """Column of a CSV file; None: the one named as the kind, or the only one."""
    distance: Annotated[int, Field(ge=0, le=63)] | None = None
    """Maximum Hamming distance of PDQ hashes, of 256 bits; None: 31, as PDQ's authors recommend."""
    quality: Annotated[int, Field(ge=0, le=100)] | None = None
    """A picture's PDQ below this quality is not compared; None: 50, as PDQ's authors recommend."""
    sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    """Expected sha256 of the file; another is refused."""

    @model_validator(mode="after")
    def _fits_its_kind(self) -> HashList:
        for key in ("distance", "quality"):
            if self.kind != "pdq" and getattr(self, key) is not None:
                message = f"{key} with kind {self.kind}. Remedy: leave it out, only pdq compares by distance"
                raise ValueError(message)
        return self


def check_names(lists: Sequence[HashList]) -> None:
    """Raise `ValueError` if two lists have the same name, since their counts would be merged."""
    names = [entry.name for entry in lists]
    if twice := sorted({name for name in names if names.count(name) > 1}):
        message = f"two lists are named {', '.join(twice)}. Remedy: another name for one of them"
        raise ValueError(message)
