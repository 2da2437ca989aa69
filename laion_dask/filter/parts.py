"""Find the parts of the stage filter, one for each shard, and prepare what their rules read beside the tables."""

from __future__ import annotations

import shutil
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pyarrow.parquet as pq

from laion_dask.blocklists import known_lists, removal_ledger
from laion_dask.filter import filter_checks, given_scores, part, pool, rules, uid_sets
from laion_dask.filter.rules import Files
from laion_dask.filter.sampling import balance_lists
from laion_dask.params import Params, filters
from laion_dask.runner.part import Part
from laion_dask.runner.stage import data, home
from laion_dask.storage import embeddings, numbered
from laion_dask.storage.files import digest


def of_shards(settings: Params, plan: Path) -> list[Part]:
    """Return a part for each shard; prepares files and draws random batches in the folder `plan`."""
    wanted = settings.filter
    images = numbered.tables(data("download"))
    scores, groups = ([data(stage) / path.name for path in images] for stage in ("score", "group"))
    columns = filter_checks.joined(pq.read_schema(scores[0])) if scores else None
    if columns is not None:
        filter_checks.check(wanted, columns)
    shutil.rmtree(plan, ignore_errors=True)
    files = read_files(settings, plan)
    batches = {
        one.column: pool.draw(one, scores, plan / one.column) for one in wanted.computed if one.kind == "negcliploss"
    }
    drawn = [path for one in batches.values() for path in sorted(one.folder.glob("*.npy"))]
    common = digest(wanted, files.digest, *drawn)
    read_columns = rules.columns(wanted, columns.names, files) if columns is not None else []
    # Duplicates are found later, over all shards, and need no groups here.
    grouped = not rules.GROUPED.isdisjoint(read_columns)
    tables = zip(images, scores, groups, strict=True) if grouped else zip(images, scores, strict=True)
    read = [[*of_shard, *_arrays(wanted, place)] for place, of_shard in enumerate(tables)]
    with ThreadPoolExecutor() as threads:
        keys = threads.map(lambda paths: digest(*paths, common), read)
    todo = []
    for path, score, group, key in zip(images, scores, groups, keys, strict=True):
        args = {
            "name": path.stem,
            "images": path,
            "scores": score,
            "groups": group if grouped else None,
            "columns": read_columns,
            "settings": wanted,
            "files": files,
            "batches": batches,
        }
        todo.append(Part(path.stem, key, args, weight=path.stat().st_size))
    return todo


def _arrays(wanted: filters.Filter, place: int) -> list[Path]:
    """List the files with the embeddings of a shard that rules read; a shard without images may have none."""
    store = data("score") / embeddings.STORE
    files = [embeddings.shard_file(store, name, place) for name in part.arrays(wanted)]
    return [file for file in files if file.exists()]


def read_files(settings: Params, plan: Path) -> Files:
    """Prepare the files that rules read besides the tables, in the folder `plan`."""
    wanted = settings.filter
    ledger = Path(settings.catalog.removals)
    hashes = [removal for removal in removal_ledger.read(ledger) if removal.kind in {"md5", "sha256"}]
    kinds = ("md5", "sha256")
    digests = {kind: frozenset(removal.value for removal in hashes if removal.kind == kind) for kind in kinds}
    removed = [known_lists.of_digests(kind, values, plan / "removed") for kind, values in digests.items() if values]
    listed = tuple(
        entry for entry in known_lists.compiled(settings.catalog.lists, home() / "lists") if not entry.of_urls
    )
    keep, drop = (
        tuple(uid_sets.prepare(Path(path), plan / "uids") for path in paths)
        for paths in (wanted.keep_uids, wanted.drop_uids)
    )
    prepared = {"keep_uids", "drop_uids", *(f"computed.{at}.file" for at in range(len(wanted.computed)))}
    others = [
        file
        for key, path, kind in wanted.files()
        if not {key, key.partition(".")[0]} & prepared
        for file in (balance_lists.files(Path(path)).values() if kind == "folder" else [Path(path)])
    ]
    given = {
        one.column: given_scores.prepare(Path(one.file), str(one.file_column), plan / "scores" / f"{one.column}.npy")
        for one in wanted.computed
        if one.file is not None
    }
    # Not the whole ledger: removals by address are applied to judged shards (takedown).
    hashed = {kind: sorted(values) for kind, values in digests.items()}
    content = digest(hashed, known_lists.about(listed), *others, *keep, *drop, *given.values())
    return Files(content, keep, drop, given, tuple(removed), listed)
