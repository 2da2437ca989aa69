"""params.yaml in, one frozen model for each section out; what is unknown, missing or absurd is refused."""

from __future__ import annotations

import re
from datetime import date
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import Field, ValidationError, field_validator, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from laion_dask import filter_params, group_params, head_params, list_params, release_params, section
from laion_dask.section import Section, Seed

PARAMS_FILE = Path("params.yaml")

Fraction = filter_params.Fraction
Split = filter_params.Split
SPLITS = filter_params.SPLITS
Similarity = filter_params.Similarity
Filter = filter_params.Filter


# Of a path, as it is compared: no dot in front, no glob.
Extension = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+(\.[A-Za-z0-9]+)*$")]
Directive = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:-]*$")]
# RFC 9309, 2.2.1: letters, _ and -; some crawlers have digits too.
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
# In the order of laion_dask.rights.SIGNALS.
Signal = Literal[
    "robots",
    "ai_txt",
    "tdmrep",
    "rsl",
    "x_robots_tag",
    "tdm_reservation",
    "content_usage",
    "content_signal",
    "crawler_price",
    "xmp_data_mining",
    "xmp_tdm",
    "c2pa",
]
_CONTACT = re.compile(
    r"https?://[a-z0-9.-]+\.[a-z]{2,}(?::\d+)?(?:[/?#][!-'*-~]*)?|[a-z0-9.!#$%&'*+/=?^_`{|}~-]+@[a-z0-9.-]+\.[a-z]{2,}",
    re.IGNORECASE,
)


class ParamsError(Exception):
    """A parameter is unknown, missing or absurd; the message has key, value and remedy."""


