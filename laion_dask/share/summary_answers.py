"""Answer the questions of the Commission's template for a version: from its files, or as a task for people.

Source: Explanatory Notice and Template for the Public Summary of Training Content, C(2025) 8311 final of 5 December
2025, annex. Its sections have their numbers here, and every question an id, by which people give their answers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from laion_dask.share.summary_crawler import Answer, crawler, opt_outs, unlawful
from laion_dask.share.summary_figures import Domain, Figures

_NONE: Final = "None in this version."
_OTHERS: Final = "Say it of all other data that the model was trained on."
_RELEASE: Final = "data/release/*.parquet"
_MANIFEST: Final = "data/release/manifest.json"
_LANGUAGES: Final = 24
"""As many languages are named as the Union has."""
_MILLION, _BILLION, _TEN_TRILLIONS = 10**6, 10**9, 10**13


@dataclass(frozen=True, slots=True)
class Section:
    """A section of the template."""

    number: str
    title: str
    answers: tuple[Answer, ...]


def listed_domains(domains: Sequence[Domain], *, small: bool) -> Sequence[Domain]:
    """Return the largest 10 % of the domains; for a small provider the largest 5 %, at most 1,000."""
    if small:
        return domains[: min(-(-len(domains) // 20), 1_000)]
    return domains[: -(-len(domains) // 10)]


def sections(figures: Figures, *, small: bool) -> list[Section]:
    """Return all sections of the template in order."""
    top = listed_domains(figures.domains, small=small)
    return [
        Section("", "About this summary", _head(figures)),
        Section("1.1", "Provider identification", _provider(figures)),
        Section("1.2", "Model identification", _model()),
        Section("1.3", "Modalities, overall training data size and other characteristics", _sizes(figures)),
        Section("2.1", "Publicly available datasets", _public(figures)),
        Section("2.2.1", "Datasets commercially licensed by rightsholders or their representatives", _licensed()),
        Section("2.2.2", "Private datasets obtained from other third parties", _private()),
        Section("2.3", "Data crawled and scraped from online sources", crawler(figures, top, small=small)),
        Section("2.4", "User data", _user()),
        Section("2.5", "Synthetic data", _synthetic(figures)),
        Section("2.6", "Other sources of data", _other()),
        Section("3.1", "Respect of reservation of rights from text and data mining", opt_outs(figures)),
        Section("3.2", "Removal of illegal content", unlawful(figures)),
        Section("3.3", "Other information", _further(figures)),
    ]


def text_range(figures: Figures) -> str | None:
    """Return the template's range of tokens, or None where the texts' sizes do not decide it.

    A text has at least one token, and no tokenizer in use makes more tokens than the text has bytes.
    """
    least, most = figures.pairs, figures.text_bytes
    if most < _BILLION:
        return "Less than 1 billion tokens"
    if least >= _BILLION and most <= _TEN_TRILLIONS:
        return "1 billion to 10 trillion tokens"
    return "More than 10 trillion tokens" if least > _TEN_TRILLIONS else None


def image_range(images: int) -> str:
    """Return the template's range of images."""
    if images < _MILLION:
        return "Less than 1 million images"
    return "1 million to 1 billion images" if images <= _BILLION else "More than 1 billion images"


def _head(figures: Figures) -> tuple[Answer, ...]:
    about = figures.manifest
    root = about["merkle"]["root"]
    demo = about["parameters"]["crawl"]["source"] == "demo"
    return (
        Answer("summary.version", "Version of the summary", to_add="Number it, with links to earlier ones."),
        Answer("summary.date", "Last update", to_add="Day of publication, DD/MM/YYYY."),
        Answer(
            "summary.dataset", "Dataset that the figures are of",
            f"{about['name']} {about['version']}, {figures.pairs:,} pairs of image and text, Merkle root {root}."
            f"{' A demonstration: pages, hosts and pictures were generated.' if demo else ''}",
            files=(_MANIFEST,),
        ),
    )  # fmt: skip


