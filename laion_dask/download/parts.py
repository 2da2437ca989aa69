"""Find the parts of a download: one for each shard of the work list, and further rounds of what failed for now."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.blocklists.known_index import Index
from laion_dask.download import earlier, part, rounds, takeover
from laion_dask.runner import parts
from laion_dask.runner import takeover as takeovers
from laion_dask.runner.part import Done, Part
from laion_dask.runner.stage import Run
from laion_dask.storage.files import digest, link
from laion_dask.storage.shards import write_sizes


def of_work_lists(
    paths: Iterable[Path], rules: params.Download, shard_rows: int, answers: str, lists: Sequence[Index]
) -> list[Part]:
    """Return a part for each shard's work list; `answers` is the digest of the recorded responses, if any."""
    compared = compared_with(rules)
    # Further rounds fetch only failed rows, so their number is not in the key. Neither are the lists of known content:
    # the stage filter finds images that were downloaded before a list had them.
    usable_by = takeover.rules(rules, answers, compared)
    shaping = rules.model_dump(mode="json", exclude={"rounds"})
    return [
        Part(
            path.stem,
            digest(path, shaping, answers, compared, shard_rows),
            {
                "name": path.stem,
                "work": path,
                "settings": rules,
                "shard_rows": shard_rows,
                "lists": lists,
                "rules": usable_by,
            },
            weight=pq.read_metadata(path).num_rows,
        )
        for path in paths
    ]


def compared_with(rules: params.Download) -> str:
    """Return the digest of the version that every pair is compared with (`download.verify`)."""
    return digest(*(earlier.shard_files(Path(rules.verify)) if rules.verify is not None else []))


def with_earlier(todo: Sequence[Part]) -> list[Part]:
    """Return the parts of the stage; those that are not finished know what they can take over from earlier ones."""
    if not todo or todo[0].args["settings"].source == "archive":
        return list(todo)  # every row is in the archive, and is asked for nowhere else
    tables = [part.args["work"] for part in todo]
    return takeovers.with_earlier("download", todo, tables, todo[0].args["rules"], takeover.NEWEST)


def try_again(rules: params.Download, shared: Mapping[str, Any], first: Sequence[Done], run: Run) -> Sequence[Done]:
    """Run the further rounds, with the rows that failed for now, then join the rounds of each shard."""
    tried = {done.part.name: [done] for done in first}
    for number in range(2, rules.rounds + 1):
        left = [ended[-1] for ended in tried.values() if ended[-1].counts["later"]]
        for done in run(part.download, [_next_round(one, number) for one in left], shared) if left else []:
            tried[done.part.args["name"]].append(done)
    several = [_joined(ended) for ended in tried.values() if len(ended) > 1]
    joined = {done.part.name: done for done in (run(rounds.settle, several, {}) if several else [])}
    return [joined.get(name, ended[0]) for name, ended in tried.items()]


def _next_round(done: Done, number: int) -> Part:
    name = done.part.args["name"]
    key = digest(done.part.key, number, rounds.later_file(done.folder, name))
    args = {**done.part.args, "before": done.folder, "round_number": number}
    return Part(f"{name}-{number}", key, args, weight=done.counts["later"])


def _joined(ended: Sequence[Done]) -> Part:
    name = ended[0].part.name
    key = digest([[done.part.key, done.folder / f"{name}.parquet"] for done in ended])
    beside = {takeover.TAKEN: ended[0].counts[takeover.TAKEN]}
    # Of two parts with the same rows, the one with more rounds is taken over.
    beside[takeover.OFFERS] = takeover.offer(ended[0].part.args.get("rules", ""), len(ended))
    args = {"name": name, "rounds": [done.folder for done in ended], "beside": beside}
    return Part(name, key, args, weight=ended[0].part.weight)


def publish_shards(done: Sequence[Done], out: Path) -> None:
    """Link the files of all shards into a folder, and write their sizes."""
    for one in done:
        for path in parts.files(one):
            if path.parent == one.folder:
                link(path, out / path.name)
    write_sizes(out)