class Crawl(Section):
    """Which WATs: the demo's, local files, or a seeded sample of Common Crawl."""

    source: Literal["demo", "files", "commoncrawl"]
    seed: Seed
    wats: Annotated[int, Field(ge=1)] | None
    files: tuple[str, ...]
    crawls: tuple[Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$")], ...]
    base_url: str
    demo_pages: Annotated[int, Field(ge=24, le=1_000_000)]
    demo_wats: Annotated[int, Field(ge=1, le=10_000)]

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


class Extract(Section):
    """Rules from WAT bytes to pairs."""

    reader: Literal["fastwarc", "warcio"]
    link_kinds: Annotated[
        tuple[Annotated[str, Field(pattern=r"^(\*|[A-Za-z0-9:_-]+@?/[#A-Za-z0-9:_-]+)$")], ...], Field(min_length=1)
    ]
    relative_urls: Literal["resolve", "drop"]
    url_form: Literal["whatwg", "as_written", "escaped"]
    schemes: Annotated[tuple[Literal["http", "https", "ftp", "ftps"], ...], Field(min_length=1)]
    refused_extensions: tuple[Extension, ...]
    refused_substrings: tuple[Annotated[str, Field(min_length=1)], ...]
    max_url_chars: Annotated[int, Field(ge=16, le=100_000)] | None
    max_host_chars: Annotated[int, Field(ge=4, le=100_000)] | None
    private_hosts: Literal["drop", "keep"]
    malformed_hosts: Literal["drop", "keep"]
    entities: Literal["by_date", "always", "never"]
    text_steps: tuple[Literal["repair", "ftfy", "visible", "printable", "lines", "spaces", "strip", "escape"], ...]
    min_chars: Annotated[int, Field(ge=0, le=10_000)]
    max_chars: Annotated[int, Field(ge=1, le=100_000)] | None
    uid: Literal["text_url", "url_text"]
    unique_in_wat: Literal["none", "url"]
    max_pairs_per_page: Annotated[int, Field(ge=1)] | None
    language_detector: Literal["fasttext"]
    language_model: str | None
    language_confidence: Fraction
    license: Literal["page", "before"]
    page_opt_out: Literal["drop", "record"]
    opt_out_directives: tuple[Directive, ...]
    personal_data: Literal["count", "skip"]

    @field_validator("language_detector", mode="before")
    @classmethod
    def _gcld3_is_gone(cls, value: object) -> object:
        if value in {"gcld3", "cld3"}:
            message = f"{value} does not build any more. Remedy: fasttext, which answers for it in every recipe"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _limits_are_ordered(self) -> Extract:
        if self.max_chars is not None and self.min_chars > self.max_chars:
            message = f"min_chars {self.min_chars} is above max_chars {self.max_chars}: no text could be kept"
            raise ValueError(message)
        if "escape" in self.text_steps[:-1]:
            message = "text_steps: escape comes last: it is applied after the text is cut"
            raise ValueError(message)
        return self


class Catalog(Section):
    """How pairs are made unique, cleared of removals and shuffled."""

    buckets: Annotated[int, Field(ge=1, le=4096)]
    shard_rows: Annotated[int, Field(ge=16, le=10_000)]
    seed: Seed
    removals: str
    removals_until: date | None
    lists: tuple[list_params.HashList, ...]

    @field_validator("lists")
    @classmethod
    def _lists_have_names(cls, lists: tuple[list_params.HashList, ...]) -> tuple[list_params.HashList, ...]:
        list_params.check_names(lists)
        return lists

    @model_validator(mode="after")
    def _buckets_are_a_power_of_two(self) -> Catalog:
        if self.buckets & (self.buckets - 1):
            message = f"buckets {self.buckets} is not a power of two: buckets are cut by the first bits of the uid"
            raise ValueError(message)
        return self


class Download(Section):
    """How images are asked for, checked and stored."""

    source: Literal["replay", "archive", "web"]
    warcs: tuple[str, ...]
    archive: bool
    verify: str | None
    changed: Literal["drop", "strict", "keep"]
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
            message = f"{list(value)} lacks one that lists and removals go by. Remedy: [md5, sha256], or sha1 too"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _source_can_be_asked(self) -> Download:
        if self.source == "web" and not self.contact:
            message = "source web needs download.contact: a URL or e-mail address that a webmaster can write to"
            raise ValueError(message)
        if self.contact and not _CONTACT.fullmatch(self.contact):
            # It stands in the user agent: a word helps nobody, and a line break would be a header of its own.
            message = (
                f"contact {self.contact!r} is neither a URL nor an e-mail address. "
                "Remedy: https://your.site/crawler or name@your.site, without spaces or brackets"
            )
            raise ValueError(message)
        if stray := set(self.rights_unknown) - set(self.rights):
            message = f"rights_unknown {sorted(stray)} are not in rights. Remedy: add them there, or remove them here"
            raise ValueError(message)
        if self.source in {"replay", "archive"} and not self.warcs:
            message = f"source {self.source} needs download.warcs: globs of WARC files that hold the responses"
            raise ValueError(message)
        if self.source != "web" and any(Path(glob).is_relative_to("data/download") for glob in self.warcs):
            message = (
                "download.warcs lie in data/download, which is emptied before the stage runs. Remedy: take the archive "
                "out of the way first, e.g. `dvc get . data/download --out earlier`, and name it there"
            )
            raise ValueError(message)
        return self


class Model(Section):
    """One CLIP: what it is, which texts it reads, and what its weights must be."""

    name: Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,23}$")]
    model: Annotated[str, Field(min_length=1)]
    pretrained: Annotated[str, Field(min_length=1)] | None = None
    splits: Literal["all"] | tuple[Split, ...] = "all"
    expect_sha256: Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")] | None = None
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"

    @field_validator("splits", mode="before")
    @classmethod
    def _splits_are_known(cls, value: object) -> object:
        listed = list(value) if isinstance(value, list | tuple) else []
        known = bool(listed) and all(split in SPLITS for split in listed)
        if value == "all" or (known and len({*listed}) == len(listed)):
            return value
        message = f"splits = {value!r} is refused. Remedy: all, or a list of {', '.join(SPLITS)} without repetition"
        raise ValueError(message)

    def reads(self, split: str) -> bool:
        """Say whether the model reads the texts of a split."""
        return self.splits == "all" or split in self.splits


class Score(Section):
    """Which CLIPs, which heads, and how images come to them."""

    models: Annotated[tuple[Model, ...], Field(min_length=1, max_length=16)]
    heads: Annotated[tuple[head_params.Head, ...], Field(max_length=64)] | None
    tags: Annotated[tuple[head_params.Tag, ...], Field(max_length=16)] | None
    faces: head_params.Faces | None
    batch: Annotated[int, Field(ge=1, le=4096)] | None
    decode: Literal["full", "reduced"]
    compile: Literal["none", "default", "max-autotune"]

    @model_validator(mode="after")
    def _heads_and_tags_fit(self) -> Score:
        head_params.check(self.heads or (), self.tags or (), [model.name for model in self.models])
        return self

    @model_validator(mode="after")
    def _every_split_is_read(self) -> Score:
        names = [model.name for model in self.models]
        if len({*names}) < len(names):
            message = (
                f"models has a name twice: {', '.join(names)}. Remedy: another name, it stands in columns and arrays"
            )
            raise ValueError(message)
        silent = [split for split in SPLITS if not any(model.reads(split) for model in self.models)]
        if silent:
            message = (
                f"no model reads the texts of {', '.join(silent)}: they would all be dropped. Remedy: splits of one"
            )
            raise ValueError(message)
        return self


