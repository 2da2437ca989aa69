"""The catalog's history: every version's verdicts, loaded once, and answers that never show what was removed."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import psycopg
import pyarrow.parquet as pq
import pytest
from made.versions import sample_version
from PIL import Image, ImageDraw

from laion_dask.blocklists.removal_ledger import Removal
from laion_dask.catalog import database
from laion_dask.images import hashes
from laion_dask.schema.reasons import KEEP
from laion_dask.versions import histories, why


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The data folder of a made-up version, with a manifest."""
    data, _ = sample_version.write(tmp_path_factory.mktemp("version"), links=300)
    _manifest(data, "1.0.0")
    return data


def _manifest(data: Path, number: str) -> None:
    filter_ = {"similarity": {"en": 0.5, "multi": 0.5, "nolang": 0.5}, "max_punsafe": 0.5}
    body = {"files": {}, "version": number, "parameters": {"filter": filter_}, "counts": {}}
    (data / "release" / "manifest.json").write_text(json.dumps(body))


@pytest.fixture
def fresh(dsn: str) -> str:
    """A database without a history."""
    with psycopg.connect(dsn) as connection:
        connection.execute("drop schema if exists laion_dask_history cascade")
    return dsn


def rows(data: Path, table: str) -> list[dict[str, Any]]:
    return [row for path in sorted(data.glob(f"{table}/*.parquet")) for row in pq.read_table(path).to_pylist()]


def one(data: Path, reason: str) -> dict[str, Any]:
    """Return a pair with this verdict, with what download knows of it."""
    uid = next(row["uid"] for row in rows(data, "filter") if row["reason"] == reason)
    return next((row for row in rows(data, "download") if row["uid"] == uid), {"uid": uid})


def ask(dsn: str, data: Path, what: str, *ledger: Removal) -> why.Explanation:
    with database.transaction(dsn) as cursor:
        histories.load(cursor, histories.VersionTables("v1", data))
        return why.answer(cursor, why.question(what), ledger)


def test_a_kept_pair_is_told_with_place_scores_and_limits(fresh: str, version: Path) -> None:
    pair = one(version, KEEP)
    for what in (pair["uid"], pair["url"]):
        found = next(found for found in ask(fresh, version, what).pairs if found.uid == pair["uid"])
        assert not found.removed
        assert {place["page_url"] for place in found.found} == {pair["page_url"]}
        assert {place["url"] for place in found.found} == {pair["url"]}
        (said,) = found.versions
        assert (said.version, said.label, said.member, said.reason) == ("v1", "1.0.0", True, KEEP)
        assert said.evidence["rights"] == "allowed"
        assert said.compared["similarity"].endswith(f"at least 0.5 for {pair['split']}")


@pytest.mark.parametrize("reason", ["low_similarity", "unsafe", "robots"])
def test_a_dropped_pair_is_told_with_stage_and_meaning(fresh: str, version: Path, reason: str) -> None:
    (said,) = next(
        found for found in ask(fresh, version, one(version, reason)["uid"]).pairs
    ).versions  # fmt: skip
    assert (said.member, said.reason) == (False, reason)
    assert said.stage == ("download" if reason == "robots" else "filter")
    assert len(said.meaning) > 20


@pytest.mark.parametrize("reason", ["removed_url", "removed_domain", "listed_hash"])
def test_a_removed_pair_shows_its_tombstone_and_never_its_content(fresh: str, version: Path, reason: str) -> None:
    uid = one(version, reason)["uid"]
    pairs = {row["uid"]: row for row in rows(version, "extract/pairs")}
    answer = ask(fresh, version, uid)
    (found,) = answer.pairs
    assert found.removed
    assert found.uid_sha256 == hashlib.sha256(uid.encode()).hexdigest()
    told = json.dumps(answer.as_dict())
    for secret in ("url", "text", "page_url"):
        assert pairs[uid][secret] not in told
    with psycopg.connect(fresh) as connection:
        held = str(connection.execute("select * from laion_dask_history.found").fetchall())
        held += str(connection.execute("select evidence from laion_dask_history.fates").fetchall())
    assert pairs[uid]["url"] not in held
    # Its line of the ledger is found by the digest of the address.
    line = Removal("url", pairs[uid]["url"], "asked for")
    assert ask(fresh, version, uid, line).pairs[0].ledger == (line,)
    # By its address it is found all the same: by the digest of it.
    assert uid in {found.uid for found in ask(fresh, version, pairs[uid]["url"]).pairs}


