"""Every code that a model is told is one of its own, and every language of the detector has a code or has none."""

from __future__ import annotations

import pytest
from transformers.models.m2m_100.tokenization_m2m_100 import FAIRSEQ_LANGUAGE_CODES as M2M100_OF_TRANSFORMERS
from transformers.models.nllb.tokenization_nllb import FAIRSEQ_LANGUAGE_CODES as NLLB_OF_TRANSFORMERS

from laion_dask.extract import language as detector
from laion_dask.translate import languages

# Labels of lid.176 that neither model has a language for by its published list, and those that only one has.
NEITHER = """
als an av bar bcl bpy bxr cbk ce co cv diq dsb dty dv eml frr gom gv hif hsb ia ie io jbo krc kv kw la lez lrc
mhr mrj mwl myv mzn nah nap nds new os pam pfl pms pnb rm rue sah sco tyv vep vls vo wa xal xmf
"""
NLLB_ALONE = """
as azb bh bo ckb eo eu gn ku ky li lmo mai min mt qu sa sc scn te tg tk tt ug vec war
"""
M2M100_ALONE = "br fy"


def detected() -> set[str]:
    return {label.removeprefix("__label__") for label in detector._model(None).get_labels()}  # noqa: SLF001


def test_the_codes_of_m2m100_are_those_of_transformers() -> None:
    assert set(M2M100_OF_TRANSFORMERS["m2m100"]) == languages.M2M100


def test_the_codes_of_nllb_are_all_among_those_of_transformers() -> None:
    assert set(languages.NLLB.values()) <= set(NLLB_OF_TRANSFORMERS)
    assert all(languages.code("nllb", code) == code for code in NLLB_OF_TRANSFORMERS)


@pytest.mark.parametrize(
    ("family", "without"), [("m2m100", NEITHER + NLLB_ALONE), ("nllb", f"{NEITHER} {M2M100_ALONE}")]
)
def test_every_language_of_the_detector_has_a_code_unless_the_model_does_not_know_it(
    family: languages.Family, without: str
) -> None:
    labels = detected()
    assert len(labels) == 176
    assert {label for label in labels if languages.code(family, label) is None} == set(without.split())


@pytest.mark.parametrize(
    ("language", "m2m100", "nllb"),
    [
        ("de", "de", "deu_Latn"),
        ("zh", "zh", "zho_Hans"),
        ("yue", "zh", "yue_Hant"),
        ("wuu", "zh", "zho_Hans"),
        ("sh", "hr", "hrv_Latn"),
        ("sr", "sr", "srp_Cyrl"),
        ("arz", "ar", "arz_Arab"),
        ("ceb", "ceb", "ceb_Latn"),
        ("no", "no", "nob_Latn"),
        ("nn", "no", "nno_Latn"),
        ("nb", "no", "nob_Latn"),
        ("iw", "he", "heb_Hebr"),
        ("he", "he", "heb_Hebr"),
        ("fil", "tl", "tgl_Latn"),
        ("zh-TW", "zh", "zho_Hans"),
        ("nso", "ns", "nso_Latn"),
        ("sq", "sq", "als_Latn"),
        # Alemannic in lid.176; als_Latn is Albanian.
        ("als", None, None),
        ("deu_Latn", None, "deu_Latn"),
        ("", None, None),
        ("xx", None, None),
    ],
)
def test_a_language_has_the_code_of_each_family(language: str, m2m100: str | None, nllb: str | None) -> None:
    assert languages.code("m2m100", language) == m2m100
    assert languages.code("nllb", language) == nllb


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [("de", "de", True), ("de", "deu", True), ("zho", "zh", True), ("iw", "heb", True), ("de", "nl", False)],
)
def test_two_codes_may_mean_one_language(one: str, other: str, *, same: bool) -> None:
    assert languages.same(one, other) is same
    assert languages.same(other, one) is same
