"""A sample of four pairs that an audit has drawn, for tests of labels."""

from __future__ import annotations

from pathlib import Path

from laion_dask.audit import questions
from laion_dask.audit.audit_sample import AuditSample, Drawn

UIDS = [f"{number:032x}" for number in range(4)]

NAMES = ("matching", "unsafe", "watermark")

SAMPLE = AuditSample(
    "s1",
    1,
    questions.read(),
    tuple(Drawn(uid, ("keep", "en"), "", dict.fromkeys(NAMES, False), Path(), "") for uid in UIDS),
    {("keep", "en"): 40},
    {("keep", "en", name, False): 40 for name in NAMES},
    {},
)  # fmt: skip
