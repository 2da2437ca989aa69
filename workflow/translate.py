"""Stage translate: English texts for kept pairs in other languages, one part for each shard."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from laion_dask.params import Params
from laion_dask.runner import parts
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Resources, Stage, data
from laion_dask.storage import attempts, embeddings
from laion_dask.storage.files import digest
from laion_dask.storage.numbered import tables
from laion_dask.texts import new_texts
from laion_dask.translate import models, part
from workflow.program import main


def is_off(settings: Params) -> bool:
    """Say whether no text is translated."""
    return settings.translate is None


def find_weights(settings: Params) -> None:
    """Find or fetch the translation model, before a cluster starts."""
    if settings.translate is not None:
        models.find(settings.translate)


def shards(settings: Params, _: Resources) -> list[Part]:
    """One part for each shard; its key holds which pairs are kept, the texts, the embeddings and the model."""
    rules, words = settings.translate, settings.filter.keywords
    store, reader = data("score") / embeddings.STORE, new_texts.reader(settings.score)
    # Read here, by the driver: a model that is refused ends the run once, not in every worker.
    deciding = [rules, rules and models.deciding(rules), words, reader, embeddings.about(store).get(reader.name)]
    todo = []
    for place, images in enumerate(tables(data("download"))):
        scores, verdicts = (data(stage) / images.name for stage in ("score", "filter"))
        seen = embeddings.shard_file(store, f"{reader.name}/image", place)
        read = [images, scores, *([seen] if seen.exists() else [])]
        args: dict[str, Any] = {"images": images, "scores": scores, "verdicts": verdicts, "store": store}
        args |= {"settings": rules, "words": words, "reader": reader}
        key = digest(*read, attempts.kept_uids(verdicts), words and Path(words.file), deciding)
        todo.append(Part(images.stem, key, {"name": images.stem, **args}, weight=verdicts.stat().st_size))
    return todo


def publish(settings: Params, done: Sequence[Done], out: Path) -> Mapping[str, Any]:
    """Link the tables of all shards; the metrics say which model wrote the texts."""
    parts.publish_files(done, out)
    return {"model": models.about(settings.translate)} if settings.translate is not None else {}


STAGE = Stage(
    name="translate",
    unit="texts",
    find_parts=shards,
    function=part.translate,
    publish=publish,
    check=find_weights,
    follows=("texts", "filter", "pairs"),
    gpu=True,
    off=is_off,
)

if __name__ == "__main__":
    main(STAGE)