Release = release_params.Release
Report = release_params.Report


class Params(Section):
    """All of params.yaml: the names of the recipes that were laid over it, then one section for each stage."""

    recipe: tuple[Annotated[str, Field(pattern=r"^[a-z0-9][a-z0-9.-]*$")], ...]
    crawl: Crawl
    extract: Extract
    catalog: Catalog
    download: Download
    score: Score
    group: group_params.Group
    filter: Filter
    release: Release
    report: Report

    @model_validator(mode="after")
    def _pictures_are_hashed_for_lists(self) -> Params:
        wanted = [entry.name for entry in self.catalog.lists if entry.kind == "pdq"]
        if wanted and self.download.pdq == "skip":
            message = f"list {wanted[0]} has kind pdq, and download.pdq is skip. Remedy: quick or exact"
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _texts_can_be_long_enough(self) -> Params:
        longest = self.extract.max_chars
        if longest is not None and self.filter.min_chars > longest:
            message = (
                f"filter.min_chars = {self.filter.min_chars} is above extract.max_chars = {longest}, where texts are "
                "cut: no pair could be kept. Remedy: lower the one or raise the other"
            )
            raise ValueError(message)
        return self

    @model_validator(mode="after")
    def _filter_asks_for_what_group_records(self) -> Params:
        rules = self.filter
        distances = {
            "filter.near_max_distance": rules.near_max_distance if rules.near_duplicates == "drop" else None,
            "filter.evaluation_max_distance": rules.evaluation_max_distance,
        }
        models = [model.name for model in self.score.models]
        group_params.check(self.group, distances, rules.semantic_duplicates, models)
        return self


def load(path: Path = PARAMS_FILE) -> Params:
    """Read and check the file; raise `ParamsError` with every key that is wrong, its value and the remedy."""
    return parse(document(path), source=str(path))


def document(path: Path) -> object:
    """Read a file of parameters without checking them; `ParamsError` where it is missing or is not YAML."""
    try:
        # ruamel reads YAML 1.2 as DVC does: `no` stays a word and 1e-3 a number.
        return YAML(typ="safe", pure=True).load(path)
    except FileNotFoundError:
        message = f"{path} is missing: run from the project's folder, or restore it with `git checkout {path}`"
        raise ParamsError(message) from None
    except OSError as error:
        raise ParamsError(f"{path} cannot be read: {error.strerror}. Remedy: name a file that can be read") from error
    except (YAMLError, RecursionError) as error:
        raise ParamsError(f"{path} is not YAML: {error}") from error
    except ValueError as error:
        # Of a day that does not exist, or a number of too many digits; ruamel does not say where it stands.
        raise ParamsError(f"{path} holds a date or number that is none: {error}. Remedy: correct it") from error


def parse(values: object, source: str = "parameters") -> Params:
    """Check plain values as `load` does."""
    try:
        return Params.model_validate(values)
    except ValidationError as error:
        lines = [_explain(dict(problem)) for problem in error.errors(include_url=False)]
        message = f"{source} is refused:\n" + "\n".join(f"  {line}" for line in lines)
        raise ParamsError(message) from None


def _explain(problem: dict[str, Any]) -> str:
    key = ".".join(str(step) for step in problem["loc"]) or "the file"
    if problem["type"] == "extra_forbidden":
        return f"{key} = {problem['input']!r}: no such parameter. Remedy: remove it, or see the keys in params.yaml"
    if problem["type"] == "missing":
        return f"{key} is missing. Remedy: add it; params.yaml in Git has every key with its meaning"
    if problem["type"] == section.REFUSED:
        return f"{key} = {problem['input']!r}: {problem['msg']}"
    if problem["type"] == "value_error":
        return f"{key}: {problem['msg'].removeprefix('Value error, ')}"
    return f"{key} = {problem['input']!r}: {problem['msg']}. Remedy: see the comment of {key} in params.yaml"
