"""Write the public summary of training content of a version (EU AI Act, Article 53(1)(d)): one page, JSON, domains.

The template is the Commission's, C(2025) 8311 final. Figures are those of the version; what only people know is marked
until they give it in a file of answers.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Final

from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from laion_dask.share import summary_answers, summary_figures
from laion_dask.share.summary_crawler import DOMAINS, Answer
from laion_dask.share.summary_figures import Figures, SummaryError
from laion_dask.storage import sheets, templates

PAGE: Final = "summary.html"
JSON: Final = "summary.json"
TEMPLATE: Final = "C(2025) 8311 final, annex"
_SHOWN: Final = 1_000
_COLUMNS: Final = ("domain", "images", "bytes")


def write(data: Path, out: Path, *, small: bool, given: Mapping[str, str]) -> int:
    """Write the three files into the new folder `out`; return how many answers people must still add to.

    `small` is for providers that list 5 % of the domains, at most 1,000; `given` has people's answers by id. Raises
    `SummaryError`.
    """
    figures = summary_figures.measure(data)
    sections = _with_answers(summary_answers.sections(figures, small=small), given)
    top = summary_answers.listed_domains(figures.domains, small=small)
    still = sum(answer.open for section in sections for answer in section.answers)
    out.mkdir(parents=True)
    sheets.write(out / DOMAINS, _COLUMNS, ((domain.name, domain.images, domain.bytes) for domain in top))
    document = {
        "template": TEMPLATE,
        "dataset": {key: figures.manifest[key] for key in ("name", "version", "merkle")},
        "to_add": still,
        "sections": [
            {"number": one.number, "title": one.title, "answers": [_plain(answer) for answer in one.answers]}
            for one in sections
        ],
        "figures": _numbers(figures),
        "domains": [dataclasses.asdict(domain) for domain in top],
    }
    (out / JSON).write_text(json.dumps(document, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    page = templates.environment("laion_dask.share", escape=True).get_template("eu_summary.html.j2").render(
        template=TEMPLATE,
        name=figures.manifest["name"],
        version=figures.manifest["version"],
        sections=sections,
        still=still,
        top=top[:_SHOWN],
        more=max(0, len(top) - _SHOWN),
        domains=len(figures.domains),
        list=DOMAINS,
    )  # fmt: skip
    (out / PAGE).write_text(page, encoding="utf-8")
    return still


def read_answers(path: Path) -> dict[str, str]:
    """Read people's answers: YAML or JSON, text by id, such as `1.1.provider: ACME, contact@acme.org`."""
    try:
        answers = YAML(typ="safe", pure=True).load(path)
    except (OSError, YAMLError, UnicodeDecodeError) as error:
        raise SummaryError(
            f"{path} cannot be read ({error}). Remedy: YAML with an id and a text on each line"
        ) from error
    if not isinstance(answers, dict) or not all(isinstance(text, str) and text.strip() for text in answers.values()):
        raise SummaryError(f"{path} is no list of texts by id. Remedy: lines such as `1.1.provider: name, address`")
    return {str(key): text.strip() for key, text in answers.items()}


def _with_answers(sections: list[summary_answers.Section], given: Mapping[str, str]) -> list[summary_answers.Section]:
    known = {answer.id for section in sections for answer in section.answers if answer.to_add}
    if stray := sorted(given.keys() - known):
        message = f"nothing is to be added at {', '.join(stray)}"
        raise SummaryError(f"{message}. Remedy: the ids are {', '.join(sorted(known))}")
    return [
        dataclasses.replace(
            section,
            answers=tuple(
                dataclasses.replace(answer, given=given[answer.id]) if answer.id in given else answer
                for answer in section.answers
            ),
        )
        for section in sections
    ]


def _plain(answer: Answer) -> dict[str, object]:
    return {
        "id": answer.id,
        "question": answer.question,
        "from_version": answer.text,
        "files": list(answer.files),
        "from_people": answer.given,
        "to_add": answer.to_add if answer.open else None,
    }


def _numbers(figures: Figures) -> dict[str, object]:
    names = ("pairs", "characters", "text_bytes", "images", "image_bytes", "languages", "classes", "asked")
    return {name: getattr(figures, name) for name in names} | {"domains": len(figures.domains)}
