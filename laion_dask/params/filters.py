"""The section `filter` of params.yaml: one frozen model for each of its rules; invalid values are refused.

The existence of its columns and files is checked by `laion_dask.preflight`, before anything runs.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Annotated, Literal

from pydantic import Field, field_validator, model_validator

from laion_dask.params.group import Distance
from laion_dask.params.section import Section, Seed
from laion_dask.params.types import Fraction
from laion_dask.schema.values import Split

Cosine = Annotated[float, Field(ge=-1, le=1)]
Path = Annotated[str, Field(min_length=1)]
Name = Annotated[str, Field(pattern=r"^[a-z][a-z0-9_]{0,39}$")]
Column = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,63}$")]


Among = Literal["scored", "pool", "passing"]


class Similarity(Section):
    """The lowest cosine that is kept, by split."""

    en: Cosine
    multi: Cosine
    nolang: Cosine


class Threshold(Section):
    """Limits of one column; a row outside them, or without a number, is dropped."""

    name: Name
    """Name of the rule in the metrics, where it has its own count."""
    column: Column
    min: float | None = None
    above: float | None = None
    max: float | None = None
    below: float | None = None
    splits: Literal["all"] | tuple[Split, ...] = "all"
    """Splits that it applies to."""
    missing: Literal["drop", "keep"] = "drop"
    """Verdict for a pair without a number in the column."""

    @model_validator(mode="after")
    def _limits_leave_room(self) -> Threshold:
        low, high = (self.min, self.above), (self.max, self.below)
        given = [limit for limit in (*low, *high) if limit is not None]
        if not given:
            message = f"threshold {self.name} has no limit. Remedy: min, above, max or below"
            raise ValueError(message)
        lowest = max((limit for limit in low if limit is not None), default=float("-inf"))
        highest = min((limit for limit in high if limit is not None), default=float("inf"))
        excluded = lowest == highest and lowest in {self.above, self.below}
        if lowest > highest or excluded:
            message = f"threshold {self.name}: {lowest:g} is {'not below' if excluded else 'above'} {highest:g}: "
            raise ValueError(f"{message}no pair could be kept. Remedy: a lower min or above, or a higher max or below")
        return self


class Top(Section):
    """The top fraction of a column, by DataComp's rule: ties with the last one are kept too."""

    name: Name
    column: Column
    fraction: Annotated[float, Field(gt=0, le=1)]
    by: Literal["all", "split"] = "all"
    """Of all pairs together, or of each split separately."""
    among: Among = "scored"
    """Pairs to rank: all with a number in the column; those that pass known content and punsafe, as in a published
    pool; or those that no earlier rule has dropped."""
    share_of: Among | None = None
    """Base of the fraction; None: the ranked pairs."""


class ImageBased(Section):
    """DataComp's image-based filter: clusters of the pool that are nearest to a target."""

    model: Name
    """One of score.models."""
    centroids: Path
    targets: Path


class Balance(Section):
    """MetaCLIP's balancing over one list of entries, or MetaCLIP 2's over one for each language."""

    entries: Path | None = None
    """The list for all texts."""
    by_language: Path | None = None
    """Folder with a list for each language, `<code>.json` or `<code>.txt`; t is that of English."""
    t: Annotated[int, Field(ge=1)]
    seed: Seed

    @model_validator(mode="after")
    def _has_entries_once(self) -> Balance:
        if (self.entries is None) is (self.by_language is None):
            given = "neither" if self.entries is None else "both"
            remedy = "entries for one list, by_language for a folder of lists"
            message = f"balance has {given} of entries and by_language. Remedy: {remedy}"
            raise ValueError(message)
        return self


class Keywords(Section):
    """Re-LAION's rule: a listed word in the text of an image with a high punsafe."""

    file: Path
    above_punsafe: Fraction


class Sample(Section):
    """FLYT's soft cap sampling: pairs are drawn by their score, again and again, each time with a lower one."""

    column: Column
    size: Annotated[int, Field(ge=1, le=100_000_000_000)] | None
    """Draws in all; None: as many as there are pairs to draw from."""
    batch: Annotated[int, Field(ge=1, le=1_000_000_000)]
    """Draws at once, of different pairs."""
    penalty: Annotated[float, Field(ge=0, le=1_000)]
    """Subtracted from the score of a pair whenever it is drawn."""
    seed: Seed


