"""Citations: what BibTeX reads as commands is escaped; Zenodo gets what its deposits ask for."""

from __future__ import annotations

import pytest

from laion_dask import params
from laion_dask.share import citation


@pytest.mark.parametrize(
    ("creator", "expected"),
    [("Ours & Co_1", r"{{Ours \& Co\_1}}"), (r"A\B {50 %}", r"{{A\textbackslash{}B \{50 \%\}}}")],
)
def test_bibtex_escapes_what_would_be_a_command(defaults: params.Params, creator: str, expected: str) -> None:
    release = defaults.release.model_copy(update={"creator": creator})
    assert f"author = {expected}," in citation.bibtex(release, "2026-11-30")


def test_a_deposit_has_the_fields_that_zenodo_requires(defaults: params.Params) -> None:
    metadata = citation.zenodo(defaults.release, "2026-11-30")["metadata"]
    required = {"upload_type", "publication_date", "title", "creators", "description", "access_right", "license"}
    assert required <= metadata.keys()
    assert metadata["license"] == "cc-by-4.0"
