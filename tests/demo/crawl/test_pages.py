"""The plan of the demo crawl: what is in it, what is true of it, and that equal seeds give equal plans."""

from __future__ import annotations

import csv
from collections import Counter, defaultdict
from functools import cache

import ada_url
import ftfy
import pytest
from made.places import ROOT

from laion_dask.demo.crawl.labels import LABELS, counts
from laion_dask.demo.crawl.links import IMAGE, JUNK, Truth
from laion_dask.demo.crawl.pages import plan
from laion_dask.demo.crawl.plan import DAMAGED, NON_HTML, Plan, PlannedPage
from laion_dask.demo.crawl.sites import REMOVED_DOMAIN, REMOVED_PAIRS, REMOVED_URLS, uid
from laion_dask.schema import reasons

SIZES = [(1, 240, 4), (1, 3000, 24), (5, 24, 3)]
Ledger = dict[str, set[str]]


@pytest.fixture(scope="module")
def full() -> Plan:
    return of((1, 3000, 24))


@pytest.fixture(scope="module")
def ledger() -> Ledger:
    values: Ledger = defaultdict(set)
    with (ROOT / "removals.csv").open(encoding="utf-8", newline="") as file:
        for row in csv.DictReader(file):
            values[row["kind"]].add(row["value"])
    return values


def all_pages(crawl: Plan) -> list[PlannedPage]:
    return [page for wat in crawl.wats for page in wat]


@cache
def of(size: tuple[int, int, int]) -> Plan:
    return plan(*size)


def truths(crawl: Plan) -> list[Truth]:
    return [link.truth for page in all_pages(crawl) for link in page.links if link.truth]


def test_the_default_crawl_has_three_thousand_pages_on_sixty_hosts_in_24_wats(full: Plan) -> None:
    pages = all_pages(full)
    hosts = {page.url.split("/")[2] for page in pages}
    assert len(full.wats) == 24
    assert len(pages) == len({page.url for page in pages}) == 3000
    assert len(hosts) >= 60
    assert all(host.endswith(".example") for host in hosts)
    assert max(map(len, full.wats)) - min(map(len, full.wats)) <= 1


def test_a_small_crawl_has_at_least_twelve_hosts() -> None:
    assert len({page.site.host for page in all_pages(plan(1, 240, 4))}) >= 12


@pytest.mark.parametrize("size", SIZES)
def test_every_label_and_every_kind_of_page_and_junk_occurs_at_any_size(size: tuple[int, int, int]) -> None:
    crawl = of(size)
    found = truths(crawl)
    expected = {label.expected for label in LABELS.values()} | set(JUNK.values())
    expected |= {"duplicate_image", "near_duplicate"}
    assert {truth.expected for truth in found} == expected
    assert {truth.opted_out for truth in found} >= {label.opted_out for label in LABELS.values()}
    assert {truth.broken for truth in found} == {label.broken for label in LABELS.values()}
    assert any(truth.near_duplicate for truth in found)
    assert {page.kind for page in all_pages(crawl)} == {"html", *DAMAGED, *NON_HTML}


def test_every_expected_verdict_is_on_the_closed_list(full: Plan) -> None:
    assert {truth.expected for truth in truths(full)} <= {reasons.KEEP, *reasons.REASON_STAGE}


def test_languages_are_spread_as_planned(full: Plan) -> None:
    pairs = [truth for truth in truths(full) if truth.uid and truth.text]
    own = Counter(truth.language for truth in pairs if not truth.url.endswith("assets/logo.png"))
    total = own.total()
    assert 0.40 < own["en"] / total < 0.50
    assert 0.07 < own[""] / total < 0.13
    assert {language for language in own if language} == {"en", "de", "fr", "es", "it", "pl", "ru", "zh"}
    assert min(own.values()) / total > 0.05


