"""Measure a version for the summary of training content: amounts, languages, dates, domains by bytes.

Every number comes from the tables of the release and of the download. The summary is about what a model is trained
on, so pairs that a filter dropped count for nothing but the period in which hosts were asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import duckdb

from laion_dask.release import composition, manifest
from laion_dask.statistics.domain_classes import domain_class
from laion_dask.storage import duckdb_connection, numbered
from laion_dask.web.urls.hostnames import registrable_domain

_PAIRS: Final = """
create view pairs as
select uid, kept."TEXT", kept."LANGUAGE", regexp_extract(kept."URL", '^[a-zA-Z]+://([^/?#:]+)', 1) as host,
    kept.sha256, images.bytes
from read_parquet({kept}, hive_partitioning = false) kept
left join read_parquet({images}, hive_partitioning = false) images using (uid)
"""


class SummaryError(Exception):
    """The version has no such figures; the message has the remedy."""


@dataclass(frozen=True, slots=True)
class Domain:
    """A registered domain whose hosts gave images of the version."""

    name: str
    images: int
    bytes: int
    """Of its images as received, and of their texts in UTF-8."""


@dataclass(frozen=True, slots=True)
class Figures:
    """The figures of a version."""

    manifest: Mapping[str, Any]
    pairs: int
    characters: int
    text_bytes: int
    images: int
    """Different ones, by sha256."""
    image_bytes: int
    languages: tuple[tuple[str, int], ...]
    """Code and pairs, the most frequent first; the code is empty where none could be told."""
    domains: tuple[Domain, ...]
    """All of them, the largest first."""
    classes: tuple[tuple[str, int], ...]
    """Class of the image's host (`domain_classes.CLASSES`) and pairs, the most frequent first."""
    asked: tuple[str, str] | None
    """First and last date that hosts gave with their responses, ISO 8601; None where no response had one."""

    def dropped(self, stage: str, unit: str, *reasons: str) -> int:
        """Return how many rows a stage has dropped for these reasons."""
        dropped = self.manifest["counts"].get(stage, {}).get(unit, {}).get("dropped", {})
        return sum(int(dropped.get(reason, 0)) for reason in reasons)


def measure(data: Path) -> Figures:
    """Return the figures of the version whose stages' outs are in `data`; raises `SummaryError`."""
    release = data / "release"
    about = manifest.read(release)
    kept, images = composition.files(release), numbered.tables(data / "download")
    if not kept or not images:
        missing = release if not kept else data / "download"
        raise SummaryError(f"{missing} has no tables. Remedy: `make repro`, or `dvc checkout` the whole version")
    with duckdb_connection.connect() as connection:
        connection.execute(_PAIRS.format(kept=composition.listed(kept), images=composition.listed(images)))
        pairs, characters, text_bytes, different, without = _row(
            connection,
            'select count(*), sum(length("TEXT")), sum(strlen("TEXT")), count(distinct sha256),'
            " count(*) filter (bytes is null) from pairs",
        )
        if without:
            message = f"{without:,} pairs of {release} are not in {data / 'download'}"
            raise SummaryError(f"{message}. Remedy: `dvc checkout` the whole version")
        (image_bytes,) = _row(
            connection, "select sum(bytes) from (select any_value(bytes) as bytes from pairs group by sha256)"
        )
        languages = connection.execute(
            "select coalesce(\"LANGUAGE\", '') as code, count(*) from pairs group by 1 order by 2 desc, 1"
        ).fetchall()
        hosts = connection.execute(
            'select host, count(*), sum(bytes + strlen("TEXT")) from pairs group by 1 order by 1'
        ).fetchall()
        first, last = _row(
            connection,
            "select min(server_date), max(server_date)"
            f" from read_parquet({composition.listed(images)}, hive_partitioning = false)",
        )
    return Figures(
        manifest=about,
        pairs=pairs,
        characters=characters,
        text_bytes=text_bytes,
        images=different,
        image_bytes=image_bytes,
        languages=tuple((str(code), int(rows)) for code, rows in languages),
        domains=_domains(hosts),
        classes=_classes(hosts),
        asked=(first, last) if first else None,
    )


def _row(connection: duckdb.DuckDBPyConnection, query: str) -> Any:  # noqa: ANN401 - a row
    return connection.execute(query).fetchone()


def _domains(hosts: list[tuple[str, int, int]]) -> tuple[Domain, ...]:
    """Add up hosts by registered domain; a host without one (an IP address) stands for itself."""
    sums: dict[str, list[int]] = {}
    for host, images, amount in hosts:
        total = sums.setdefault(registrable_domain(host) or host, [0, 0])
        total[0] += images
        total[1] += int(amount)
    domains = [Domain(name, images, amount) for name, (images, amount) in sums.items()]
    return tuple(sorted(domains, key=lambda domain: (-domain.bytes, domain.name)))


def _classes(hosts: list[tuple[str, int, int]]) -> tuple[tuple[str, int], ...]:
    sums: dict[str, int] = {}
    for host, images, _ in hosts:
        name = domain_class(host)
        sums[name] = sums.get(name, 0) + images
    return tuple(sorted(sums.items(), key=lambda one: (-one[1], one[0])))
