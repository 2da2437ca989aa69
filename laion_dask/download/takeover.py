"""Take over rows of a download from earlier parts, asking for nothing: attempts, pictures, recorded exchanges."""

from __future__ import annotations

from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import pyarrow.parquet as pq

from laion_dask import params
from laion_dask.blocklists import known_content
from laion_dask.params.download import PACING, Recheck
from laion_dask.runner import takeover as takeovers
from laion_dask.runner.takeover import OFFERS, TAKEN, Earlier, counted, offer
from laion_dask.schema.reasons import KEEP
from laion_dask.storage import shards
from laion_dask.storage.files import digest
from laion_dask.web.archive.reader import ROW
from laion_dask.web.fetch import guard
from laion_dask.web.warc import cdxj
from laion_dask.workers import code_digest

__all__ = ["NEWEST", "OFFERS", "TAKEN", "Takeover", "counted", "find", "is_due", "offer", "outcome", "rules"]

NEWEST: Final = ("fetched",)
"""Of several attempts at one pair the one that was asked for last counts."""
_UIDS: Final = 16**8
_NOT_RULES: Final = frozenset({"rounds", "recheck"})


def rules(settings: params.Download, answers: str, compared: str) -> str:
    """Return the digest of all that makes an attempt usable again: rows are taken over where it is equal.

    `answers` is the digest of recorded responses, `compared` that of the version of download.verify. Rules of rights
    and pictures count. Of the live web, pacing and code do not: what was asked is not asked again for their sake, while
    recorded responses cost nothing.
    """
    if settings.source == "web":
        shaping = settings.model_dump(mode="json", exclude={*_NOT_RULES, *PACING})
        return digest("web", shaping, compared)
    shaping = settings.model_dump(mode="json", exclude={*_NOT_RULES})
    return digest(shaping, answers, compared, code_digest.of_stage("download"))


@dataclass(frozen=True, slots=True)
class Takeover:
    """What one shard takes over, and which earlier rows it asks for again."""

    rows: Mapping[int, Earlier]
    """The earlier row of each row of the work list that is taken over, by its index there."""
    due: Mapping[int, str]
    """The earlier reason of each row that is asked for again."""
    found: Mapping[Earlier, Mapping[str, Any]]
    """The content of earlier rows."""

    def attempts(
        self, work: Sequence[Mapping[str, Any]], key: Callable[[int], str]
    ) -> Iterator[tuple[int, dict[str, Any], bytes, str]]:
        """Yield index, row, picture and extension of each, with the columns of the work list and keys as they are now.

        Pictures are read one at a time; a row whose stored picture is damaged is left out.
        """
        pictures = _Pictures()
        for place, one in sorted(self.rows.items()):
            before = self.found[one]
            now = {name: value for name, value in work[place].items() if name in before and name not in _OF_ATTEMPT}
            row = {**before, **now, "key": key(place)}
            if row["reason"] in known_content.LISTED:
                row = known_content.blank(row)
            picture = pictures.of(one, str(before["key"])) if before["reason"] == KEEP else (b"", "jpg")
            if picture is not None:
                yield place, row, *picture

    def recorded(self) -> list[cdxj.Entry]:
        """Return the recorded exchanges of the rows, and of the files with the rules of their hosts."""
        found: dict[tuple[str, str, int], cdxj.Entry] = {}
        uids: dict[Path, set[str]] = {}
        for one in self.rows.values():
            uids.setdefault(one.table, set()).add(str(self.found[one]["uid"]))
        for table in sorted(uids):
            index = table.with_suffix(".cdxj")
            if index.is_file():
                entries = [cdxj.parse(line, table.parent) for line in index.read_bytes().splitlines()]
                for entry in _belonging(entries, uids[table]):
                    found.setdefault((entry.asker, entry.url, entry.place), entry)
        return list(found.values())


# What an attempt has found, beside the columns that it takes from the work list.
_OF_ATTEMPT: Final = frozenset({"uid", "url", "text"})


