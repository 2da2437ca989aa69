"""The table of rights: what an owner says, in one sentence, and what becomes of it under the policy of params.yaml.

`PYTHONPATH=tests python -m made.texts.rights_cases` writes the table into docs/rights.md; a test holds the page to it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import cache
from typing import Final

from made.images import marked
from made.places import ROOT

from laion_dask import params
from laion_dask.web.fetch.host_rules import HostRules
from laion_dask.web.rights.ai_txt import parse_ai_txt
from laion_dask.web.rights.decision import Decision, Policy
from laion_dask.web.rights.embedded import decide_file
from laion_dask.web.rights.headers import priced
from laion_dask.web.rights.robots import parse_robots
from laion_dask.web.rights.rsl import parse_rsl
from laion_dask.web.rights.tdmrep import parse_tdmrep

PAGE: Final = ROOT / "docs" / "rights.md"
BEGIN: Final = "<!-- table of cases: PYTHONPATH=tests python -m made.texts.rights_cases -->\n"
END: Final = "<!-- end of the table -->\n"

IMAGE: Final = "https://img.example/a/fox.jpg"
ASKED, READ, STORED, KEPT, ERROR = "not asked for", "body not read", "not stored", "kept", "not there"


@dataclass(frozen=True, slots=True)
class Case:
    """One case: the signal that it is about, the sentence, the decision and how the picture ends; then what is said."""

    signal: str
    sentence: str
    rights: str
    decided: str
    ends: str
    robots: str = ""
    status: int = 200
    ai_txt: str = ""
    tdmrep: str = ""
    headers: tuple[tuple[str, str], ...] = ()
    content_type: str = "image/jpeg"
    url: str = IMAGE
    body: Callable[[], bytes] = field(default=marked.picture)
    library: bool = True
    """Whether the library c2pa is installed."""
    licence: str = ""
    """The RSL document that robots.txt names, or a Link header where there is one."""
    licence_status: int = 200
    answer: int = 200
    """The status of the picture."""


def decide(case: Case, policy: Policy) -> tuple[Decision, str]:
    """Go the way of a download: files of the host, headers, file; return the decision and how the picture ends."""
    named = () if not case.licence else (parse_rsl(case.licence_status, case.licence.encode()),)
    by_header = any(name == "Link" for name, _ in case.headers)
    rules = HostRules(
        parse_robots(case.status, case.robots.encode(), ("laion-dask", "CCBot"), policy.tokens),
        parse_tdmrep(200 if case.tdmrep else 404, case.tdmrep.encode()),
        parse_ai_txt(200 if case.ai_txt else 404, case.ai_txt.encode(), policy.tokens),
        () if by_header else named,
    )
    before = rules.before(case.url, policy)
    if policy.binds(before):
        return before, ASKED
    if case.answer == 402:
        price = policy.strictest([before, priced(case.headers)])
        return price, READ if policy.binds(price) else ERROR
    seen = rules.after(case.url, before, (("Content-Type", case.content_type), *case.headers), policy)
    if policy.binds(seen):
        return seen, READ
    seen = policy.strictest([seen, *(license_.decide(case.url) for license_ in named if by_header)])
    if policy.binds(seen):
        return seen, STORED
    last = policy.strictest([seen, decide_file(case.body(), policy)])
    return last, STORED if policy.binds(last) else KEPT


def _everybody(*lines: str) -> str:
    return "\n".join(("User-agent: *", *lines))


def _refused(signal: str, sentence: str, ends: str, **said: object) -> Case:
    return Case(signal, sentence, "refused", signal, ends, **said)  # type: ignore[arg-type] - fields of Case


def _unread(signal: str, sentence: str, ends: str, **said: object) -> Case:
    return Case(signal, sentence, "unknown", signal, ends, **said)  # type: ignore[arg-type] - fields of Case


def _allowed(signal: str, sentence: str, decided: str = "robots", **said: object) -> Case:
    return Case(signal, sentence, "allowed", decided, KEPT, **said)  # type: ignore[arg-type] - fields of Case


def _robots(sentence: str, text: str, *, refused: bool = True) -> Case:
    return _refused("robots", sentence, ASKED, robots=text) if refused else _allowed("robots", sentence, robots=text)


def _tag(sentence: str, *values: str, refused: bool = True) -> Case:
    headers = tuple(("X-Robots-Tag", value) for value in values)
    return (_refused("x_robots_tag", sentence, READ, headers=headers) if refused
            else _allowed("x_robots_tag", sentence, headers=headers))  # fmt: skip


def _xmp(value: str, kind: str = "JPEG") -> Callable[[], bytes]:
    return lambda: marked.with_xmp(kind, marked.mining(value))


def _signed(entries: dict[str, dict[str, str]] | None, **how: str) -> Callable[[], bytes]:
    return cache(lambda: marked.signed("JPEG", entries, **how))


def _tdm(value: str) -> Callable[[], bytes]:
    return lambda: marked.with_xmp("PNG", marked.packet(f"<tdm:reservation>{value}</tdm:reservation>"))


_REMOTE: Final = marked.packet(attributes='xmlns:d="http://purl.org/dc/terms/" d:provenance="https://x.example/m"')
_BROKEN: Final = marked.mining("unheard of").replace(b"</rdf:RDF>", b"")

ROBOTS: Final = (
    Case("robots", "robots.txt answers 404: there are no rules", "allowed", "", KEPT, status=404),
    Case("robots", "robots.txt answers 403, as any other 4xx: there are no rules", "allowed", "", KEPT, status=403),
    _refused("robots", "robots.txt answers 429: the host is busy, and unreachable", ASKED, status=429),
    _refused("robots", "robots.txt answers 503: unreachable, which means complete disallow", ASKED, status=503),
    _refused("robots", "robots.txt does not answer at all", ASKED, status=0),
    _robots("the file is empty", "", refused=False),
    _robots("everything is disallowed for everybody", _everybody("Disallow: /")),
    _robots("an empty Disallow allows everything", _everybody("Disallow:"), refused=False),
    _robots("the folder of the picture is disallowed", _everybody("Disallow: /a/")),
    _robots("another folder is disallowed", _everybody("Disallow: /b/"), refused=False),
    _robots("a longer Allow wins over a shorter Disallow", _everybody("Disallow: /a/", "Allow: /a/fox"), refused=False),
    _robots("a longer Disallow wins over a shorter Allow", _everybody("Allow: /a/", "Disallow: /a/fox")),
    _robots("of equally long Allow and Disallow Allow wins", _everybody("Disallow: /a/", "Allow: /a/"), refused=False),
    _robots("a wildcard and an end meet the file's type", _everybody("Disallow: /*.jpg$")),
    _robots("paths know upper and lower case", _everybody("Disallow: /A/"), refused=False),
    _robots("our own token is disallowed", "User-agent: laion-dask\nDisallow: /"),
    _robots("CCBot, whose crawl the address comes from, is disallowed", "User-agent: CCBot\nDisallow: /"),
    _robots("a token with a version means the same token", "User-agent: CCBot/2.0\nDisallow: /"),
    _robots("GPTBot, who collects for training, is disallowed", "User-agent: GPTBot\nDisallow: /"),
    _robots("Google-Extended, a token for training alone, is disallowed", "User-agent: Google-Extended\nDisallow: /"),
    _robots("a search engine is disallowed", "User-agent: Googlebot\nDisallow: /", refused=False),
    _robots("a group for Applebot is none for Applebot-Extended", "User-agent: Applebot\nDisallow: /", refused=False),
    _robots("a training crawler is let in, everybody else is not",
            "User-agent: GPTBot\nAllow: /\n\nUser-agent: *\nDisallow: /"),
    _refused("robots", "robots.txt answers 203, as any other 2xx: its rules count", ASKED, status=203,
             robots=_everybody("Disallow: /")),
    _robots("another line stands between two names: both are of one group",
            "User-agent: CCBot\nCrawl-delay: 5\nUser-agent: Other\nDisallow: /"),
    _robots("the colons are missing", "User-agent *\nDisallow /"),
    _robots("`Disallow` is misspelt", _everybody("Dissallow: /")),
    Case("robots", "the file is longer than 500 KiB, and what is read allows", "unknown", "robots", KEPT,
         robots=_everybody("Allow: /", *["# and so on"] * 50_000)),
)  # fmt: skip

USAGE: Final = (
    _refused("content_usage", "robots.txt says train-ai=n for everybody", ASKED,
             robots=_everybody("Content-Usage: train-ai=n")),
    _refused("content_usage", "robots.txt says train-ai=n for the picture's folder", ASKED,
             robots=_everybody("Allow: /", "Content-Usage: /a/ train-ai=n")),
    _allowed("content_usage", "robots.txt says train-ai=n for another folder",
             robots=_everybody("Allow: /", "Content-Usage: /b/ train-ai=n")),
    _allowed("content_usage", "a longer path with train-ai=y lifts a shorter one",
             robots=_everybody("Content-Usage: train-ai=n", "Content-Usage: /a/ train-ai=y")),
    _refused("content_usage", "the group of a training crawler says train-ai=n", ASKED,
             robots="User-agent: ClaudeBot\nContent-Usage: train-ai=n"),
    _refused("content_usage", "the header says train-ai=n", READ, headers=(("Content-Usage", "train-ai=n"),)),
    _refused("content_usage", "one of several members with parameters says train-ai=n", READ,
             headers=(("content-usage", "search=y, train-ai=n;exp=1"),)),
    _refused("content_usage", "two headers contradict each other", READ,
             headers=(("Content-Usage", "train-ai=y"), ("Content-Usage", "train-ai=n"))),
    _allowed("content_usage", "the header speaks of search alone", headers=(("Content-Usage", "search=n"),)),
    _unread("content_usage", "the header has a value that is none", KEPT, headers=(("Content-Usage", "train-ai=N"),)),
    _refused("content_signal", "robots.txt says ai-train=no", ASKED,
             robots=_everybody("Content-Signal: search=yes, ai-train=no", "Allow: /")),
    _refused("content_signal", "ai-train=no stands before any group: it concerns everybody", ASKED,
             robots="Content-Signal: ai-train=no\nUser-agent: *\nAllow: /"),
    _allowed("content_signal", "robots.txt says ai-train=yes", robots=_everybody("Content-Signal: ai-train=yes")),
    _allowed("content_signal", "the signals speak of search and of answers alone",
             robots=_everybody("Content-Signal: search=no, ai-input=no")),
)  # fmt: skip

AI_TXT: Final = (
    _refused("ai_txt", "the file type is disallowed", ASKED, ai_txt=_everybody("Disallow: *.jpg")),
    _refused("ai_txt", "everything is disallowed, as Spawning's generator writes it", ASKED,
             ai_txt=_everybody("Disallow: /", "Disallow: *")),
    _allowed("ai_txt", "other file types are disallowed", ai_txt=_everybody("Disallow: *.mp3", "Disallow: *.png")),
    _refused("ai_txt", "the address has no ending, the response the type of a disallowed one", READ,
             ai_txt=_everybody("Disallow: *.jpeg"), url="https://img.example/a?id=5"),
    Case("ai_txt", "all but pictures is disallowed", "allowed", "robots", KEPT,
         ai_txt=_everybody("Disallow: /", "Allow: *.jpg")),
    _refused("ai_txt", "a training crawler is disallowed by name", ASKED, ai_txt="User-agent: GPTBot\nDisallow: /"),
    _allowed("ai_txt", "the address answers with a page", ai_txt="<html>User-agent: *\nDisallow: /</html>"),
    _allowed("ai_txt", "the file is of another format of that name", ai_txt="# About us\nName: Fox\nAI: welcome"),
)  # fmt: skip

_ALL: Final = '[{"location": "/", "tdm-reservation": 1}]'
TDM: Final = (
    _refused("tdmrep", "tdmrep.json reserves the whole host", READ, tdmrep=_ALL),
    _refused("tdmrep", "tdmrep.json reserves the picture's type, and names a policy", READ,
             tdmrep='[{"location": "/a/*.jpg$", "tdm-reservation": 1, "tdm-policy": "https://x.example/p"}]'),
    _allowed("tdmrep", "tdmrep.json reserves nothing", tdmrep='[{"location": "/", "tdm-reservation": 0}]'),
    _allowed("tdmrep", "the first rule that matches frees the folder",
             tdmrep='[{"location": "/a/", "tdm-reservation": 0}, {"location": "/", "tdm-reservation": 1}]'),
    _allowed("tdmrep", "no rule of tdmrep.json matches", tdmrep='[{"location": "/b/", "tdm-reservation": 1}]'),
    _allowed("tdmrep", "tdmrep.json is of a schema that does not exist",
             tdmrep='{"policy": [{"location": "/", "tdm-reservation": 1}]}'),
    _unread("tdmrep", "the rule has a value that is none", KEPT, tdmrep='[{"location": "/", "tdm-reservation": "1"}]'),
    _allowed("tdm_reservation", "a header with 0 lifts what tdmrep.json reserves", tdmrep=_ALL,
             headers=(("tdm-reservation", "0"),)),
    _refused("tdm_reservation", "the header reserves", READ, headers=(("tdm-reservation", "1"),)),
    _refused("tdm_reservation", "the header reserves, against a file that does not", READ,
             tdmrep=_ALL.replace("1", "0"), headers=(("TDM-Reservation", " 1 "),)),
    _allowed("tdm_reservation", "the header does not reserve", headers=(("tdm-reservation", "0"),)),
    _allowed("tdm_reservation", "a policy alone reserves nothing", headers=(("tdm-policy", "https://x.example/"),)),
    _unread("tdm_reservation", "the header has a value that is none", KEPT, headers=(("tdm-reservation", "yes"),)),
)  # fmt: skip

_LICENCE: Final = '<rsl xmlns="https://rslstandard.org/rsl"><content url="{}"><license>{}</license></content></rsl>'
_NO_TRAINING: Final = '<prohibits type="usage">ai-train</prohibits>'
_TRAINING: Final = '<permits type="usage">ai-train</permits>'


def _rsl(sentence: str, inside: str, *, refused: bool = True, url: str = "/", **said: object) -> Case:
    licence = _LICENCE.format(url, inside)
    if refused:
        return _refused("rsl", sentence, said.pop("ends", ASKED), licence=licence, **said)  # type: ignore[arg-type]
    return _allowed("rsl", sentence, licence=licence, **said)


_LINK: Final = ("Link", '<https://img.example/l.xml>; rel="license"; type="application/rsl+xml"')
RSL: Final = (
    _rsl("the licence prohibits ai-train", _NO_TRAINING),
    _rsl("the licence prohibits ai-all", '<prohibits type="usage">ai-all</prohibits>'),
    _rsl("the licence prohibits all", '<prohibits type="usage">search all</prohibits>'),
    _rsl("the licence prohibits train-ai, as its drafts called it", '<prohibits type="usage">train-ai</prohibits>'),
    _rsl("the licence permits search alone", '<permits type="usage">search ai-index</permits>'),
    _rsl("the licence permits training for a price", _TRAINING + '<payment type="training"/>'),
    _rsl("the licence permits training with attribution, which a data set cannot see to",
         _TRAINING + '<payment type="attribution"/>'),
    _rsl("the licence permits training to some users", _TRAINING + '<permits type="user">education</permits>'),
    _rsl("the licence permits and prohibits: the prohibition counts", _TRAINING + _NO_TRAINING),
    _rsl("the licence permits training", _TRAINING, refused=False),
    _rsl("the licence permits everything, free of charge",
         '<permits type="usage">all</permits><payment type="free"/>', refused=False),
    _rsl("the licence prohibits answers and search alone", '<prohibits type="usage">ai-input search</prohibits>',
         refused=False),
    _rsl("the licence is about another folder", _NO_TRAINING, url="/b/", refused=False),
    _rsl("a Link header of the response names the licence", _NO_TRAINING, ends=STORED, headers=(_LINK,)),
    _unread("rsl", "the licence is no RSL document", ASKED, licence="<html>Terms of use</html>"),
    _unread("rsl", "the licence answers 404", ASKED, licence="-", licence_status=404),
    _unread("rsl", "the licence cannot be reached", ASKED, licence="-", licence_status=0),
)  # fmt: skip

PRICE: Final = (
    _refused("crawler_price", "the picture answers 402 with crawler-price", READ, answer=402,
             headers=(("crawler-price", "USD 0.01"),)),
    _allowed("crawler_price", "a price beside a picture that is given is none", headers=(("crawler-price", "USD 0"),)),
)  # fmt: skip

TAG: Final = (
    _tag("`noai`", "noai"),
    _tag("`noimageai`, with spaces and in capitals", " NOIMAGEAI "),
    _tag("`noml`", "noml"),
    _tag("`none` stands for noindex", "none"),
    _tag("`noindex`", "noindex"),
    _tag("`noimageindex`", "noimageindex"),
    _tag("`noai` behind a directive with a colon of its own", "max-image-preview:large, noai"),
    _tag("`noai` behind a date with colons and a comma", "unavailable_after: Sat, 25 Jun 2010 15:00:00 GMT, noai"),
    _tag("`unavailable_after` says nothing of training", "unavailable_after: 25 Jun 2010 15:00:00 PST", refused=False),
    _tag("`noai` in the second of two headers", "nofollow", "noai"),
    _tag("`noai` for us", "googlebot: nofollow, laion-dask: noai"),
    _tag("`noai` for a training crawler", "GPTBot: noai"),
    _tag("all that follows another bot's name is for that bot", "otherbot: noindex, noai", refused=False),
    _tag("malformed, and still to be understood", "noai;"),
    _tag("`max-image-preview: none` is no `none`", "max-image-preview: none", refused=False),
    _tag("`all`, and limits of a preview", "all, max-snippet:-1", refused=False),
)

FILE: Final = (
    *(
        _refused("xmp_data_mining", f"`DMI-{value}`", STORED, body=_xmp(f"DMI-{value}"))
        for value in (
            *("PROHIBITED", "PROHIBITED-AIMLTRAINING", "PROHIBITED-GENAIMLTRAINING"),
            *("PROHIBITED-EXCEPTSEARCHENGINEINDEXING", "PROHIBITED-SEECONSTRAINT"),
            *("PROHIBITED-SEEEMBEDDEDRIGHTSEXPR", "PROHIBITED-SEELINKEDRIGHTSEXPR"),
        )
    ),
    *(
        _refused("xmp_data_mining", f"`DMI-PROHIBITED` in a {kind}", STORED, body=_xmp("DMI-PROHIBITED", kind))
        for kind in ("PNG", "WEBP", "TIFF", "AVIF", "GIF")
    ),
    _refused("xmp_data_mining", "`DMI-PROHIBITED` in a JPEG's extended XMP", STORED,
             body=lambda: marked.extended_jpeg(marked.mining("DMI-PROHIBITED"))),
    _refused("xmp_data_mining", "`DMI-PROHIBITED` as attribute, by its bare name", STORED,
             body=lambda: marked.with_xmp("JPEG", marked.packet(attributes='plus:DataMining="DMI-PROHIBITED"'))),
    _allowed("xmp_data_mining", "`DMI-ALLOWED`", body=_xmp("DMI-ALLOWED")),
    _allowed("xmp_data_mining", "`DMI-UNSPECIFIED` says nothing", body=_xmp("DMI-UNSPECIFIED")),
    _unread("xmp_data_mining", "a value that PLUS does not have", STORED, body=_xmp("DMI-PERHAPS")),
    _unread("xmp_data_mining", "XMP that is no XML", STORED, body=lambda: marked.with_xmp("JPEG", _BROKEN)),
    _refused("xmp_tdm", "`tdm:reservation` is 1", STORED, body=_tdm("1")),
    _allowed("xmp_tdm", "`tdm:reservation` is 0", body=_tdm("0")),
    _unread("xmp_tdm", "`tdm:reservation` is something else", STORED, body=_tdm("yes")),
    _refused("c2pa", "the manifest does not allow training", STORED,
             body=_signed({"cawg.ai_training": {"use": "notAllowed"}})),
    _refused("c2pa", "the manifest does not allow generative training, in the words of C2PA 1.x", STORED,
             body=_signed({"c2pa.ai_generative_training": {"use": "notAllowed"}}, label="c2pa.training-mining")),
    _refused("c2pa", "the manifest constrains mining", STORED,
             body=_signed({"cawg.data_mining": {"use": "constrained"}})),
    _allowed("c2pa", "the manifest allows both", body=_signed(
        {"cawg.data_mining": {"use": "allowed"}, "cawg.ai_training": {"use": "allowed"}})),
    _allowed("c2pa", "the manifest forbids inference alone",
             body=_signed({"cawg.ai_inference": {"use": "notAllowed"}})),
    _allowed("c2pa", "the manifest has no word on training", body=_signed(None)),
    _unread("c2pa", "the manifest is cut off", STORED,
            body=lambda: marked.signed("JPEG", {"cawg.ai_training": {"use": "notAllowed"}})[:-1500]),
    _unread("c2pa", "there is a manifest, the library is not installed", STORED, body=_signed(None), library=False),
    _unread("c2pa", "the XMP names a manifest elsewhere", STORED, body=lambda: marked.with_xmp("JPEG", _REMOTE)),
)  # fmt: skip

TOGETHER: Final = (
    Case("several", "tdmrep.json frees, X-Robots-Tag refuses: the strictest wins", "refused", "x_robots_tag", READ,
         tdmrep=_ALL.replace("1", "0"), headers=(("X-Robots-Tag", "noai"),)),
    Case("several", "robots.txt and the file refuse: nothing is asked for", "refused", "robots", ASKED,
         robots=_everybody("Disallow: /"), body=_xmp("DMI-PROHIBITED")),
    Case("several", "every file and header allows, the picture does not", "refused", "xmp_data_mining", STORED,
         tdmrep=_ALL.replace("1", "0"), headers=(("Content-Usage", "train-ai=y"),), body=_xmp("DMI-PROHIBITED")),
    Case("several", "one word cannot be read, another allows: unknown", "unknown", "tdm_reservation", KEPT,
         headers=(("tdm-reservation", "yes"), ("Content-Usage", "train-ai=y"))),
)  # fmt: skip

CASES: Final = (*ROBOTS, *AI_TXT, *TDM, *RSL, *TAG, *USAGE, *PRICE, *FILE, *TOGETHER)


def table() -> str:
    """Return the table of cases in Markdown."""
    lines = ["| signal | case | decision | by | the picture is |", "|---|---|---|---|---|"]
    lines += [
        f"| {case.signal} | {case.sentence} | {case.rights} | {case.decided or 'nobody'} | {case.ends} |"
        for case in CASES
    ]
    return "\n".join(lines) + "\n"


def page(text: str) -> str:
    """Return the page with the table as it is now."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    return f"{before}{BEGIN}{table()}{END}{after}"


def strict() -> Policy:
    """Return the policy of params.yaml."""
    return Policy.of(params.load(ROOT / "params.yaml").download)


if __name__ == "__main__":
    PAGE.write_text(page(PAGE.read_text(encoding="utf-8")), encoding="utf-8")
