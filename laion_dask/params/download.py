"""The section `download`: how images are requested, checked and stored."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Final, Literal

from pydantic import Field, field_validator, model_validator

from laion_dask.params.section import Section
from laion_dask.params.types import Directive, Token
from laion_dask.schema.values import Signal

_CONTACT = re.compile(
    r"https?://[a-z0-9.-]+\.[a-z]{2,}(?::\d+)?(?:[/?#][!-'*-~]*)?|[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-z0-9.-]+\.[a-z]{2,}",
    re.IGNORECASE,
)


PACING: Final = frozenset(
    {
        *("connections_per_host", "connections_per_domain", "host_interval_s", "domain_interval_s", "host_failures"),
        *("host_budget_s", "host_budget_rows", "shard_budget_s", "connections", "timeout_s", "retries"),
        *("max_retry_after_s", "contact"),
    }
)
"""Parameters of when and how patiently is asked, not of what may be asked for or of what a picture becomes."""


class Recheck(Section):
    """Which rows of earlier versions are asked for again: those asked before a day, or a share of all each month."""

    older_than: date | None = None
    share: Annotated[float, Field(gt=0, le=1)] | None = None
    month: Annotated[str, Field(pattern=r"^[0-9]{4}-(0[1-9]|1[0-2])$")] | None = None

    @model_validator(mode="after")
    def _is_one_rule(self) -> Recheck:
        named = [self.older_than is not None, self.share is not None, self.month is not None]
        if named not in ([True, False, False], [False, True, True]):
            given = self.model_dump(mode="json", exclude_none=True)
            message = (
                f"{given} is no rule of recheck. "
                'Remedy: older_than: "2025-01-01" alone, or share: 0.1 with month: "2025-06"'
            )
            raise ValueError(message)
        return self


class Download(Section):
    """How images are requested, checked and stored."""

    source: Literal["replay", "archive", "web"]
    warcs: tuple[str, ...]
    archive: bool
    verify: str | None
    changed: Literal["drop", "strict", "keep"]
    recheck: Recheck | None
    contact: str | None
    robots_tokens: tuple[Token, ...]
    ai_tokens: tuple[Token, ...]
    rights: tuple[Signal, ...]
    rights_unknown: tuple[Signal, ...]
    opt_out_directives: tuple[Directive, ...]
    rounds: Annotated[int, Field(ge=1, le=10)]
    connections_per_host: Annotated[int, Field(ge=1, le=64)]
    connections_per_domain: Annotated[int, Field(ge=1, le=4096)]
    host_interval_s: Annotated[float, Field(ge=0, le=3600)]
    domain_interval_s: Annotated[float, Field(ge=0, le=3600)]
    host_failures: Annotated[int, Field(ge=1, le=1_000)]
    host_budget_s: Annotated[float, Field(gt=0, le=604_800)]
    host_budget_rows: Annotated[int, Field(ge=1, le=100_000)]
    shard_budget_s: Annotated[float, Field(gt=0, le=604_800)]
    ports: Annotated[tuple[Annotated[int, Field(ge=1, le=65_535)], ...], Field(min_length=1)]
    connections: Annotated[int, Field(ge=1, le=4096)]
    timeout_s: Annotated[float, Field(gt=0, le=3600)]
    retries: Annotated[int, Field(ge=0, le=10)]
    max_retry_after_s: Annotated[float, Field(ge=0, le=3600)]
    max_redirects: Annotated[int, Field(ge=0, le=20)]
    max_bytes: Annotated[int, Field(ge=1_000)]
    max_pixels: Annotated[int, Field(ge=1_000)]
    resize: Literal["no", "keep_ratio", "keep_ratio_largest", "center_crop", "border"]
    side_px: Annotated[int, Field(ge=16, le=8192)]
    smaller: Literal["keep", "enlarge"]
    encode: Literal["jpg", "png", "webp", "original"]
    quality: Annotated[int, Field(ge=1, le=100)]
    hashes: tuple[Literal["md5", "sha1", "sha256"], ...]
    pdq: Literal["quick", "exact", "skip"]
    decode_timeout_s: Annotated[float, Field(gt=0, le=3600)]
    decode_memory_mb: Annotated[int, Field(ge=256, le=1_000_000)]

    @model_validator(mode="after")
    def _images_can_be_made(self) -> Download:
        if self.encode == "original" and self.resize != "no":
            message = (
                f"encode original stores bodies as received, resize {self.resize} changes them. Remedy: resize: no"
            )
            raise ValueError(message)
        return self

    @field_validator("hashes")
    @classmethod
    def _hashes_hold_what_others_read(cls, value: tuple[str, ...]) -> tuple[str, ...]:
        if not {"md5", "sha256"} <= set(value):
            message = f"{list(value)} lacks one that lists and removals need. Remedy: [md5, sha256], or sha1 too"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _source_can_be_asked(self) -> Download:
        if self.source == "web" and not self.contact:
            message = "source web needs download.contact: a URL or e-mail address that a webmaster can write to"
            raise ValueError(message)
        if self.contact and not _CONTACT.fullmatch(self.contact):
            # The user agent contains it: other text is no contact, and a line break would start another header.
            message = (
                f"contact {self.contact!r} is neither a URL nor an e-mail address. "
                "Remedy: https://your.site/crawler or name@your.site, without spaces or brackets"
            )
            raise ValueError(message)
        if stray := set(self.rights_unknown) - set(self.rights):
            message = f"rights_unknown {sorted(stray)} are not in rights. Remedy: add them there, or remove them here"
            raise ValueError(message)
        if self.source in {"replay", "archive"} and not self.warcs:
            message = f"source {self.source} needs download.warcs: globs of WARC files with the responses"
            raise ValueError(message)
        if self.source != "web" and any(Path(glob).is_relative_to("data/download") for glob in self.warcs):
            message = (
                "download.warcs are in data/download, which is emptied before the stage runs. Remedy: copy the archive "
                "elsewhere first, e.g. `dvc get . data/download --out earlier`, and name the copy"
            )
            raise ValueError(message)
        return self
