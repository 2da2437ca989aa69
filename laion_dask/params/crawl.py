"""The section `crawl`: the WAT files to read, and addresses without credentials."""

from __future__ import annotations

import re
from typing import Annotated, Final, Literal
from urllib.parse import urlsplit

from pydantic import Field, model_validator

from laion_dask.params.section import Section, Seed

# What a signed address, or one with a key, carries in its query: of S3, Google, Azure, and of many others.
_SIGNED: Final = "x-amz-(?:signature|credential|security-token)|signature|awsaccesskeyid|x-goog-[a-z-]+|sig"
_IN_QUERY: Final = re.compile(rf"([?&](?:{_SIGNED}|(?:[a-z_-]+_)?token)=)[^&\s'\"]+", re.IGNORECASE)
_BEFORE_HOST: Final = re.compile(r"(://)[^/\s'\"@]*@")
_KEYS_BEFORE_HOST: Final = frozenset({"s3", "s3a", "gs", "gcs", "http", "https"})
_IN_ENVIRONMENT: Final = (
    "credentials in the environment (AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY, or AWS_PROFILE), in ~/.aws, or in "
    "fsspec's configuration"
)


def masked(text: str) -> str:
    """Return a text with *** in the place of credentials in its addresses."""
    return _IN_QUERY.sub(r"\1***", _BEFORE_HOST.sub(r"\1***@", text))


def address_problem(address: str) -> str | None:
    """Return why an address is refused, with the remedy and without a secret; None for others and for local paths."""
    if "://" not in address or address.startswith("file://"):
        return None
    problem = None
    try:
        parts = urlsplit(address)
        user, password = parts.username, parts.password
    except ValueError as error:
        return f"{masked(address)} is no address ({error}). Remedy: correct it, e.g. s3://bucket/wats/*.warc.wat.gz"
    if password is not None or (user is not None and parts.scheme in _KEYS_BEFORE_HOST):
        problem = f"has credentials, which would stand in Git and in the outputs. Remedy: {_IN_ENVIRONMENT}"
    elif _IN_QUERY.search(address):
        problem = f"has a signature or token, which would stand in Git and in the outputs. Remedy: {_IN_ENVIRONMENT}"
    elif not parts.netloc and parts.scheme != "memory":
        problem = "names no bucket or host. Remedy: e.g. s3://bucket/wats/*.warc.wat.gz"
    elif re.search(r"[*?[]", parts.netloc):
        problem = "has a wildcard in the name of the bucket or host. Remedy: name each bucket"
    return None if problem is None else f"{masked(address)} {problem}"


class Crawl(Section):
    """The WATs to read: the demo's, files here or in buckets, or a seeded sample of Common Crawl."""

    source: Literal["demo", "files", "commoncrawl"]
    seed: Seed
    wats: Annotated[int, Field(ge=1)] | None
    files: tuple[str, ...]
    crawls: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], ...]
    base_url: str
    demo_pages: Annotated[int, Field(ge=24, le=1_000_000)]
    demo_wats: Annotated[int, Field(ge=1, le=10_000)]

    @model_validator(mode="after")
    def _addresses_hold_no_secret(self) -> Crawl:
        named = {f"crawl.files.{at}": place for at, place in enumerate(self.files)} | {"crawl.base_url": self.base_url}
        for key, place in named.items():
            if problem := address_problem(place):
                message = f"{key} = {problem}"
                raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _source_has_its_list(self) -> Crawl:
        if self.source == "files" and not self.files:
            message = "source files needs crawl.files: give at least one path or glob"
            raise ValueError(message)
        if self.source == "commoncrawl" and not self.crawls:
            message = "source commoncrawl needs crawl.crawls: give at least one id, e.g. [CC-MAIN-2024-22]"
            raise ValueError(message)
        if self.source == "demo" and self.demo_wats > self.demo_pages:
            message = f"demo_wats {self.demo_wats} is above demo_pages {self.demo_pages}: some would have no page"
            raise ValueError(message)
        return self
