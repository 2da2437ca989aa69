"""The sample of an audit: what is drawn, what never is, and the page and tables that come of it."""

from __future__ import annotations

import base64
import csv
import hashlib
import json
import re
from collections import Counter
from pathlib import Path

import pyarrow.parquet as pq
import pytest
from made.versions import sample_version

from laion_dask.audit import audit_page, audit_sample, questions
from laion_dask.audit.audit_sample import AuditError, AuditSample
from laion_dask.audit.questions import QuestionsError
from laion_dask.params import Params

ASKED = questions.read()


@pytest.fixture(scope="module")
def version(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return sample_version.write(tmp_path_factory.mktemp("version"), links=300)[0]


@pytest.fixture
def own(tmp_path: Path) -> Path:
    return sample_version.write(tmp_path, links=150, shards=1)[0]


def draw(data: Path, settings: Params, size: int = 60, seed: int = 1) -> AuditSample:
    return audit_sample.sample(data, settings, ASKED, size=size, seed=seed)


def test_every_stratum_is_drawn_from_and_its_size_and_decisions_are_counted(version: Path, defaults: Params) -> None:
    found = draw(version, defaults)
    drawn = Counter(pair.stratum for pair in found.drawn)
    assert drawn.keys() == found.sizes.keys()
    assert {reason for reason, _ in found.sizes} >= {"keep", "unsafe", "watermark", "image_too_small"}
    assert all(drawn[stratum] >= min(4, rows) for stratum, rows in found.sizes.items())
    assert all(drawn[stratum] <= rows for stratum, rows in found.sizes.items())
    for question in ASKED:
        cells = Counter[tuple[str, str]]()
        for (reason, split, name, _), pairs in found.cells.items():
            cells[reason, split] += pairs if name == question.name else 0
        assert cells == found.sizes
    rows = sum(pq.read_metadata(path).num_rows for path in (version / "download").glob("*.parquet"))
    removed = pq.read_metadata(version / "catalog" / "removed.parquet").num_rows
    assert sum(found.sizes.values()) + sum(found.outside.values()) == rows + removed


@pytest.mark.parametrize(
    ("sizes", "wanted", "expected"),
    [
        ({("keep", "en"): 1000, ("unsafe", "en"): 1000}, 100, (50, 50)),
        ({("keep", "en"): 1000, ("unsafe", "en"): 3}, 100, (50, 3)),
        ({("keep", "en"): 1000, ("keep", "multi"): 3000, ("unsafe", "en"): 10}, 40, (7, 13, 10)),
        ({("keep", "en"): 2, ("unsafe", "en"): 1}, 100, (2, 1)),
        ({("keep", "en"): 50, ("unsafe", "en"): 50}, 1, (4, 4)),
    ],
)
def test_half_goes_to_what_is_kept_and_no_stratum_gives_more_than_it_has(
    sizes: dict[audit_sample.Stratum, int], wanted: int, expected: tuple[int, ...]
) -> None:
    assert tuple(audit_sample.allocate(sizes, wanted).values()) == expected


def test_the_sample_depends_on_seed_and_size_and_not_on_the_order_of_the_shards(
    tmp_path: Path, version: Path, defaults: Params
) -> None:
    one = draw(version, defaults)
    assert one == draw(version, defaults)
    assert one.name != draw(version, defaults, seed=2).name
    data = tmp_path / "turned"
    for stage in ("download", "score", "filter", "catalog"):
        for path in [path for path in (version / stage).rglob("*") if path.is_file()]:
            turned = {"00000": "00001", "00001": "00000"}.get(path.stem, path.stem)
            place = data / path.relative_to(version).with_name(f"{turned}{path.suffix}")
            place.parent.mkdir(parents=True, exist_ok=True)
            place.write_bytes(path.read_bytes())
    assert [pair.uid for pair in draw(data, defaults).drawn] == [pair.uid for pair in one.drawn]


def test_labelers_cannot_tell_the_strata_apart_by_order(version: Path, defaults: Params) -> None:
    kept = "".join("k" if pair.stratum[0] == "keep" else "d" for pair in draw(version, defaults).drawn)
    assert "k" * 20 not in kept
    assert "d" * 20 not in kept


@pytest.mark.parametrize("verdict", ["listed_hash", "removed_hash"])
def test_listed_and_removed_pictures_and_their_copies_are_never_in_the_page(
    own: Path, defaults: Params, tmp_path: Path, verdict: str
) -> None:
    images = pq.read_table(own / "download" / "00000.parquet").to_pylist()
    verdicts = {row["uid"]: row["reason"] for row in pq.read_table(own / "filter" / "00000.parquet").to_pylist()}
    hidden, copy = [row for row in images if verdicts[row["uid"]] == "keep"][:2]
    sample_version.change(own / "filter" / "00000.parquet", hidden["uid"], {"reason": verdict})
    sample_version.change(own / "download" / "00000.parquet", copy["uid"], {"sha256": hidden["sha256"]})
    found = draw(own, defaults, size=1000)
    audit_page.write(tmp_path / "out", found, defaults)
    assert not {verdict, "listed_hash"} & {reason for reason, _ in found.sizes}
    for path in (tmp_path / "out").iterdir():
        assert hidden["uid"] not in path.read_text()
        assert copy["uid"] not in path.read_text()


@pytest.mark.parametrize("column", [{"rights": "refused"}, {"page_signals": "noai"}])
def test_pictures_whose_owner_reserves_rights_are_never_drawn(
    own: Path, defaults: Params, column: dict[str, str]
) -> None:
    uid = draw(own, defaults, size=1000).drawn[0].uid
    sample_version.change(own / "download" / "00000.parquet", uid, column)
    found = draw(own, defaults, size=1000)
    assert uid not in {pair.uid for pair in found.drawn}
    assert found.outside["held back by a list, a removal or an opt-out"] >= 1


def test_a_decision_is_read_from_the_score_whatever_rule_came_first(own: Path, defaults: Params) -> None:
    pair = next(pair for pair in draw(own, defaults, size=1000).drawn if pair.stratum[0] == "image_too_small")
    for punsafe, decided in ((0.99, True), (0.01, False), (float("nan"), None)):
        sample_version.change(own / "score" / "00000.parquet", pair.uid, {"punsafe": punsafe})
        again = {one.uid: one for one in draw(own, defaults, size=1000).drawn}
        assert again[pair.uid].decided["unsafe"] is decided
        assert again[pair.uid].stratum[0] == "image_too_small"


def test_the_page_holds_everything_and_its_policy_admits_no_other_script(
    version: Path, defaults: Params, tmp_path: Path
) -> None:
    found = draw(version, defaults)
    audit_page.write(tmp_path, found, defaults)
    page = (tmp_path / "audit.html").read_text(encoding="utf-8")
    assert not re.search(r"""(?:src|href|action)\s*=\s*["']?(?!data:)[a-z]*:?//""", page)
    script = page.rsplit("<script>", 1)[1].removesuffix("</script>\n</body>\n</html>")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src &#39;sha256-{digest}&#39;" in page or f"script-src 'sha256-{digest}'" in page
    data = json.loads(re.search(r'type="application/json">(.*?)</script>', page, re.DOTALL)[1])  # type: ignore[index]
    assert len(data["pairs"]) == len(found.drawn)
    assert all(pair["image"].startswith("data:image/jpeg;base64,") for pair in data["pairs"])
    # Who labels must not know what was decided.
    assert set(data["pairs"][0]) == {"uid", "caption", "image"}
    assert "low_similarity" not in page


def test_texts_of_the_web_end_no_element_of_the_page(tmp_path: Path, defaults: Params) -> None:
    attack = "</script><script>alert(1)</script><img src=x onerror=alert(1)>\u2028&amp;"
    data, _ = sample_version.write(tmp_path, links=60, shards=1, text=attack)
    audit_page.write(tmp_path / "out", draw(data, defaults, size=5), defaults)
    page = (tmp_path / "out" / "audit.html").read_text(encoding="utf-8")
    assert page.count("<script") == page.count("</script>") == 2
    assert "onerror" in page
    assert "<img src=x" not in page


def test_the_same_sample_gives_the_same_bytes_and_is_read_back(version: Path, defaults: Params, tmp_path: Path) -> None:
    found = draw(version, defaults)
    for name in ("a", "b"):
        audit_page.write(tmp_path / name, found, defaults)
    for path in (tmp_path / "a").iterdir():
        assert path.read_bytes() == (tmp_path / "b" / path.name).read_bytes()
    again = audit_page.read(tmp_path / "a")
    assert (again.name, again.questions, again.sizes, again.cells) == (
        found.name, found.questions, found.sizes, found.cells
    )  # fmt: skip
    assert [(pair.uid, pair.stratum, pair.decided) for pair in again.drawn] == [
        (pair.uid, pair.stratum, pair.decided) for pair in found.drawn
    ]
    with (tmp_path / "a" / "sample.csv").open(newline="") as stream:
        assert len(list(csv.DictReader(stream))) == len(found.drawn)


def test_a_folder_without_a_whole_sample_is_refused_with_the_remedy(
    version: Path, defaults: Params, tmp_path: Path
) -> None:
    with pytest.raises(AuditError, match="Remedy: `laion-dask audit sample"):
        audit_page.read(tmp_path)
    audit_page.write(tmp_path / "a", draw(version, defaults), defaults)
    audit_page.write(tmp_path / "b", draw(version, defaults, seed=2), defaults)
    (tmp_path / "a" / "sample.csv").write_bytes((tmp_path / "b" / "sample.csv").read_bytes())
    with pytest.raises(AuditError, match="different samples"):
        audit_page.read(tmp_path / "a")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("questions: []", "at least 1"),
        ("questions: [{name: a, ask: Is it so?, decision: ugly, fires: 'yes'}]", "not a reason of the filter"),
        ("questions: [{name: a b, ask: Is it so?, decision: unsafe, fires: 'yes'}]", "name"),
        ("questions: [{name: a, ask: Is it so?, decision: unsafe, fires: unsure}]", "fires"),
        ("questions: [{name: a, ask: Is it so?, decision: unsafe, fires: 'yes', html: x}]", "html"),
        ("{", "cannot be read"),
    ],
)
def test_a_bad_file_of_questions_is_refused_with_place_and_remedy(tmp_path: Path, text: str, message: str) -> None:
    path = tmp_path / "questions.yaml"
    path.write_text(text)
    with pytest.raises(QuestionsError, match=message):
        questions.read(path)
    with pytest.raises(QuestionsError, match="Remedy"):
        questions.read(path)
