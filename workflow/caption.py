"""Stage caption: captions for the images of kept pairs, sampled and ranked, one part for each shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laion_dask.caption import models, part
from laion_dask.params import Params
from laion_dask.runner import parts
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Stage, data
from laion_dask.storage import attempts, embeddings
from laion_dask.storage.files import digest
from laion_dask.storage.numbered import tables
from laion_dask.texts import new_texts
from workflow.program import main


def is_off(settings: Params) -> bool:
    """Say whether no image is captioned."""
    return settings.caption is None


def find_weights(settings: Params) -> None:
    """Find or fetch the weights of the captioner, the rankers and the repair, before a cluster starts."""
    if settings.caption is not None:
        models.find(settings.caption)


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard; its key holds which pairs are kept, the images, the embeddings and the models."""
    rules, words = settings.caption, settings.filter.keywords
    store, reader = data("score") / embeddings.STORE, new_texts.reader(settings.score)
    # Read here, by the driver: a model that is refused ends the run once, not in every worker.
    deciding = [rules, rules and models.deciding(rules), words, reader, embeddings.about(store).get(reader.name)]
    todo = []
    for place, images in enumerate(tables(data("download"))):
        scores, verdicts = (data(stage) / images.name for stage in ("score", "filter"))
        tar, seen = images.with_suffix(".tar"), embeddings.shard_file(store, f"{reader.name}/image", place)
        read = [images, tar, scores, *([seen] if seen.exists() else [])]
        args: dict[str, Any] = {"images": images, "tar": tar, "scores": scores, "verdicts": verdicts, "store": store}
        args |= {"settings": rules, "words": words, "reader": reader}
        key = digest(*read, attempts.kept_uids(verdicts), words and Path(words.file), deciding)
        todo.append(Part(images.stem, key, {"name": images.stem, **args}, weight=tar.stat().st_size))
    return todo


def link_captions(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Publish the captions of all shards, and name the models in the metrics."""
    parts.publish_files(done, out)
    return {} if settings.caption is None else {"model": models.about(settings.caption)}


STAGE = Stage(
    name="caption",
    unit="captions",
    find_parts=shards,
    function=part.caption,
    publish=link_captions,
    check=find_weights,
    follows=("captions", "filter", "pairs"),
    gpu=True,
    off=is_off,
)

if __name__ == "__main__":
    main(STAGE)
