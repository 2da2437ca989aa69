"""Find the pairs of a bucket that a removal names: SQL over the table of removals, and a look-up of addresses.

PostgreSQL finds uids and domains. Addresses are compared by their key (`address_key`), which is computed here, and only
for rows whose host has a removal: a few of tens of millions of pairs. The table has digests of 16 bytes, since an entry
of an index is limited to 2,704 bytes.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import numpy as np
import numpy.typing as npt
import pyarrow as pa
import pyarrow.compute as pc

from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.web.urls import address_key

TABLE: Final = (
    'create table laion_dask.removals (kind text collate "C", value uuid, name text collate "C" not null,'
    " primary key (kind, value))"
)
"""`value` is the removed uid, or a digest of the value. `name` is the domain, the host of an address, or empty."""
_ROWS_AT_ONCE: Final = 65_536
_WIDTH: Final = address_key.DIGEST_BYTES

Ints = npt.NDArray[np.int64]


def fill(cursor: Any, removals: Iterable[Removal]) -> None:  # noqa: ANN401 - a driver's cursor
    """Load removals into the empty table, each once."""
    with cursor.copy("copy laion_dask.removals from stdin") as copy:
        for line in dict.fromkeys(map(_stored, removals)):
            copy.write_row(line)


def _stored(line: Removal) -> tuple[str, UUID, str]:
    if line.kind == "uid":
        return line.kind, UUID(line.value), ""
    if line.kind == "url":
        return line.kind, UUID(bytes=address_key.digest(line.value)), address_key.host(line.value)
    digest = hashlib.blake2b(line.value.encode(), digest_size=_WIDTH).digest()
    return line.kind, UUID(bytes=digest), line.value if line.kind == "domain" else ""


@dataclass(frozen=True)
class Addresses:
    """The removals by address of a ledger."""

    digests: frozenset[bytes]
    hosts: pa.Array

    @staticmethod
    def of(values: Iterable[str]) -> Addresses:
        """Build the digests and hosts of a ledger's addresses."""
        urls = list(values)
        hosts = sorted({address_key.host(url) for url in urls})
        return Addresses(frozenset(map(address_key.digest, urls)), pa.array(hosts, pa.string()))

    def rows(self, urls: pa.ChunkedArray) -> Ints:
        """Return the numbers of the rows whose address has the same key as one of these."""
        if not self.digests:
            return np.empty(0, np.int64)
        plain = pc.struct_field(pc.extract_regex(urls, pattern=address_key.PLAIN_HOST), "host")
        hosts = pc.ascii_rtrim(plain, ".")
        # Addresses without a plain host are always parsed.
        hard = pc.fill_null(pc.match_substring_regex(hosts, address_key.NUMBER_HOST), True)
        likely = np.flatnonzero(pc.or_(hard, pc.is_in(hosts, value_set=self.hosts)).to_numpy())
        matches = [
            row
            for start in range(0, len(likely), _ROWS_AT_ONCE)
            for row in self._among(urls, likely[start : start + _ROWS_AT_ONCE])
        ]
        return np.array(matches, np.int64)

    def _among(self, urls: pa.ChunkedArray, candidates: Ints) -> Iterable[int]:
        # pa.array of numpy would import pandas, 1.4 s in each worker.
        buffer = pa.py_buffer(np.ascontiguousarray(candidates))
        chosen = pa.Array.from_buffers(pa.int64(), len(candidates), [None, buffer])
        for row, url in zip(candidates.tolist(), urls.take(chosen).to_pylist(), strict=True):
            if address_key.digest(url) in self.digests:
                yield row


def addresses(cursor: Any) -> Addresses:  # noqa: ANN401 - a driver's cursor
    """Read the removals by address from the table."""
    joined, hosts = cursor.execute(
        "select string_agg(uuid_send(value), ''), array_agg(distinct name) from laion_dask.removals where kind = 'url'"
    ).fetchone()
    digests = bytes(joined or b"")
    return Addresses(
        frozenset(digests[start : start + _WIDTH] for start in range(0, len(digests), _WIDTH)),
        pa.array(sorted(hosts or ()), pa.string()),
    )


def named(cursor: Any, pairs: str, kinds: Sequence[str]) -> Ints:  # noqa: ANN401 - a driver's cursor
    """Return `number` of the pairs that a removal of a uid or domain matches, and the index of its kind: (pairs, 2).

    `pairs` is the bucket's table. Of several kinds the first one counts. A domain includes its subdomains. Kinds that
    the ledger does not have are not queried.
    """
    in_ledger = {kind for (kind,) in cursor.execute("select distinct kind from laion_dask.removals").fetchall()}
    chosen = [
        f"select number, {place} as kind {_MATCHES[kind].format(pairs=pairs)}"
        for place, kind in enumerate(kinds)
        if kind in in_ledger and kind in _MATCHES
    ]
    if not chosen:
        return np.empty((0, 2), np.int64)
    query = f"select number, min(kind) from ({' union all '.join(chosen)}) named group by number order by number"
    return np.array(cursor.execute(query).fetchall(), np.int64).reshape(-1, 2)


# The last two labels of a name, with a dot between them; of a name with one label, the dot and the label.
_TAIL: Final = "split_part({name}, '.', -2) || '.' || split_part({name}, '.', -1)"
# Domains: few hosts share the last two labels with a name of the ledger, and only those are split label by label.
# If the ledger has a name of one label, all hosts are.
_MATCHES: Final = {
    "uid": "from {pairs} join laion_dask.removals on kind = 'uid' and value = uid",
    "domain": f"""from {{pairs}} join (
        with domains as materialized (
            select name as value, {_TAIL.format(name="name")} as tail from laion_dask.removals where kind = 'domain'
        ), hosts as materialized (
            select host, rtrim(host, '.') as name from (select distinct host from {{pairs}}) hosts
        ), likely as materialized (
            select host, name from hosts join (select distinct tail from domains) of_ledger
            on {_TAIL.format(name="name")} = tail
            union
            select host, name from hosts where exists (select from domains where position('.' in value) = 0)
        )
        select distinct host as named from likely, lateral (
            select array_to_string((string_to_array(name, '.'))[place:], '.') as domain
            from generate_series(1, cardinality(string_to_array(name, '.'))) place
        ) suffixes join domains on value = domain
    ) domains on named = host""",
}
