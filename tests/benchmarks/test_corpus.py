"""The benchmark's corpus: real-shaped, the same for the same seed, and varied so that no cache profits."""

from __future__ import annotations

import hashlib
import json
import random
import re
import time
import unicodedata
from collections import Counter
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import pytest
from fastwarc.warc import ArchiveIterator
from hypothesis import given
from hypothesis import strategies as st

from benchmarks.bars import Bar
from benchmarks.extract import corpus, sampler, vary

RAW = 12_000_000


@pytest.fixture(scope="module")
def real(shared_data: Path) -> Path:
    return corpus.sources_folder(shared_data)


@pytest.fixture(scope="module")
def made(shared_data: Path, tmp_path_factory: pytest.TempPathFactory) -> corpus.Corpus:
    """Two WATs in which every page of the large sources comes several times."""
    return corpus.cached(tmp_path_factory.mktemp("bench"), gb=2 * RAW / 1e9, files=2, data=shared_data)


def bodies(path: Path) -> list[bytes]:
    with path.open("rb") as stream:
        return [record.reader.read() for record in ArchiveIterator(stream, parse_http=False)]


def uids(path: Path) -> list[str]:
    found = []
    for record in corpus.read_json(path):
        page = record["Envelope"]["WARC-Header-Metadata"]["WARC-Target-URI"]
        response = record["Envelope"]["Payload-Metadata"].get("HTTP-Response-Metadata", {})
        for link in response.get("HTML-Metadata", {}).get("Links", ()):
            if link["path"] == "IMG@/src" and link.get("alt"):
                url = link["url"]
                # Opaque addresses cannot be varied, and no reader makes pairs of them.
                if not url.startswith("data:"):
                    found.append(hashlib.md5((link["alt"] + urljoin(page, url)).encode()).hexdigest())
    return found


class TestShape:
    @pytest.mark.parametrize("source", corpus.SHARES)
    def test_json_that_is_read_and_written_is_that_of_the_extractor_byte_for_byte(
        self, real: Path, source: str
    ) -> None:
        _, *records = bodies(real / f"{source}.warc.wat.gz")
        assert records
        assert [corpus.written(json.loads(body)) for body in records] == records

    def test_two_of_three_records_have_no_links_as_in_a_real_wat(self, made: corpus.Corpus) -> None:
        kinds = Counter(
            record["Envelope"]["WARC-Header-Metadata"]["WARC-Type"] for record in corpus.read_json(made.files[0])
        )
        assert kinds == dict.fromkeys(("request", "response", "metadata"), made.wats[0].pages)

    def test_a_mb_has_the_image_links_and_alt_texts_of_a_real_wat(self, made: corpus.Corpus) -> None:
        assert 524 <= made.total("images") / made.total("raw") * corpus.MB <= 734
        assert 289 <= made.total("alts") / made.total("raw") * corpus.MB <= 405

    def test_no_source_gives_more_than_half_of_the_pages(self) -> None:
        assert sum(corpus.SHARES.values()) == 1000
        assert max(corpus.SHARES.values()) <= 500

    def test_figures_are_those_of_the_files(self, made: corpus.Corpus) -> None:
        for path, wat in zip(made.files, made.wats, strict=True):
            found = bodies(path)
            assert (len(found), path.stat().st_size) == (wat.records, wat.stored)
            assert sum(body.count(b'"path":"IMG@/src"') for body in found) == wat.images
            assert RAW <= wat.raw < 1.2 * RAW

    def test_headers_of_a_page_agree_with_its_json(self, made: corpus.Corpus) -> None:
        with made.files[0].open("rb") as stream:
            _, *records = [
                (record.headers["WARC-Target-URI"], record.headers["WARC-Refers-To"], json.loads(record.reader.read()))
                for record in ArchiveIterator(stream, parse_http=False)
                if record.headers.get("WARC-Target-URI")
            ]
        for address, refers_to, record in records:
            header = record["Envelope"]["WARC-Header-Metadata"]
            assert (header["WARC-Target-URI"], header["WARC-Record-ID"]) == (address, refers_to)