def test_beauty_spreads_over_the_whole_scale_and_large_pictures_occur(full: Plan) -> None:
    kept = [truth for truth in truths(full) if truth.expected == reasons.KEEP]
    beauties = [truth.beauty for truth in kept if truth.beauty is not None]
    assert min(beauties) < 1.5
    assert max(beauties) > 9.5
    pictures = [answer.picture for warc in full.warcs for answer in warc if answer.picture]
    assert sum(min(picture.width, picture.height) >= 1024 for picture in pictures) >= 50
    assert all(32 <= min(p.width, p.height) <= max(p.width, p.height) <= 1600 for p in pictures)
    assert all(min(p.width, p.height) >= 96 for p in pictures if p.scene.watermark or p.scene.unsafe)
    assert {picture.format for picture in pictures} == {"JPEG", "PNG", "WEBP"}
    assert {picture.orientation for picture in pictures} == {1, 3, 6, 8}


@pytest.mark.parametrize("size", SIZES)
def test_only_pairs_have_a_uid_and_it_is_the_md5_of_text_and_url(size: tuple[int, int, int]) -> None:
    for truth in truths(of(size)):
        is_pair = truth.expected not in reasons.REASONS["extract"]
        assert truth.uid == (uid(truth.text, truth.url) if is_pair else "")


@pytest.mark.parametrize("size", SIZES)
def test_all_but_the_first_of_equal_pairs_are_duplicates(size: tuple[int, int, int]) -> None:
    seen: set[str] = set()
    for truth in truths(of(size)):
        if truth.uid:
            assert (truth.expected == "duplicate_pair") == (truth.uid in seen)
            seen.add(truth.uid)


@pytest.mark.parametrize("size", SIZES)
def test_of_kept_pairs_with_equal_or_nearly_equal_pictures_the_lowest_uid_stays(size: tuple[int, int, int]) -> None:
    crawl = of(size)
    pictures = {answer.url: answer.picture for warc in crawl.warcs for answer in warc}
    copies: dict[object, dict[str, tuple[object, str]]] = defaultdict(dict)
    for truth in truths(crawl):
        if truth.expected in {reasons.KEEP, "duplicate_image", "near_duplicate"} and pictures[truth.url]:
            picture = pictures[truth.url]
            copies[pictures[truth.original] if truth.original else picture][truth.uid] = (picture, truth.expected)
    for group in copies.values():
        (stays, first), *others = (group[uid] for uid in sorted(group))
        assert first == reasons.KEEP
        for picture, expected in others:
            assert expected == ("duplicate_image" if picture == stays else "near_duplicate")


@pytest.mark.parametrize("size", SIZES)
def test_texts_and_addresses_are_already_clean(size: tuple[int, int, int]) -> None:
    for truth in truths(of(size)):
        if truth.uid:
            assert truth.text == " ".join(ftfy.fix_text(truth.text).split())
            assert len(truth.text) >= 5
            assert ada_url.URL(truth.url).href == truth.url
        elif truth.expected == "text_too_short":
            assert 0 < len(truth.text) < 5


@pytest.mark.parametrize("size", SIZES)
def test_written_links_resolve_and_clean_to_their_truth(size: tuple[int, int, int]) -> None:
    for page in all_pages(of(size)):
        base = page.url
        if page.base and ada_url.check_url(ada_url.join_url(page.url, "x")) and not page.base.startswith("http://["):
            base = ada_url.join_url(page.url, page.base)
        for link in page.links:
            fields = dict(link.fields)
            if link.truth and link.truth.uid:
                assert ada_url.join_url(base, fields["url"]) == link.truth.url
                assert " ".join(ftfy.fix_text(fields["alt"]).replace("\x07", "").split()) == link.truth.text
            if link.truth and link.truth.expected == "bad_url":
                with pytest.raises(ValueError, match="Invalid"):
                    ada_url.join_url(base, fields["url"])


