"""Write the sentences of card and Croissant on uses, limits and biases of a version.

Card and Croissant share them. Published figures have their source.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from laion_dask import params

DEMO: Final = (
    "This is a demonstration: pages, hosts, pictures and captions were generated. It says nothing about the web, and "
    "it is of no use for training."
)
_SELECTION: Final = (
    "Alternative texts are written for sites that care for them: shops, news, agencies. Others are missing.\n"
    "A CLIP model decides what matches, and what it does not know is dropped. Such filters drop pairs that mention "
    "some groups of people more often than others (arXiv 2405.08209).\n"
    "Languages are told apart by a model that errs on short texts; such texts end in another split, or in nolang.\n"
    "Lists of unsafe content, and the models that estimate it, lean to what their makers looked for."
).splitlines()
_ALWAYS: Final = (
    "Links rot and images change: compare sha256 or md5 after a download, and expect a share to be gone (LAION-400M "
    "had lost 13 % by February 2023, rom1504/img2dataset #277).\n"
    "Scores are estimates. LAION-400M's own tag for unsafe images had a precision of 5.2 % and a recall of 33 % in its "
    "makers' audit of 3,456 rows: a share above a threshold is no count of unsafe images.\n"
    "Opt-outs were read when the version was built; read them again before every use.\n"
    "Known unlawful content is only found where a list names its digest: filters alone are not reliable enough (LAION, "
    "Releasing Re-LAION-5B).\n"
    "Near-duplicates remain, within the set and towards evaluation sets, where the filter was not asked to drop them."
).splitlines()

_WRITTEN: Final = (
    "English texts and captions were written by models: they can be wrong, and name what no image shows. They stand "
    "beside the alternative text, and licences of the models may bind their use."
)
_NOT_LOOKED: Final = "Personal data in texts and addresses were not looked for."


def biases(settings: params.Params) -> list[str]:
    """Return the known biases of the selection."""
    return [*_demo(settings), *_SELECTION]


def limits(settings: params.Params, numbers: Mapping[str, Any]) -> list[str]:
    """Return the limits of the data; `numbers` come from `composition.measure`."""
    sentences = [*_demo(settings), *_ALWAYS]
    if not numbers["over"].get("punsafe > 0.5", {}).get("scored"):
        sentences.append("No pair has a punsafe score: nothing is known about unsafe images.")
    if not settings.catalog.lists:
        sentences.append("No list of known content was matched.")
    if settings.translate is not None or settings.caption is not None:
        sentences.append(_WRITTEN)
    if settings.extract.page_opt_out == "record":
        sentences.append("Opt-outs of pages were recorded, not obeyed.")
    return sentences


def personal(settings: params.Params, counts: Mapping[str, Any]) -> list[str]:
    """Return the statements on personal data."""
    dropped = counts["catalog"]["pairs"]["dropped"]
    removed = sum(int(rows) for reason, rows in dropped.items() if reason.startswith("removed_"))
    counted = (
        "E-mail addresses, telephone, card and account numbers and IP addresses in texts and addresses were counted "
        "for every pair (data/extract), and not removed."
    )
    return [
        "Texts and addresses may name persons, and images behind the links may show them: no face is blurred there.",
        counted if settings.extract.personal_data == "count" else _NOT_LOOKED,
        f"{removed:,} pairs were taken out by removals of addresses, domains or pairs before any image was asked for.",
    ]


def uses(settings: params.Params) -> list[str]:
    """Return the intended uses, and those to avoid."""
    if settings.crawl.source == "demo":
        return ["Learning how such a data set is built, and testing tools that read one.", "Not for training."]
    return [
        "Research on image-text models, on filters, and on what is on the web.",
        "Not for products without a review of what is in it; not to find, recognise or judge persons.",
    ]


def _demo(settings: params.Params) -> list[str]:
    return [DEMO] if settings.crawl.source == "demo" else []