def _provider(figures: Figures) -> tuple[Answer, ...]:
    creator = figures.manifest["parameters"]["release"]["creator"]
    return (
        Answer("1.1.provider", "Provider name and contact details",
               to_add=f"Of the model's provider. (The dataset names as its creator: {creator}.)"),
        Answer("1.1.representative", "Authorised representative name and contact details",
               to_add="Only where the provider is established outside the Union (Article 54)."),
    )  # fmt: skip


def _model() -> tuple[Answer, ...]:
    return (
        Answer("1.2.names", "Versioned model names", to_add="Each model and version that the summary covers."),
        Answer("1.2.dependencies", "Model dependencies",
               to_add="A model that this one was made from, with a link to its summary."),
        Answer("1.2.placement", "Date of placement of the model on the Union market", to_add="Of each model."),
    )  # fmt: skip


def _sizes(figures: Figures) -> tuple[Answer, ...]:
    tokens = text_range(figures)
    asked = _month(figures.asked[1]) if figures.asked else None
    named = [f"{code or 'no language detected'} {rows / figures.pairs:.2%}" for code, rows in figures.languages]
    known = sum(1 for code, _ in figures.languages if code)
    return (
        Answer(
            "1.3.text", "Text: size and types of content",
            f"{tokens or 'Range not decided by the files'}. In another unit: {figures.pairs:,} texts, "
            f"{figures.characters:,} characters, {figures.text_bytes:,} bytes. "
            "Alternative texts of images on web pages.",
            files=(_RELEASE,),
            to_add="" if tokens else "Count the tokens with the model's tokenizer, and choose the range.",
        ),
        Answer(
            "1.3.image", "Image: size and types of content",
            f"{image_range(figures.images)}. In another unit: {figures.images:,} different images, "
            f"{figures.image_bytes:,} bytes as received. Images that web pages show.",
            files=(_RELEASE, "data/download/*.parquet"),
        ),
        Answer("1.3.audio_video", "Audio, video, other modalities", _NONE, files=(_RELEASE,)),
        Answer(
            "1.3.latest", "Latest date of data acquisition or collection", asked,
            files=("data/download/*.parquet: server_date",) if asked else (),
            to_add="Say whether the model is trained on newer data afterwards."
            if asked else "MM/YYYY. The responses of this version have no dates: they were replayed from an archive.",
        ),
        Answer(
            "1.3.languages", "Linguistic characteristics of the overall training data",
            f"{known:,} languages by the detector, of the texts: {', '.join(named[:_LANGUAGES])}"
            f"{', …' if len(named) > _LANGUAGES else ''}. Shares of pairs.",
            files=(_RELEASE,),
        ),
        Answer("1.3.other", "Other relevant characteristics of the overall training data",
               f"Classes of the hosts of images, by name: "
               f"{', '.join(f'{name} {rows / figures.pairs:.2%}' for name, rows in figures.classes)}. Shares of pairs.",
               files=(_RELEASE,), to_add="National, regional or demographic specificities that you know of."),
    )  # fmt: skip


def _public(figures: Figures) -> tuple[Answer, ...]:
    about = figures.manifest
    source = about["parameters"]["crawl"]["source"]
    first, last = about["pages"] or ("", "")
    crawls = ", ".join(f"{crawl} ({wats:,} WAT files)" for crawl, wats in about["crawls"].items())
    pages = f", pages fetched {first[:10]} to {last[:10]}" if first else ""
    if source == "commoncrawl":
        base = about["parameters"]["crawl"]["base_url"]
        name = f"Common Crawl, metadata (WAT): {crawls}{pages}; {base}/crawl-data/"
        to_add = ""
    elif source == "files":
        name, to_add = f"WAT files: {crawls}{pages}", "Who published the WAT files, with a link."
    else:
        name, to_add = f"A made-up crawl of this software's demonstration: {crawls}{pages}; no public dataset", ""
    yes = "No" if source == "demo" else "Yes"
    return (
        Answer("2.1.used", "Were publicly available datasets used?", f"{yes}, for this version.", files=(_MANIFEST,),
               to_add=_OTHERS),
        Answer("2.1.modalities", "Modalities of their content", "Text: alternative texts, and addresses of images.",
               files=(_MANIFEST,)),
        Answer("2.1.large", "List of large publicly available datasets", name, files=(_MANIFEST,), to_add=to_add),
        Answer("2.1.other", "Other publicly available datasets",
               to_add="Datasets that the model was trained on and this version does not hold."),
    )  # fmt: skip


