"""Answer the template's questions on the crawler, on opt-outs and on unlawful content, from parameters and counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from laion_dask.schema.values import SIGNALS
from laion_dask.share.summary_figures import Domain, Figures

DOMAINS: Final = "domains.csv"
"""The list of domains, beside the summary."""
_MANIFEST: Final = "data/release/manifest.json"
_IMAGES: Final = "data/download/*.parquet"


@dataclass(frozen=True, slots=True)
class Answer:
    """A question of the template with its answer."""

    id: str
    question: str
    text: str | None = None
    """From the version; None where its files say nothing."""
    files: tuple[str, ...] = ()
    """Where the figures come from."""
    to_add: str = ""
    """What people must add; empty if nothing."""
    given: str | None = None
    """What people have added."""

    @property
    def open(self) -> bool:
        """Whether people must still add something."""
        return bool(self.to_add) and self.given is None


def crawler(figures: Figures, top: Sequence[Domain], *, small: bool) -> tuple[Answer, ...]:
    """Answer section 2.3."""
    rules = figures.manifest["parameters"]["download"]
    counts = figures.manifest["counts"]["download"]
    live = rules["source"] == "web"
    how = "Yes: laion-dask asked the hosts of the images." if live else (
        "Not for this version: images were read from an archive of earlier responses."
    )  # fmt: skip
    period = f"{_month(figures.asked[0])} to {_month(figures.asked[1])}" if figures.asked else None
    share = "5 %, at most 1,000" if small else "10 %"
    contact = rules["contact"] or "none, since no host was asked"
    return (
        Answer("2.3.used", "Were crawlers used?", how, files=(_MANIFEST,),
               to_add="" if live else "Say who fetched the responses in the archive, with which crawler."),
        Answer("2.3.names", "Crawler names or identifiers",
               f"laion-dask, with its version and a contact in the user agent ({contact}); in robots.txt: "
               f"{', '.join(rules['robots_tokens'])}", files=(_MANIFEST,)),
        Answer("2.3.purposes", "Purposes of the crawlers",
               "To fetch each image that a page of the datasets in 2.1 links to, for pairs of image and text.",
               files=(_MANIFEST,), to_add="Your purposes."),
        Answer("2.3.behaviour", "Crawler behaviour", _behaviour(rules), files=(_MANIFEST,),
               to_add="" if live else "How the crawler behaved that filled the archive."),
        Answer("2.3.period", "Period of data collection", period,
               files=(f"{_IMAGES}: server_date",) if period else (),
               to_add="" if period else "MM/YYYY to MM/YYYY, of the crawl that filled the archive."),
        Answer("2.3.content", "Type of content and online sources",
               f"{counts['images']['seen']:,} addresses of images on {counts.get('hosts', 0):,} hosts were asked for, "
               f"{counts['images']['kept']:,} gave an image; the version keeps {figures.pairs:,} pairs of "
               f"{len(figures.domains):,} domains. Addresses come from pages of the crawl, whatever they are about.",
               files=(_MANIFEST, _IMAGES)),
        Answer("2.3.modalities", "Type of modality", "Image.", files=(_MANIFEST,)),
        Answer("2.3.domains", f"Most relevant domain names: the top {share} by bytes of content",
               f"{len(top):,} of {len(figures.domains):,} domains, with {_share(top, figures.domains)} of the bytes of "
               f"images and texts: the list below and {DOMAINS}.",
               files=("data/release/*.parquet", _IMAGES)),
    )  # fmt: skip


def opt_outs(figures: Figures) -> tuple[Answer, ...]:
    """Answer section 3.1."""
    parameters = figures.manifest["parameters"]
    rules, extract = parameters["download"], parameters["extract"]
    by_signal = {signal: figures.dropped("download", "images", signal) for signal in SIGNALS}
    met = ", ".join(f"{signal} {rows:,}" for signal, rows in by_signal.items() if rows) or "none"
    pages = figures.dropped("extract", "links", "page_opt_out")
    page_rule = (
        f"Links of pages that reserve their rights were left out: {pages:,}."
        if extract["page_opt_out"] == "drop"
        else "Reservations of pages were recorded, not obeyed."
    )
    ignored = [signal for signal in SIGNALS if signal not in rules["rights"]]
    not_obeyed = f" Recorded, not obeyed: {', '.join(ignored)}." if ignored else ""
    tokens = [*rules["robots_tokens"], *rules["ai_tokens"]]
    return (
        Answer("3.1.signatory", "Signatory to the Code of Practice?", to_add="Yes or no, of the provider."),
        Answer(
            "3.1.measures", "Measures to respect reservations of rights",
            f"Before and while images were fetched these protocols were read and obeyed: {', '.join(rules['rights'])}."
            f"{not_obeyed} Rules for {', '.join(tokens)} count: who refuses one of them refuses. "
            f"Images left out, by signal: {met}. {page_rule}",
            files=(_MANIFEST,),
            to_add="Measures of your own, and those of the publishers of datasets in 2.1.",
        ),
        Answer(
            "3.1.removals", "Requests of rightsholders and of persons",
            f"{_removed(figures):,} pairs were left out because somebody asked for it, by address, domain, pair or "
            f"image. Their digests stand in tombstones.parquet, so that no later version has them.",
            files=(_MANIFEST,),
            to_add=f"Where requests are taken. (The dataset names: {parameters['release']['contact']}.)",
        ),
    )  # fmt: skip


def unlawful(figures: Figures) -> tuple[Answer, ...]:
    """Answer section 3.2."""
    about = figures.manifest
    lists = about["lists"]
    matched = figures.dropped("download", "images", "listed_hash", "listed_address")
    matched += figures.dropped("catalog", "pairs", "listed_url") + figures.dropped("filter", "pairs", "listed_later")
    entries = sum(int(one["entries"]) for one in lists)
    known = (
        f"Lists of known content: {len(lists):,}, with {entries:,} entries, matched before an image is stored: "
        f"{matched:,} images were left out."
        if lists
        else "No list of known content was matched."
    )
    rule = about["parameters"]["filter"]
    unsafe = figures.dropped("filter", "pairs", "unsafe", "unsafe_keyword", "laion400m")
    scored = (
        f"A model scored images; {unsafe:,} pairs with a probability of unsafe content above {rule['max_punsafe']} "
        "or a listed word were left out."
        if unsafe or figures.manifest["counts"].get("score", {}).get("heads_sha256", {}).get("punsafe")
        else "No model scored images for unsafe content."
    )
    return (
        Answer(
            "3.2.measures", "Measures to avoid or remove illegal content", f"{known} {scored}", files=(_MANIFEST,),
            to_add="Who gave the lists, and measures of your own (reports to authorities, reviews).",
        ),
    )  # fmt: skip


def _behaviour(rules: dict[str, Any]) -> str:
    robots = "obeyed" if "robots" in rules["rights"] else "recorded, not obeyed"
    waits = (
        f" At least {rules['host_interval_s']:g} s between two requests to one host."
        if rules["host_interval_s"]
        else ""
    )
    return (
        f"robots.txt is read before the first request to a host and {robots} (RFC 9309); Crawl-delay and Retry-After "
        f"are waited for. At most {rules['connections_per_host']} requests at once to one host and "
        f"{rules['connections_per_domain']} to one registered domain.{waits} A failed request is tried again at most "
        f"{rules['retries']} times in each of {rules['rounds']} rounds. No cookies, no log-in, no script is run: "
        "paywalls and captchas end the attempt, as does a request for payment (402). The user agent names the contact."
    )


def _removed(figures: Figures) -> int:
    before = figures.dropped("catalog", "pairs", "removed_url", "removed_domain", "removed_uid")
    return before + figures.dropped("filter", "pairs", "removed_hash", "removed_later")


def _share(top: Sequence[Domain], domains: Sequence[Domain]) -> str:
    whole = sum(domain.bytes for domain in domains)
    return f"{sum(domain.bytes for domain in top) / whole:.1%}" if whole else "0 %"


def _month(date: str) -> str:
    return f"{date[5:7]}/{date[:4]}"