def test_every_image_link_of_an_undamaged_page_has_a_truth_and_no_other(full: Plan) -> None:
    for page in all_pages(full):
        for link in page.links:
            wanted = ("path", IMAGE) in link.fields and page.kind not in DAMAGED
            assert (link.truth is not None) == wanted


def test_pages_that_reserve_their_rights_keep_nothing(full: Plan) -> None:
    closed = [page for page in all_pages(full) if page.signal[0]]
    assert {page.signal[0] for page in closed} == {
        "page_meta_robots",
        "page_x_robots_tag",
        "page_tdm_reservation",
        "page_content_usage",
    }
    for page in closed:
        assert {link.truth.expected for link in page.links if link.truth} <= set(reasons.REASONS["extract"])


def test_wrong_captions_name_neither_thing_nor_color_of_the_picture(full: Plan) -> None:
    wrong = [truth for truth in truths(full) if truth.expected == "low_similarity" and truth.language == "en"]
    assert len(wrong) > 100
    for truth in wrong:
        words = truth.text.lower().replace(",", " ").replace(":", " ").split()
        assert truth.thing not in words
        assert truth.color not in words
        assert not truth.matching


def test_near_duplicates_show_the_scene_of_another_picture_in_other_bytes(full: Plan) -> None:
    pictures = {answer.url: answer.picture for warc in full.warcs for answer in warc if answer.picture}
    scenes = Counter(picture.scene for picture in set(pictures.values()))
    near = {truth.url for truth in truths(full) if truth.near_duplicate}
    assert len(near) > 80
    for url in near:
        assert scenes[pictures[url].scene] >= 2
    assert len({pictures[url] for url in near}) == len(near)


def test_every_address_answers_once_and_hosts_stay_in_one_file(full: Plan) -> None:
    urls = [answer.url for warc in full.warcs for answer in warc]
    assert len(urls) == len(set(urls))
    hosts = [{answer.url.split("/")[2] for answer in warc} for warc in full.warcs]
    assert sum(map(len, hosts)) == len(set().union(*hosts))
    reached = {truth.url for truth in truths(full) if truth.uid and truth.expected != "duplicate_pair"}
    silent = reached - set(urls)
    assert {url.split("/")[2] for url in silent} == {"images.gone.example"}


@pytest.mark.parametrize("size", SIZES)
def test_plan_and_ledger_of_removals_agree(size: tuple[int, int, int], ledger: Ledger) -> None:
    assert set(ledger) == {"domain", "url", "uid"}
    for truth in truths(of(size)):
        if not truth.uid or truth.expected == "duplicate_pair":
            continue
        host = truth.url.split("/")[2]
        assert (truth.expected == "removed_url") == (truth.url in ledger["url"])
        assert (truth.expected == "removed_uid") == (truth.uid in ledger["uid"])
        assert (truth.expected == "removed_domain") == any(host.endswith(f".{name}") for name in ledger["domain"])


def test_the_default_crawl_has_every_removal_of_the_ledger(full: Plan, ledger: Ledger) -> None:
    found = truths(full)
    assert ledger["domain"] == {REMOVED_DOMAIN}
    assert ledger["url"] == set(REMOVED_URLS) == {truth.url for truth in found if truth.expected == "removed_url"}
    assert ledger["uid"] == {uid(text, url) for url, text, _, _ in REMOVED_PAIRS}
    assert ledger["uid"] == {truth.uid for truth in found if truth.expected == "removed_uid"}


def test_equal_seeds_give_equal_plans_and_other_seeds_others() -> None:
    first = plan(1, 240, 4)
    plan.cache_clear()
    assert plan(1, 240, 4) == first
    assert plan(2, 240, 4) != first


@pytest.mark.parametrize("links", [30, 343, 4320, 50_000])
def test_counts_of_labels_add_up_to_the_links_unless_there_are_very_few(links: int) -> None:
    numbers = counts(links)
    assert set(numbers) == set(LABELS)
    assert min(numbers.values()) >= 1
    assert sum(numbers.values()) == links or numbers["good"] == 8
