"""params.yaml: what is unknown, missing or absurd is refused with key, value and remedy."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import pytest
from made.parameters import FILE, parent, refusal
from ruamel.yaml import YAML

from laion_dask import params
from laion_dask.params import ParamsError

ABSURD: dict[str, list[Any]] = {
    "recipe": ["laion-5b", None, [""], ["LAION 5B"]],
    "crawl.source": ["internet", None],
    "crawl.seed": ["first", 1.5, True],
    "crawl.wats": [0, -1, "all"],
    "crawl.files": ["one.wat", [1]],
    "crawl.crawls": ["CC-MAIN-2024-22", None],
    "crawl.base_url": [None, 5],
    "crawl.demo_pages": [23, 1_000_001],
    "crawl.demo_wats": [0, 10_001],
    "extract.reader": ["warc", "FastWARC"],
    "extract.link_kinds": [[], ["IMG"], "IMG@/src", [5]],
    "extract.relative_urls": ["keep", None],
    "extract.url_form": ["WHATWG", None],
    "extract.schemes": [[], ["gopher"], "http"],
    "extract.refused_extensions": ["svg", [None]],
    "extract.refused_substrings": [[""], ".svg"],
    "extract.max_url_chars": [15, 100_001],
    "extract.max_host_chars": [3, "long"],
    "extract.private_hosts": ["refuse", True],
    "extract.malformed_hosts": ["refuse", None],
    "extract.entities": ["2019", True],
    "extract.text_steps": [["clean"], "spaces"],
    "extract.min_chars": [-1, 10_001],
    "extract.max_chars": [0, 100_001],
    "extract.uid": ["md5", None],
    "extract.unique_in_wat": ["uid", None],
    "extract.max_pairs_per_page": [0, "many"],
    "extract.language_detector": ["gcld3", "lingua"],
    "extract.language_model": [1, []],
    "extract.language_confidence": [-0.1, 1.1, float("nan"), "high"],
    "extract.license": ["after", None],
    "extract.page_opt_out": ["keep", False],
    "extract.opt_out_directives": ["noai", None],
    "extract.personal_data": ["store", None],
    "catalog.buckets": [0, 131_072],
    "catalog.shard_rows": [15, 10_001],
    "catalog.seed": [None, "seven"],
    "catalog.removals": [None, 0],
    "catalog.lists": ["known.txt", None],
    "download.source": ["ftp", None],
    "download.warcs": ["one.warc.gz", None],
    "download.archive": ["yes", 1, None],
    "download.verify": [True, ["earlier"]],
    "download.changed": ["refuse", None],
    "download.recheck": [True, "never", {}, {"share": 0.1}],
    "download.contact": [5, ["a@b.example"]],
    "download.robots_tokens": ["CCBot", [1], ["CC Bot"], ["CCBot/2.0"]],
    "download.ai_tokens": ["GPTBot", [None], ["*"]],
    "download.rights": [["noai"], "robots"],
    "download.rights_unknown": [["all"], "c2pa"],
    "download.opt_out_directives": ["noai", None],
    "download.rounds": [0, 11],
    "download.connections_per_host": [0, 65],
    "download.connections_per_domain": [0, 4097],
    "download.domain_interval_s": [-1, 3601],
    "download.host_failures": [0, 1001],
    "download.host_budget_s": [0, -1, 604_801],
    "download.host_budget_rows": [0, 1.5],
    "download.shard_budget_s": [0, 604_801, float("inf")],
    "download.ports": [[], [0], [65_536], 80],
    "download.host_interval_s": [-1, 3601, float("nan")],
    "download.connections": [0, 4097],
    "download.timeout_s": [0, 3601, float("inf")],
    "download.retries": [-1, 11, True],
    "download.max_retry_after_s": [-0.1, 3601],
    "download.max_redirects": [-1, 21],
    "download.max_bytes": [999, 1e9 + 0.5],
    "download.max_pixels": [999, None],
    "download.resize": ["crop", True],
    "download.side_px": [15, 8193],
    "download.smaller": ["no", None],
    "download.encode": ["jpeg", None],
    "download.quality": [0, 101],
    "download.hashes": [[], ["md5"], ["sha256", "sha1"], ["md5", "sha256", "crc32"]],
    "download.pdq": ["yes", None],
    "download.decode_timeout_s": [0, -1.0],
    "download.decode_memory_mb": [0, 100],
    "score.models": [[], None, "demo"],
    "score.heads": [1, "demo", ["demo"]],
    "score.tags": [1, "demo", ["demo"]],
    "score.masked_text": ["rapidocr", 512],
    "score.faces": [1, "faces.onnx"],
    "score.batch": [0, 4097],
    "score.decode": ["half", None],
    "score.compile": ["yes", None],
    "group.model": ["", 1],
    "group.pdq_distance": [-1, 32, None],
    "group.min_quality": [-1, 101],
    "group.semantic_floor": [0, 1.1, None],
    "group.clusters": [0, 1_000_001],
    "group.neighbours": [0, 10_001, None],
    "group.seed": [None, "eleven"],
    "group.evaluation": ["known.npy", None],
    "filter.similarity": [0.3, None],
    "filter.similarity.en": [1.1, -1.1, float("nan"), None],
    "filter.similarity.multi": [28, "0.3x"],
    "filter.similarity.nolang": [None, -2],
    "filter.min_chars": [-1, 10_001, None],
    "filter.min_words": [-1, 1_001],
    "filter.min_bytes": [-1, "5 KB"],
    "filter.languages": ["en", ["English"]],
    "filter.laion400m": [True, "remove"],
    "filter.keywords": ["words.txt", 0.95],
    "filter.text_entities": ["", 5],
    "filter.keep_uids": ["subset.npy", None, [""]],
    "filter.drop_uids": ["subset.npy", None],
    "filter.computed": [None, "negcliploss"],
    "filter.thresholds": [None, 0.3],
    "filter.where": ["", 5],
    "filter.image_based": ["centroids.npy", 5],
    "filter.top": [None, 0.3],
    "filter.balance": ["entries.txt", 20_000],
    "filter.sample": ["similarity", 128],
    "filter.min_side_px": [-1, 100_001],
    "filter.max_aspect_ratio": [0.9, float("nan")],
    "filter.max_punsafe": [-0.1, 1.1],
    "filter.max_pwatermark": [-0.1, 80],
    "filter.duplicate_images": ["lowest", True],
    "filter.near_duplicates": ["lowest", None],
    "filter.near_max_distance": [-1, 32, None],
    "filter.near_min_cosine": [1.1, None],
    "filter.semantic_duplicates": [-0.1, 1.0],
    "filter.evaluation_max_distance": [-1, 32],
    "filter.evaluation_min_cosine": [-1.1, 2],
    "translate.model": ["", 5],
    "translate.family": ["mbart", None],
    "translate.expect_sha256": ["abc", 5],
    "translate.compute": ["fp16", None],
    "translate.splits": [[], ["english"], "multi", ["multi", "multi"]],
    "translate.source": ["detect", None],
    "translate.no_language": ["drop", None],
    "translate.beams": [0, 33, True],
    "translate.max_source_tokens": [7, 1_023, None],
    "translate.max_tokens": [1, 1_023],
    "translate.batch": [0, 4_097, None],
    "caption.model": ["", 5],
    "caption.kind": ["blip2", None],
    "caption.pretrained": ["", 5],
    "caption.expect_sha256": ["abc", 5],
    "caption.precision": ["float16", None],
    "caption.prompt": [5, "a" * 201],
    "caption.samples": [0, 257],
    "caption.temperature": [0, 11, float("nan")],
    "caption.top_p": [0, 1.1],
    "caption.top_k": [0, 1.5],
    "caption.min_tokens": [-1, 513],
    "caption.max_tokens": [[], [0], 20, [513]],
    "caption.end_above": [0, 1.0],
    "caption.repetition_penalty": [0.9, 11],
    "caption.seed": [None, "three", -1],
    "caption.rank": [[], None, "demo"],
    "caption.repair": ["t5-small", 5],
    "caption.keep_samples": [None, "yes"],
    "caption.batch": [0, 1_025],
    "release.name": ["", "a name", "../demo", None],
    "release.version": ["1", "1.0", "v1.0.0", 1.0, None],
    "release.published": ["soon", "2026-13-01", True],
    "release.creator": ["", None],
    "release.contact": ["", None],
    "release.url": ["", "dataset.example", "ftp://dataset.example", "https://a b", None],
    "release.tables": ["laion-5b", ["laion-9b"], ["datacomp", "datacomp"], None],
    "release.tombstones": [0, ["a"]],
    "release.rows_per_file": [0, 1.5],
    "release.high_resolution_px": [0, "4K"],
    "release.aesthetic": [5.0, ["good"], [True, "x"]],
    "report.histogram_bins": [4, 1_001],
    "report.top_hosts": [0, 1_001],
    "report.gallery": [-1, 501],
    "report.seed": [None, "three"],
    "report.experiment": ["", None],
    "report.against": ["", "--output=x", "a b", 5],
}
DEMO = {"name": "demo", "model": "demo"}


def sections() -> list[str]:
    """Return the sections: all but the list of recipes."""
    return [name for name in params.Params.model_fields if name != "recipe"]


ABSURD_MODEL: dict[str, list[Any]] = {
    "name": ["Demo", "", "b-32", None, "a" * 25],
    "model": [None, 32, ""],
    "pretrained": [1, [], ""],
    "splits": ["en", [], ["english"], ["en", "en"], None],
    "expect_sha256": ["abc", "F" * 64, 5],
    "precision": ["float16", None],
}


@pytest.fixture
def values() -> dict[str, Any]:
    return dict(YAML(typ="safe", pure=True).load(FILE))


def leaves(section: dict[str, Any], above: str = "") -> list[str]:
    found = []
    for name, value in section.items():
        key = f"{above}{name}"
        found += [key, *leaves(value, f"{key}.")] if isinstance(value, dict) else [key]
    return found


def test_the_committed_file_is_accepted_and_the_table_below_knows_all_its_keys(values: dict[str, Any]) -> None:
    assert params.load(FILE) == params.parse(values)
    assert set(leaves(values)) == {*sections(), *ABSURD}


@pytest.mark.parametrize(("key", "value"), [(key, value) for key, bad in ABSURD.items() for value in bad], ids=repr)
def test_an_absurd_value_is_refused_with_key_value_and_remedy(values: dict[str, Any], key: str, value: object) -> None:
    section, name = parent(values, key)
    section[name] = value
    message = refusal(values)
    assert message.startswith("parameters is refused:\n")
    assert key in message
    # Of a list, the item that is wrong.
    assert repr(value[-1] if isinstance(value, list) and value else value) in message or str(value) in message
    assert "Remedy: " in message


@pytest.mark.parametrize(
    ("key", "value"), [(key, value) for key, bad in ABSURD_MODEL.items() for value in bad], ids=repr
)
def test_an_absurd_model_is_refused_with_key_value_and_remedy(values: dict[str, Any], key: str, value: object) -> None:
    values["score"]["models"] = [DEMO | {key: value}]
    message = refusal(values)
    assert f"  score.models.0.{key}" in message
    assert repr(value) in message
    assert "Remedy: " in message


def test_of_a_model_only_its_names_are_required_and_the_rest_has_defaults(values: dict[str, Any]) -> None:
    values["score"]["models"] = [DEMO]
    assert params.parse(values).score.models == params.load(FILE).score.models
    values["score"]["models"] = [{"name": "demo"}]
    assert "score.models.0.model is missing. Remedy: add it" in refusal(values)
    values["score"]["models"] = [DEMO | {"tpyo": 7}]
    assert "score.models.0.tpyo = 7: no such parameter. Remedy: remove it" in refusal(values)


@pytest.mark.parametrize("key", [*sections(), *ABSURD])
def test_a_missing_key_is_refused_with_the_remedy(values: dict[str, Any], key: str) -> None:
    section, name = parent(values, key)
    del section[name]
    assert f"  {key} is missing. Remedy: add it" in refusal(values)


@pytest.mark.parametrize("section", ["", *sections(), "filter.similarity"])
def test_an_unknown_key_is_refused_with_the_remedy(values: dict[str, Any], section: str) -> None:
    key = f"{section}.tpyo".strip(".")
    within, name = parent(values, key)
    within[name] = 7
    assert f"  {key} = 7: no such parameter. Remedy: remove it" in refusal(values)


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"crawl.source": "files"}, "crawl: source files needs crawl.files: give at least one path"),
        ({"crawl.source": "commoncrawl"}, "crawl: source commoncrawl needs crawl.crawls: give at least one id"),
        ({"download.source": "web"}, "download: source web needs download.contact: a URL or e-mail address"),
        ({"download.contact": "me"}, "download: contact 'me' is neither a URL nor an e-mail address. Remedy: https://"),
        ({"download.rights": []}, "download: rights_unknown ['c2pa', 'rsl', 'xmp_data_mining', 'xmp_tdm'] are not"),
        ({"download.warcs": []}, "download: source replay needs download.warcs: globs of WARC files"),
        ({"download.source": "archive", "download.warcs": []}, "download: source archive needs download.warcs"),
        ({"download.warcs": ["data/download/*.warc.gz"]}, "download: download.warcs are in data/download, which is"),
        ({"extract.min_chars": 9, "extract.max_chars": 8}, "extract: min_chars 9 is above max_chars 8"),
        ({"extract.text_steps": ["escape", "spaces"]}, "extract: text_steps: escape must be last"),
        ({"extract.language_detector": "gcld3"}, "extract.language_detector: gcld3 can no longer be built"),
        ({"catalog.buckets": 12}, "catalog: buckets 12 is not a power of two"),
        ({"score.models": [DEMO, DEMO]}, "score: models has a name twice: demo, demo. Remedy: another name"),
        ({"score.models": [DEMO | {"splits": ["en"]}]}, "score: no model reads the texts of multi, nolang"),
    ],
)
def test_values_that_do_not_fit_each_other_are_refused(
    values: dict[str, Any], changes: dict[str, Any], named: str
) -> None:
    for key, value in changes.items():
        section, name = parent(values, key)
        section[name] = value
    assert named in refusal(values)


@pytest.mark.parametrize(
    ("contact", "accepted"),
    [
        ("https://lab.example.org/crawler", True),
        ("http://lab.example.org:8080/?a=b#c", True),
        ("HTTPS://Lab.Example.org", True),
        ("data-team+crawl@lab.example.org", True),
        ("lab.example.org", False),
        ("https://localhost/", False),
        ("https://", False),
        ("me@lab", False),
        ("@lab.example.org", False),
        ("two@lab.example.org, three@lab.example.org", False),
        ("https://lab.example.org/a)b", False),
        ("https://lab.example.org/ ", False),
        ("https://lab.example.org/\r\nCookie: a=b", False),
        ("mailto:me@lab.example.org", False),
        ("ftp://lab.example.org/", False),
    ],
)
def test_on_the_web_the_contact_is_an_address_that_can_be_used(
    values: dict[str, Any],
    contact: str,
    accepted: bool,  # noqa: FBT001 - a column of the table
) -> None:
    values["download"].update(source="web", contact=contact)
    if accepted:
        assert params.parse(values).download.contact == contact
    else:
        assert "neither a URL nor an e-mail address" in refusal(values)


def test_every_wrong_key_is_named_at_once(values: dict[str, Any]) -> None:
    values["catalog"]["buckets"] = 0
    values["filter"]["min_words"] = -1
    del values["report"]["seed"]
    message = refusal(values)
    assert all(key in message for key in ("catalog.buckets", "filter.min_words", "report.seed"))


@pytest.mark.parametrize("text", ["", "- a\n- b\n", "5\n"])
def test_a_file_that_is_no_table_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"the file = .* Remedy: "):
        params.load(tmp_path / "params.yaml")


@pytest.mark.parametrize("text", ["crawl: [", "crawl: {}\ncrawl: {}\n", "a: b: c\n"])
def test_a_file_that_is_not_yaml_or_has_a_key_twice_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml is not YAML"):
        params.load(tmp_path / "params.yaml")


@pytest.mark.slow
@pytest.mark.parametrize(
    "text", ["a: 2024-02-31\n", "a: 0000-00-00\n", f"a: {'9' * 5_000}\n", f"a: {'[' * 5_000}{']' * 5_000}\n"]
)
def test_what_yaml_itself_cannot_make_a_value_of_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "params.yaml").write_text(text)
    with pytest.raises(ParamsError, match=r"params\.yaml (is not YAML|has an invalid date or number)"):
        params.load(tmp_path / "params.yaml")


def test_a_folder_in_place_of_the_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"cannot be read: Is a directory\. Remedy: "):
        params.load(tmp_path)


def test_a_missing_file_is_refused_with_the_remedy(tmp_path: Path) -> None:
    with pytest.raises(ParamsError, match=r"is missing: run from the project's folder, or restore it"):
        params.load(tmp_path / "params.yaml")


def test_yaml_is_read_as_dvc_reads_it(tmp_path: Path) -> None:
    text = FILE.read_text()
    for old, new in (
        ("resize: keep_ratio_largest", "resize: no"),  # a word: YAML 1.1 would make False of it
        ("max_punsafe: 0.5", "max_punsafe: 1e-3"),  # a number: YAML 1.1 would make a string of it
        ("seed: 7 ", "seed: 010 "),  # ten: YAML 1.1 would read octal
    ):
        assert text.count(old) == 1
        text = text.replace(old, new)
    (tmp_path / "params.yaml").write_text(text)
    settings = params.load(tmp_path / "params.yaml")
    assert (settings.download.resize, settings.filter.max_punsafe, settings.catalog.seed) == ("no", 1e-3, 10)


def test_parameters_are_frozen_and_their_source_is_left_alone(values: dict[str, Any]) -> None:
    before = copy.deepcopy(values)
    settings = params.parse(values)
    with pytest.raises(ValueError, match="frozen"):
        settings.filter.min_words = 3
    assert values == before