def find(
    index: Path | None,
    name: str,
    work: Sequence[Mapping[str, Any]],
    settings: params.Download,
    listed: Container[int] = (),
) -> Takeover:
    """Return what a shard takes over: of each row the earlier attempt at the same address, unless it is due again.

    `index` is that of `runner.takeover`, None without one; `listed` has the rows whose address is on a list of known
    content now.
    """
    by_uid = takeovers.of_shard(index, name)
    chosen = {
        place: by_uid[row["uid"]] for place, row in enumerate(work) if row["uid"] in by_uid and place not in listed
    }
    intact = takeovers.intact(chosen.values(), lambda table: [shards.picture_index(table)])
    chosen = {place: one for place, one in chosen.items() if one.table in intact}
    found = takeovers.rows_of(chosen.values())
    due = {
        place: str(found[one]["reason"])
        for place, one in chosen.items()
        if is_due(settings.recheck, found[one]["uid"], found[one]["fetched"])
    }
    usable = {place: one for place, one in chosen.items() if place not in due and _is_the_same(found[one], work[place])}
    return Takeover(usable, due, found)


def _is_the_same(before: Mapping[str, Any], work: Mapping[str, Any]) -> bool:
    return before["url"] == work["url"] or before["reason"] in known_content.LISTED


class _Pictures:
    """Reads stored pictures by the index that each shard has beside it."""

    def __init__(self) -> None:
        self._places: tuple[Path, dict[str, dict[str, Any]]] | None = None

    def of(self, earlier: Earlier, key: str) -> tuple[bytes, str] | None:
        """Return the stored picture of a row, and its extension; None where it is not what was written."""
        if self._places is None or self._places[0] != earlier.table:
            rows = pq.read_table(shards.picture_index(earlier.table)).to_pylist()
            self._places = earlier.table, {row["key"]: row for row in rows}
        about = self._places[1][key]
        try:
            with earlier.table.with_suffix(".tar").open("rb") as stream:
                stream.seek(about["offset"])
                picture = stream.read(about["bytes"])
        except OSError:
            return None
        return (picture, about["extension"]) if shards.picture_digest(picture) == about["digest"] else None


def _belonging(entries: Sequence[cdxj.Entry], uids: set[str]) -> Iterator[cdxj.Entry]:
    """Yield the exchanges of some rows, and those of hosts that are not the hosts of other rows alone."""
    of_rows = [entry for entry in entries if entry.asker.startswith(ROW)]
    own = [entry for entry in of_rows if entry.asker.removeprefix(ROW).partition(" ")[0] in uids]
    hosts = {_host(entry.url) for entry in own}
    others = {_host(entry.url) for entry in of_rows} - hosts
    yield from own
    yield from (entry for entry in entries if not entry.asker.startswith(ROW) and _host(entry.url) not in others)


def _host(url: str) -> str:
    target = guard.parse(url)
    return target.host if target is not None else url


def is_due(rule: Recheck | None, uid: str, fetched: str | None) -> bool:
    """Say whether an earlier row is asked for again; `fetched` is the day of its last request, None if there was none.

    By `older_than` rows are due that were asked for before that day. By `share` and `month` those are due whose uid is
    in the slice of the month, and that were asked for before it: consecutive months have consecutive slices, so 0.1
    asks for every row once in ten months. What has been asked for again is not due any more: no clock is read.
    """
    if rule is None:
        return False
    if rule.older_than is not None:
        return fetched is None or fetched < rule.older_than.isoformat()
    year, month = (int(part) for part in str(rule.month).split("-"))
    first = (year * 12 + month) * float(rule.share or 0) % 1
    inside = (int(uid[:8], 16) / _UIDS - first) % 1 < float(rule.share or 0)
    return inside and (fetched is None or fetched[:7] < str(rule.month))


def outcome(before: str, now: str, keep: str) -> str:
    """Return what became of a row that was asked for again: alive, dead, back or still_dead, by its reasons."""
    if before == keep:
        return "alive" if now == keep else "dead"
    return "back" if now == keep else "still_dead"