@pytest.mark.parametrize("kind", ["url", "domain", "uid", "sha256"])
def test_what_the_ledger_names_is_hidden_before_the_next_version(fresh: str, version: Path, kind: str) -> None:
    pair = one(version, KEEP)
    value = pair["host"] if kind == "domain" else pair[kind]
    answer = ask(fresh, version, pair["uid"], Removal(kind, value, "asked for", "2026-01-02"))
    (found,) = answer.pairs
    assert found.removed
    assert found.since == ""
    assert [line.reason for line in found.ledger] == ["asked for"]
    assert found.found == ()
    assert found.versions[0].member
    assert not found.versions[0].evidence


@pytest.mark.parametrize("reason", [KEEP, "removed_url"])
def test_a_pair_and_its_line_of_the_ledger_are_found_by_every_spelling(fresh: str, version: Path, reason: str) -> None:
    uid = one(version, reason)["uid"]
    url = next(row["url"] for row in rows(version, "extract/pairs") if row["uid"] == uid)
    host = url.split("/")[2]
    for spelling in (f"{url}#top", f"http:{url.partition(':')[2]}", url.replace(host, f"me@{host.upper()}.:443")):
        line = Removal("url", spelling, "asked for")
        answer = ask(fresh, version, spelling, line)
        assert uid in {found.uid for found in answer.pairs}
        assert answer.ledger == (line,)
        found = next(found for found in ask(fresh, version, uid, line, line).pairs if found.uid == uid)
        assert found.ledger == (line, line)
        assert found.removed
    assert uid not in {found.uid for found in ask(fresh, version, f"{url}x").pairs}


def test_a_history_of_an_earlier_layout_is_made_anew(fresh: str, version: Path) -> None:
    uid = one(version, KEEP)["uid"]
    ask(fresh, version, uid)
    with psycopg.connect(fresh) as connection:
        connection.execute("alter table laion_dask_history.fates rename address_sha256 to url_sha256")
    assert ask(fresh, version, uid).pairs[0].found


def test_a_version_is_loaded_once_and_a_changed_one_beside_it(fresh: str, version: Path) -> None:
    with database.transaction(fresh) as cursor:
        assert histories.load(cursor, histories.VersionTables("v1", version))
        assert not histories.load(cursor, histories.VersionTables("again", version))
    before = (version / "release" / "manifest.json").read_text()
    _manifest(version, "2.0.0")
    try:
        found = ask(fresh, version, one(version, KEEP)["uid"]).pairs[0]
    finally:
        (version / "release" / "manifest.json").write_text(before)
    assert [said.label for said in found.versions] == ["1.0.0", "2.0.0"]
    with psycopg.connect(fresh) as connection:
        counts = connection.execute(
            "select count(*), count(distinct uid) from laion_dask_history.fates group by version"
        ).fetchall()
    assert counts == [(len(rows(version, "filter")),) * 2] * 2


def test_purged_pairs_are_blanked_in_the_history(fresh: str, version: Path) -> None:
    pair = one(version, KEEP)
    ask(fresh, version, pair["uid"])
    with database.transaction(fresh) as cursor:
        assert histories.forget(cursor, [pair["uid"]]) >= 2
        assert histories.forget(cursor, [pair["uid"]]) == 0
        # Another pair may have the same address: that one is left.
        assert pair["uid"] not in histories.find(cursor, {"url": pair["url"], "sha256": pair["sha256"]})
        assert histories.found(cursor, pair["uid"]) == []


def test_an_image_file_is_asked_for_by_bytes_and_by_looks(tmp_path: Path) -> None:
    image = Image.effect_mandelbrot((300, 300), (-2, -1.5, 1, 1.5), 80).convert("RGB")
    ImageDraw.Draw(image).ellipse((40, 90, 120, 200), fill="#c8102e")
    image.save(tmp_path / "drawn.png")
    body = (tmp_path / "drawn.png").read_bytes()
    asked = why.question(str(tmp_path / "drawn.png"))
    assert asked["sha256"] == hashlib.sha256(body).hexdigest()
    assert asked["pdq"] == hashes.pdq_as_stored(body).hex
    (tmp_path / "text").write_text("no picture")
    assert set(why.question(str(tmp_path / "text"))) == {"md5", "sha256"}


def test_an_image_is_found_by_looks(fresh: str, version: Path) -> None:
    with database.transaction(fresh) as cursor:
        histories.load(cursor, histories.VersionTables("v1", version))
        uid = one(version, KEEP)["uid"]
        cursor.execute("update laion_dask_history.fates set pdq = %s where uid = %s::uuid", ("0f" * 32, uid))
        near, far = "f" * 7 + "f" + "0f" * 28, "f0" * 32
        assert histories.find(cursor, {"pdq": near}) == [uid]
        assert histories.find(cursor, {"pdq": far}) == []


def test_a_question_that_is_none_is_refused() -> None:
    with pytest.raises(why.WhyError, match=r"is not a URL, a uid of 32 hex digits or a file. Remedy: give one of them"):
        why.question("nonsense")
