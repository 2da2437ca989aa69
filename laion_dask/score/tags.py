"""Classify images by text prompts (zero-shot), with LAION-400M's NSFW tag by its own rules.

Prompts are the user's, in a YAML file. LAION-400M's rule is known in two forms: as announced, and as its program
(crawlingathome's gpu_inference.py) ran. The program lacked a comma, which joined two prompts but left the border
between neutral and unsafe ones; it tested only the best match among animals, and found words inside other words.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any, Final

import numpy as np
import pyarrow as pa
from pydantic import Field, TypeAdapter, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from laion_dask.params import heads
from laion_dask.params.section import Section
from laion_dask.schema import Column
from laion_dask.storage import packaged

DEMO_FILE: Final = packaged.file("demo", "tags.yaml")
# CLIP's learned logit scale, which its training clips at 100.
_SCALE: Final = 100.0

Prompt = Annotated[str, Field(min_length=1)]
Prompts = Annotated[tuple[Prompt, ...], Field(min_length=1)]
_Word = Annotated[str, Field(pattern=r"^[a-z][a-z0-9]*(_[a-z0-9]+)*$", max_length=30)]
Groups = dict[_Word, Annotated[dict[_Word, Prompt | Prompts], Field(min_length=2)]]
"""Prompts by label by group; a label with several prompts uses their mean."""

Embed = Callable[[Sequence[str]], np.ndarray]
"""Maps texts to unit embeddings (texts, features)."""


class TagsError(Exception):
    """A file of prompts is missing or malformed; the message has the value and the remedy."""


class Laion400m(Section):
    """Prompts of LAION-400M's NSFW tag, as announced; see docs/heads.md."""

    neutral: Prompts
    unsafe: Prompts
    joined: Annotated[int, Field(ge=0)]
    """Index in `neutral` of the prompt that the program joined with the next one, without a separator."""
    minors: Prompts
    adults: Prompts
    things: Prompts
    animals: Prompts
    words: Prompts
    """Words in a caption that refer to minors."""

    @model_validator(mode="after")
    def _joined_has_a_next(self) -> Laion400m:
        if self.joined + 1 >= len(self.neutral):
            message = f"joined {self.joined} has no next among {len(self.neutral)} neutral prompts. Remedy: its place"
            raise ValueError(message)
        return self

    def categories(self, rule: str) -> tuple[str, ...]:
        """Return neutral prompts, then unsafe ones; by the rule `code` two are joined, which shifts all later ones."""
        at = self.joined
        joined = (*self.neutral[:at], self.neutral[at] + self.neutral[at + 1], *self.neutral[at + 2 :])
        return (*(joined if rule == "code" else self.neutral), *self.unsafe)


def path(spec: heads.Tag) -> Path:
    """Return the file of prompts; `TagsError` where it is missing."""
    file = DEMO_FILE if spec.file == "demo" else Path(spec.file)
    if not file.is_file():
        raise TagsError(f"score.tags: {file} does not exist. Remedy: give the path of a YAML file, see docs/heads.md")
    return file


@functools.cache
def groups(spec: heads.Tag) -> dict[str, dict[str, tuple[str, ...]]]:
    """Read a file of kind zero_shot: labels and their prompts by group."""
    parsed: Groups = _read(spec, TypeAdapter(Groups))
    return {
        group: {label: (prompts,) if isinstance(prompts, str) else prompts for label, prompts in labels.items()}
        for group, labels in parsed.items()
    }


@functools.cache
def laion400m(spec: heads.Tag) -> Laion400m:
    """Read a file of kind laion400m."""
    parsed: Laion400m = _read(spec, TypeAdapter(Laion400m))
    return parsed


def columns(spec: heads.Tag) -> list[Column]:
    """Return the columns that an entry of `score.tags` fills."""
    if spec.kind == "laion400m":
        index = "place of the {} most similar category of LAION-400M's NSFW tag; -1 where there is no image"
        return [
            Column(
                "laion400m_nsfw", pa.string(), f"LAION-400M's NSFW tag, by the rule {spec.rule}; null without image"
            ),
            Column("laion400m_first", pa.int16(), index.format("")),
            Column("laion400m_second", pa.int16(), index.format("second")),
            Column("laion400m_drop", pa.string(), "what LAION-400M drops it for: words, minors, animals, or empty"),
        ]
    return [
        Column(f"tag_{group}_{label}", pa.float32(), f"zero-shot share of {label} among the labels of {group}", "0..1")
        for group, labels in groups(spec).items()
        for label in labels
    ]