class Computed(Section):
    """A column that filter adds, for thresholds, top, sample and where: from stored embeddings or from a file."""

    column: Name
    kind: Literal["negcliploss", "normsim", "scores"]
    model: Name | None = None
    """negcliploss and normsim: one of score.models."""
    file: Path | None = None
    """scores: Parquet, or a folder of Parquet, with a column uid and one of numbers."""
    file_column: Annotated[str, Field(min_length=1)] | None = None
    """scores: the column of numbers in the file."""
    targets: Path | None = None
    """normsim: embeddings of the target images, .npy (targets, features)."""
    norm: Literal["inf", 2] | None = None
    """normsim: norm of the similarities to all targets: the maximum (inf) or the Euclidean norm (2)."""
    batch: Annotated[int, Field(ge=2, le=1_000_000)] | None = None
    """negcliploss: pairs per random batch."""
    batches: Annotated[int, Field(ge=1, le=1_000)] | None = None
    """negcliploss: number of random batches that the normalizer is averaged over."""
    temperature: Annotated[float, Field(gt=0, le=1)] | None = None
    """negcliploss: temperature of the model."""
    seed: Seed | None = None
    """negcliploss: seed of the batches."""

    @model_validator(mode="after")
    def _has_what_its_kind_needs(self) -> Computed:
        keys = {
            "negcliploss": ("model", "batch", "batches", "temperature", "seed"),
            "normsim": ("model", "targets", "norm"),
            "scores": ("file", "file_column"),
        }
        for kind, wanted in keys.items():
            for key in wanted:
                if (getattr(self, key) is None) is (key in keys[self.kind]):
                    remedy = f"add {key}" if key in keys[self.kind] else f"leave {key} out, it belongs to {kind}"
                    message = f"computed {self.column}, kind {self.kind}. Remedy: {remedy}"
                    raise ValueError(message)
        return self


class Filter(Section):
    """Thresholds: the only parameters that turn numbers into verdicts."""

    similarity: Similarity
    min_chars: Annotated[int, Field(ge=0, le=10_000)]
    min_words: Annotated[int, Field(ge=0, le=1_000)]
    min_bytes: Annotated[int, Field(ge=0, le=1_000_000_000)]
    min_side_px: Annotated[int, Field(ge=0, le=100_000)]
    max_aspect_ratio: Annotated[float, Field(ge=1)]
    languages: Annotated[tuple[Annotated[str, Field(pattern=r"^[a-z]{2,3}$")], ...], Field(min_length=1)] | None
    max_punsafe: Fraction
    max_pwatermark: Fraction
    laion400m: Literal["drop", "keep"]
    keywords: Keywords | None
    text_entities: Path | None
    keep_uids: tuple[Path, ...]
    drop_uids: tuple[Path, ...]
    computed: Annotated[tuple[Computed, ...], Field(max_length=8)]
    thresholds: Annotated[tuple[Threshold, ...], Field(max_length=16)]
    where: Annotated[str, Field(min_length=1, max_length=10_000)] | None
    image_based: ImageBased | None
    top: Annotated[tuple[Top, ...], Field(max_length=8)]
    duplicate_images: Literal["drop", "keep"]
    near_duplicates: Literal["drop", "keep"]
    near_max_distance: Distance
    near_min_cosine: Cosine
    semantic_duplicates: Annotated[float, Field(ge=0, lt=1)] | None
    evaluation_max_distance: Distance | None
    evaluation_min_cosine: Cosine | None
    balance: Balance | None
    sample: Sample | None

    @field_validator("computed", "thresholds", "top")
    @classmethod
    def _names_are_given_once(cls, value: tuple[Threshold | Top | Computed, ...]) -> tuple[object, ...]:
        names = [entry.column if isinstance(entry, Computed) else entry.name for entry in value]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            message = f"{', '.join(twice)} is used twice. Remedy: another name for one of them"
            raise ValueError(message)
        return value

    @model_validator(mode="after")
    def _english_gives_the_thresholds(self) -> Filter:
        rule = self.balance
        if rule is not None and rule.by_language is not None and "en" not in (self.languages or ("en",)):
            message = (
                f"languages = {', '.join(self.languages or ())} leaves out en, whose tail gives balance.by_language "
                "its thresholds. Remedy: add en, or balance.entries with a list and t of its own"
            )
            raise ValueError(message)
        return self

    def models(self) -> Sequence[tuple[str, str]]:
        """Return (key, name of a model) for each rule that reads stored embeddings."""
        based = [] if self.image_based is None else [("image_based.model", self.image_based.model)]
        named = [(f"computed.{number}.model", one.model) for number, one in enumerate(self.computed)]
        return [*based, *((key, model) for key, model in named if model is not None)]

    def files(self) -> Sequence[tuple[str, str, Literal["file", "folder", "either"]]]:
        """Return (key, path, allowed kind) of each file or folder that a rule reads."""
        found: list[tuple[str, str, Literal["file", "folder", "either"]]] = [
            (f"{key}.{at}", path, "either")
            for key in ("keep_uids", "drop_uids")
            for at, path in enumerate(getattr(self, key))
        ]
        found += [(f"computed.{at}.file", one.file, "either") for at, one in enumerate(self.computed) if one.file]
        single = {
            "keywords.file": self.keywords and self.keywords.file,
            "text_entities": self.text_entities,
            "balance.entries": self.balance and self.balance.entries,
            "image_based.centroids": self.image_based and self.image_based.centroids,
            "image_based.targets": self.image_based and self.image_based.targets,
            **{f"computed.{number}.targets": one.targets for number, one in enumerate(self.computed)},
        }
        found += [(key, path, "file") for key, path in single.items() if path]
        if self.balance is not None and self.balance.by_language is not None:
            found.append(("balance.by_language", self.balance.by_language, "folder"))
        return found