class TestSameAndOther:
    def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(self, real: Path, tmp_path: Path) -> None:
        contents = []
        for place, seed in enumerate((1, 1, 2)):
            out = tmp_path / str(place)
            out.mkdir()
            wat = corpus.write_wat(real, out, 0, 500_000, seed)
            contents.append((out / wat.name).read_bytes())
        assert contents[0] == contents[1]
        assert contents[0] != contents[2]

    def test_nearly_all_pairs_are_found_once(self, made: corpus.Corpus) -> None:
        first, second = (uids(path) for path in made.files)
        assert len(set(first) | set(second)) >= 0.9 * (len(first) + len(second))
        # What repeats does so inside a page, as it does in real ones: two WATs of the same pages share next to none.
        assert len(set(first) & set(second)) <= 0.01 * len(first)

    def test_a_corpus_is_made_once_and_again_when_its_maker_changes(
        self, shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        cache, changed = tmp_path / "cache", tmp_path / "changed.py"
        first = corpus.cached(cache, gb=0.0004, files=1, data=shared_data)
        stamp = first.files[0].stat().st_mtime_ns
        again = corpus.cached(cache, gb=0.0004, files=1, data=shared_data)
        assert (again, again.files[0].stat().st_mtime_ns) == (first, stamp)
        changed.write_text("another maker")
        monkeypatch.setattr(vary, "__file__", str(changed))
        other = corpus.cached(cache, gb=0.0004, files=1, data=shared_data)
        assert other.folder.parent.name != first.folder.parent.name
        assert not first.folder.exists()
        assert other.files[0].is_file()

    def test_without_the_real_wats_the_message_says_where_they_belong(self, tmp_path: Path) -> None:
        with pytest.raises(corpus.CorpusError, match="shared/data beside the repository"):
            corpus.cached(tmp_path, gb=0.001, files=1, data=tmp_path / "absent")


class TestCuts:
    def test_small_wats_are_the_large_ones_cut_between_pages(self, made: corpus.Corpus, tmp_path: Path) -> None:
        small = corpus.Corpus.small(made, tmp_path / "small", 100)
        assert len(small) == 2 * corpus.PIECES
        contents = [bodies(path) for path in small]
        assert all(first.startswith(b"Software-Info") and len(rest) % 3 == 0 for first, *rest in contents)
        whole = [body for path in made.files for body in bodies(path)[1:]]
        assert [body for _, *rest in contents for body in rest] == whole

    def test_the_joined_wat_has_the_records_of_all(self, made: corpus.Corpus, tmp_path: Path) -> None:
        joined = made.joined(tmp_path / "joined.warc.wat.gz")
        assert bodies(joined) == [body for path in made.files for body in bodies(path)]


class TestAddresses:
    @pytest.mark.parametrize(
        "url",
        [
            "https://creativecommons.org/licenses/by-sa/4.0/",
            "javascript:void(0)",
            "mailto:someone@example.org",
            "data:image/gif;base64,R0lGODlhAQABAAAAACw=",
            "http://127.0.0.1/",
            "http://localhost:8080/",
            "../../",
            "",
            "#",
        ],
    )
    def test_what_has_no_name_or_is_no_web_address_stays(self, url: str) -> None:
        assert vary.Addresses(random.Random(1))(url) == url

    @pytest.mark.parametrize(
        ("url", "form"),
        [
            (
                "https://www.example.co.uk:8443/a/b.jpg?w=6",
                r"https://www\.[a-z]{7}\.co\.uk:8443/[a-z]/[a-z]\.jpg\?[a-z]=\d",
            ),
            ("photo-12.jpeg", r"[a-z]{5}-\d\d\.jpeg"),
            ("//cdn.example.org/x.png", r"//[a-z]{3}\.[a-z]{7}\.org/[a-z]\.png"),
            ("../img/B%C3%A4r.webp", r"\.\./[a-z]{3}/[A-Z]%C3%A4[a-z]\.webp"),
            ("HTTP://EXAMPLE.COM/A", r"HTTP://[A-Z]{7}\.COM/[A-Z]"),
            ("http://xn--bcher-kva.example/1", r"http://xn--bcher-kva\.example/\d"),
            ("?page=7#top", r"\?[a-z]{4}=\d#[a-z]{3}"),
        ],
    )
    def test_an_address_keeps_its_form(self, url: str, form: str) -> None:
        found = {vary.Addresses(random.Random(seed))(url) for seed in range(30)}
        assert all(re.fullmatch(form, other) for other in found), found
        assert len(found) > 5

    def test_a_host_becomes_the_same_other_host_all_over_a_page(self) -> None:
        addresses = vary.Addresses(random.Random(1))
        hosts = {urlsplit(addresses(f"https://img.example.net/{name}.jpg")).hostname for name in "abc"}
        assert len(hosts) == 1
        assert hosts != {"img.example.net"}


class TestTexts:
    def varied(self, alts: list[str], seed: int) -> list[str]:
        links = [{"path": "IMG@/src", "url": "a.jpg", "alt": alt} for alt in alts]
        source = {"Links": links}
        before = json.dumps(source)
        rng = random.Random(seed)
        page = vary.page(source, rng, vary.Addresses(rng))
        assert json.dumps(source) == before
        return [link["alt"] for link in page["Links"]]

    @given(st.lists(st.text(max_size=40), max_size=8), st.integers(0, 1000))
    def test_there_are_as_many_texts_and_none_becomes_blank(self, alts: list[str], seed: int) -> None:
        found = self.varied(alts, seed)
        assert len(found) == len(alts)
        assert [bool(new.strip()) for old, new in zip(alts, found, strict=True) if old.strip()] == [True] * sum(
            bool(old.strip()) for old in alts
        )
        assert [new == "" for new in found] == [old == "" for old in alts]

    @pytest.mark.parametrize(
        "alts",
        [
            ["A red fox jumping over 12 dogs", "The river in winter", "Logo 2021"],
            ["Большая собака", "Зимняя река рядом"],
            ["大阪の夜景を一望できる展望台", "京都の紅葉"],
        ],
    )
    def test_words_move_between_the_texts_of_a_page_and_stay_in_their_script(self, alts: list[str]) -> None:
        found = [self.varied(alts, seed) for seed in range(20)]
        assert len({tuple(texts) for texts in found}) > 3
        for texts in found:
            assert [text.count(" ") for text in texts] == [alt.count(" ") for alt in alts]
            assert len("".join(texts)) == len("".join(alts))
            assert scripts(texts) == scripts(alts)


class TestReport:
    @pytest.mark.parametrize(
        ("value", "at_most", "holds"),
        [(2.5, False, True), (2.49, False, False), (2.5, True, True), (2.51, True, False)],
    )
    def test_a_bar_holds_on_its_side(self, value: float, at_most: bool, holds: bool) -> None:  # noqa: FBT001
        told = Bar("speed", value, 2.5, at_most=at_most).as_dict()
        assert told == {"name": "speed", "value": value, "bar": f"{'<=' if at_most else '>='} 2.5", "holds": holds}

    @pytest.mark.parametrize(
        ("place", "part"),
        [
            ("wat_reader._fastwarc body = record.reader.read()", "reading"),
            ("judge.uid_of return md5((caption + url).encode()).hexdigest()", "uid"),
            ("text.languages labels = _predict(lines, model)", "language"),
            ("text.__call__ text = step(text)", "text"),
            ("extract._table pa.array(value, column.type)", "table and Parquet"),
            ("elsewhere.run something()", "other"),
        ],
    )
    def test_a_sample_counts_for_the_part_that_its_line_belongs_to(self, place: str, part: str) -> None:
        assert sampler.part_of(place) == part

    def test_processor_time_is_found_where_it_is_spent(self) -> None:
        with sampler.sampling() as samples:
            deadline = time.monotonic() + 120
            while samples.parts.total() < 3 and time.monotonic() < deadline:
                sum(range(10_000))
        assert samples.shares() == {"other": 1.0}


def scripts(texts: list[str]) -> set[str]:
    return {unicodedata.name(char).split()[0] for char in "".join(texts) if char.isalpha()}