def _licensed() -> tuple[Answer, ...]:
    return (
        Answer(
            "2.2.1.licensed",
            "Were commercial licences concluded with rightsholders?",
            _NONE,
            files=(_MANIFEST,),
            to_add=_OTHERS,
        ),
    )


def _private() -> tuple[Answer, ...]:
    return (
        Answer(
            "2.2.2.private",
            "Were private datasets obtained from other third parties?",
            _NONE,
            files=(_MANIFEST,),
            to_add=_OTHERS,
        ),
    )


def _user() -> tuple[Answer, ...]:
    return (
        Answer(
            "2.4.model", "Was data of user interactions with the model used?", _NONE, files=(_MANIFEST,), to_add=_OTHERS
        ),
        Answer(
            "2.4.services",
            "Was data of user interactions with other services used?",
            _NONE,
            files=(_MANIFEST,),
            to_add=_OTHERS,
        ),
    )


def _other() -> tuple[Answer, ...]:
    return (Answer("2.6.other", "Were other sources of data used?", _NONE, files=(_MANIFEST,), to_add=_OTHERS),)


def _synthetic(figures: Figures) -> tuple[Answer, ...]:
    counts, found = figures.manifest["counts"], []
    for stage, unit, what in (("translate", "texts", "English translations"), ("caption", "captions", "captions")):
        model = counts.get(stage, {}).get("model")
        if model and counts[stage][unit]["kept"]:
            found.append(
                f"{counts[stage][unit]['kept']:,} {what} by {model['model']} (weights sha256 "
                f"{model['weights_sha256']}, licence {model['licence']})"
            )
    if not found:
        return (
            Answer("2.5.used", "Was synthetic data created to train the model?", _NONE,
                   files=(_MANIFEST,), to_add=_OTHERS),
        )  # fmt: skip
    return (
        Answer("2.5.used", "Was synthetic data created to train the model?",
               f"Yes: {'; '.join(found)}. They stand beside the alternative texts, in tables of their own.",
               files=(_MANIFEST,), to_add="Say which of them the model was trained on."),
        Answer("2.5.modalities", "Modality of the synthetic data", "Text.", files=(_MANIFEST,)),
        Answer("2.5.models", "Information on the models that made it",
               to_add="For each model above: its provider, whether it is on the Union market, a link to its summary."),
    )  # fmt: skip


def _further(figures: Figures) -> tuple[Answer, ...]:
    about = figures.manifest
    same = figures.dropped("filter", "pairs", "duplicate_image", "near_duplicate", "semantic_duplicate")
    pairs = figures.dropped("catalog", "pairs", "duplicate_pair")
    personal = about["parameters"]["extract"]["personal_data"]
    looked = (
        "E-mail addresses, telephone, card and account numbers and IP addresses in texts and addresses were counted, "
        "not removed"
        if personal == "count"
        else "Personal data in texts and addresses was not looked for"
    )
    return (
        Answer(
            "3.3.processing", "Other relevant information about data processing",
            f"{pairs:,} equal pairs and {same:,} pairs with an image that another one has were left out. {looked}. "
            "Anyone who has the parameters can rebuild the version: the manifest has them, with versions of packages.",
            files=(_MANIFEST,),
        ),
    )  # fmt: skip


def _month(date: str) -> str:
    return f"{date[5:7]}/{date[:4]}"
