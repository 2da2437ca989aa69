"""Decide by the metadata in a picture file: IPTC/PLUS data mining, TDMRep and C2PA.

It is read from the original bytes, before the picture is decoded, because encoding it again removes all metadata.
"""

from __future__ import annotations

import re
from typing import Final

from laion_dask.web.rights.c2pa import decide_manifest
from laion_dask.web.rights.decision import Decision, Policy, decision
from laion_dask.web.rights.xmp import Statement, statements

_VOCABULARY: Final = re.compile(r"(?:https?://ns\.useplus\.org/ldf/vocab/)?DMI-([A-Z-]+)/?", re.IGNORECASE)
_UNREADABLE: Final = "present, but cannot be read"


def decide_file(body: bytes, policy: Policy, time: str | None = None) -> Decision:
    """Decide by the bytes of a picture file; `time` is the Date header of its response."""
    in_xmp = statements(body)
    policies = [statement.value for statement in in_xmp if statement.property == "tdm_policy" and statement.value]
    found = [decide_manifest(body, time)]
    for statement in in_xmp:
        if statement.property == "data_mining":
            found += _data_mining(statement, time)
        elif statement.property == "tdm_reservation":
            found += _tdm(statement, policies, time)
        elif statement.property == "provenance":
            evidence = f"manifest elsewhere, not fetched: {statement.value}"
            found.append(decision("unknown", "c2pa", evidence, "file", time))
    return policy.strictest(found)


def _data_mining(statement: Statement, time: str | None) -> list[Decision]:
    """Read plus:DataMining (IPTC Photo Metadata Standard 2023.1): every DMI-PROHIBITED refuses.

    The values for generative training only and for constraints elsewhere refuse too, because the publisher of a data
    set cannot control its later use. DMI-UNSPECIFIED is no signal.
    """
    word = _VOCABULARY.fullmatch((statement.value or "").strip())
    value = word[1].upper() if word else ""
    if value == "UNSPECIFIED":
        return []
    rights = "refused" if value.startswith("PROHIBITED") else "allowed" if value == "ALLOWED" else "unknown"
    evidence = f"plus:DataMining {statement.value if statement.value is not None else _UNREADABLE}"
    return [decision(rights, "xmp_data_mining", evidence, "file", time)]


def _tdm(statement: Statement, policies: list[str], time: str | None) -> list[Decision]:
    rights = {"1": "refused", "0": "allowed"}.get(statement.value or "", "unknown")
    lines = [f"tdm:reservation {statement.value if statement.value is not None else _UNREADABLE}"]
    lines += [f"tdm:policy {policy}" for policy in policies]
    return [decision(rights, "xmp_tdm", "; ".join(lines), "file", time)]