def names(spec: heads.Tag) -> list[str]:
    """Return the names of an entry of `score.tags`: `laion400m`, or `tag_<group>` for each of its groups."""
    return [spec.kind] if spec.kind == "laion400m" else [f"tag_{group}" for group in groups(spec)]


def score(spec: heads.Tag, image: np.ndarray, captions: Sequence[str], embed: Embed) -> dict[str, np.ndarray]:
    """Return the columns of an entry for unit embeddings of images (rows, features) and their captions (rows)."""
    if spec.kind == "zero_shot":
        return {
            f"tag_{group}_{label}": values
            for group, labels in groups(spec).items()
            for label, values in zip(labels, shares(image, [embed(one) for one in labels.values()]).T, strict=True)
        }
    lists, rule = laion400m(spec), str(spec.rule)
    best = {
        name: top2(image, embed(prompts))
        for name, prompts in {
            "categories": lists.categories(rule),
            "minors": (*lists.minors, *lists.adults),
            "animals": (*lists.things, *lists.animals),
        }.items()
    }
    tag = nsfw(best["categories"], len(lists.neutral))
    drop = drops(tag, best["minors"], best["animals"], captions, lists, rule)
    first, second = best["categories"].astype(np.int16).T
    return {"laion400m_nsfw": tag, "laion400m_first": first, "laion400m_second": second, "laion400m_drop": drop}


def shares(image: np.ndarray, prompts: Sequence[np.ndarray]) -> np.ndarray:
    """Return the softmax of 100 times the cosine, float32 (rows, labels); several prompts of a label are averaged."""
    means = np.stack([one.astype(np.float64).mean(axis=0) for one in prompts])
    labels = means / np.linalg.norm(means, axis=1, keepdims=True)
    logits = _SCALE * (image.astype(np.float64) @ labels.T)
    powers = np.exp(logits - logits.max(axis=1, keepdims=True, initial=-np.inf))
    return np.asarray(powers / powers.sum(axis=1, keepdims=True), np.float32)


def top2(image: np.ndarray, prompts: np.ndarray) -> np.ndarray:
    """Return the indices of the two most similar prompts, best first, (rows, 2); of equal ones the earlier."""
    cosines = image.astype(np.float64) @ prompts.astype(np.float64).T
    return np.argsort(-cosines, axis=1, kind="stable")[:, :2]


def nsfw(best: np.ndarray, border: int) -> np.ndarray:
    """Return UNLIKELY where both of the two best (rows, 2) are below the border, NSFW where neither is, else UNSURE."""
    neutral = (best < border).sum(axis=1)
    verdicts: np.ndarray = np.array(["NSFW", "UNSURE", "UNLIKELY"], object)[neutral]
    return verdicts


def drops(
    tag: np.ndarray, minors: np.ndarray, animals: np.ndarray, captions: Sequence[str], lists: Laion400m, rule: str
) -> np.ndarray:
    """Return why LAION-400M drops a row: words, minors or animals, in this order, or nothing; UNLIKELY rows stay.

    `minors` and `animals` are the two best prompts (rows, 2) among minors and adults, and among things and animals.
    """
    speaks = _finder(lists.words, whole=rule == "published")
    words = np.array([speaks(caption) for caption in captions], bool)
    minor = (minors < len(lists.minors)).any(axis=1)
    of_animals = animals >= len(lists.things)
    animal = of_animals.any(axis=1) if rule == "published" else of_animals[:, 0]
    reason = np.select([words, minor, animal], ["words", "minors", "animals"], "").astype(object)
    reason[tag == "UNLIKELY"] = ""
    return reason


def _finder(words: Sequence[str], *, whole: bool) -> Callable[[str], bool]:
    """Return a test of a text: for whole words in any case, or for substrings in the same case."""
    if not whole:
        return lambda text: any(word in text for word in words)
    pattern = re.compile(rf"\b(?:{'|'.join(re.escape(word.casefold()) for word in words)})\b")
    return lambda text: pattern.search(text.casefold()) is not None


def _read(spec: heads.Tag, kind: TypeAdapter[Any]) -> Any:  # noqa: ANN401 - the model of the adapter
    file = path(spec)
    try:
        return kind.validate_python(YAML(typ="safe", pure=True).load(file))
    except YAMLError as error:
        raise TagsError(f"score.tags: {file} is not YAML: {error}") from error
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        place = ".".join(str(step) for step in first["loc"]) or "the file"
        message = f"score.tags: {file} is not a file of kind {spec.kind}: {place}: {first['msg']}"
        raise TagsError(f"{message}. Remedy: see its format in docs/heads.md") from error
