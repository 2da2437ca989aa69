"""Map language codes of a table to the codes that translation models are told.

Tables have codes of fastText's lid.176 (ISO 639-1, and 639-3 where a language has no shorter one), or of CLD3, which
LAION used. m2m100 knows 100 languages by codes of two or three letters, NLLB 204 by codes of FLORES-200, which have
language (ISO 639-3) and script: deu_Latn. Marian's models are told no source language.
"""

from __future__ import annotations

import re
from typing import Final, Literal

Family = Literal["m2m100", "nllb", "marian"]

ENGLISH: Final = {"m2m100": "en", "nllb": "eng_Latn", "marian": "eng"}
"""The code of English by family; for m2m100 and NLLB also what transformers' tokenizers take as source by default."""

_M2M100: Final = """
af am ar ast az ba be bg bn br bs ca ceb cs cy da de el en es et fa ff fi fr fy ga gd gl gu ha he hi hr ht hu hy
id ig ilo is it ja jv ka kk km kn ko lb lg ln lo lt lv mg mk ml mn mr ms my ne nl no ns oc or pa pl ps pt ro ru
sd si sk sl so sq sr ss su sv sw ta th tl tn tr uk ur uz vi wo xh yi yo zh zu
"""
M2M100: Final = frozenset(_M2M100.split())
"""The languages of m2m100, in its own codes."""

_NLLB: Final = """
af:afr_Latn ak:aka_Latn am:amh_Ethi ar:arb_Arab arz:arz_Arab as:asm_Beng ast:ast_Latn awa:awa_Deva ay:ayr_Latn
az:azj_Latn azb:azb_Arab ba:bak_Cyrl be:bel_Cyrl bg:bul_Cyrl bh:bho_Deva bm:bam_Latn bn:ben_Beng bo:bod_Tibt
bs:bos_Latn ca:cat_Latn ceb:ceb_Latn ckb:ckb_Arab cs:ces_Latn cy:cym_Latn da:dan_Latn de:deu_Latn dz:dzo_Tibt
ee:ewe_Latn el:ell_Grek en:eng_Latn eo:epo_Latn es:spa_Latn et:est_Latn eu:eus_Latn fa:pes_Arab ff:fuv_Latn
fi:fin_Latn fj:fij_Latn fo:fao_Latn fr:fra_Latn ga:gle_Latn gd:gla_Latn gl:glg_Latn gn:grn_Latn gu:guj_Gujr
ha:hau_Latn he:heb_Hebr hi:hin_Deva hr:hrv_Latn ht:hat_Latn hu:hun_Latn hy:hye_Armn id:ind_Latn ig:ibo_Latn
ilo:ilo_Latn is:isl_Latn it:ita_Latn ja:jpn_Jpan jv:jav_Latn ka:kat_Geor kg:kon_Latn ki:kik_Latn kk:kaz_Cyrl
km:khm_Khmr kn:kan_Knda ko:kor_Hang ku:kmr_Latn ky:kir_Cyrl lb:ltz_Latn lg:lug_Latn li:lim_Latn lmo:lmo_Latn
ln:lin_Latn lo:lao_Laoo lt:lit_Latn lv:lvs_Latn mai:mai_Deva mg:plt_Latn mi:mri_Latn min:min_Latn mk:mkd_Cyrl
ml:mal_Mlym mn:khk_Cyrl mr:mar_Deva ms:zsm_Latn mt:mlt_Latn my:mya_Mymr ne:npi_Deva nl:nld_Latn nn:nno_Latn
no:nob_Latn ns:nso_Latn ny:nya_Latn oc:oci_Latn om:gaz_Latn or:ory_Orya pa:pan_Guru pl:pol_Latn ps:pbt_Arab
pt:por_Latn qu:quy_Latn rn:run_Latn ro:ron_Latn ru:rus_Cyrl rw:kin_Latn sa:san_Deva sc:srd_Latn scn:scn_Latn
sd:snd_Arab sg:sag_Latn si:sin_Sinh sk:slk_Latn sl:slv_Latn sm:smo_Latn sn:sna_Latn so:som_Latn sq:als_Latn
sr:srp_Cyrl ss:ssw_Latn st:sot_Latn su:sun_Latn sv:swe_Latn sw:swh_Latn ta:tam_Taml te:tel_Telu tg:tgk_Cyrl
th:tha_Thai ti:tir_Ethi tk:tuk_Latn tl:tgl_Latn tn:tsn_Latn tr:tur_Latn ts:tso_Latn tt:tat_Cyrl tw:twi_Latn
ug:uig_Arab uk:ukr_Cyrl ur:urd_Arab uz:uzn_Latn vec:vec_Latn vi:vie_Latn war:war_Latn wo:wol_Latn xh:xho_Latn
yi:ydd_Hebr yo:yor_Latn yue:yue_Hant zh:zho_Hans zu:zul_Latn
"""
NLLB: Final = dict(pair.split(":") for pair in _NLLB.split()) | {
    # Serbo-Croatian in Latin script, as in its Wikipedia; Wu is written like Chinese.
    "sh": "hrv_Latn",
    "wuu": "zho_Hans",
}
"""Codes of tables to those of NLLB-200; other codes of FLORES-200 by their own names."""

# Languages that m2m100 does not know, but whose texts read like those of one that it knows.
_NEAR: Final = {"arz": "ar", "nn": "no", "sh": "hr", "wuu": "zh", "yue": "zh"}
# Outdated codes, and CLD3's; nso is ns in m2m100.
_SAME: Final = {
    "fil": "tl",
    "in": "id",
    "iw": "he",
    "ji": "yi",
    "jw": "jv",
    "mo": "ro",
    "nb": "no",
    "nso": "ns",
    "zh-cn": "zh",
    "zh-tw": "zh",
    "zh-hans": "zh",
    "zh-hant": "zh",
}
_FLORES: Final = re.compile(r"[a-z]{3}_[A-Z][a-z]{3}")


def code(family: Family, language: str) -> str | None:
    """Return the model's code for a language of a table; None where it has none.

    Accepts the model's own codes too. For Marian it is always empty: a model is told no source language.
    """
    if family == "marian":
        return ""
    if family == "nllb" and _FLORES.fullmatch(language):
        return language
    known = language.lower()
    known = _SAME.get(known, known)
    if family == "nllb":
        return NLLB.get(known)
    known = _NEAR.get(known, known)
    return known if known in M2M100 else None


def same(one: str, other: str) -> bool:
    """Say whether two codes may mean one language: de, deu and deu_Latn do, as do two that the table lacks."""
    return _three_letters(one) == _three_letters(other)


def listed(language: str) -> bool:
    """Say whether a code names a single language of the table, rather than a group of languages such as mul or gem."""
    return language in NLLB or any(named.startswith(f"{language}_") for named in NLLB.values())


def _three_letters(language: str) -> str:
    known = _SAME.get(language.lower(), language)
    return NLLB.get(known, known).partition("_")[0]
