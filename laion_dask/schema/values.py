"""Values that several stages share: the splits of pairs, the signals of opt-outs, and when two PDQ hashes match."""

from __future__ import annotations

from typing import Final, Literal, get_args

Split = Literal["en", "multi", "nolang"]
"""Column `split`: English text, text in another language, text in no language that could be told."""
SPLITS: Final[tuple[Split, ...]] = get_args(Split)

SAMPLED: Final = "sampled.npy"
"""File of the filter's out where filter.sample draws: uids as a subset file of DataComp, each as often as drawn."""

Signal = Literal[
    "robots",
    "ai_txt",
    "tdmrep",
    "rsl",
    "x_robots_tag",
    "tdm_reservation",
    "content_usage",
    "content_signal",
    "crawler_price",
    "xmp_data_mining",
    "xmp_tdm",
    "c2pa",
]
"""Opt-outs of hosts, responses and pictures, in the order in which the download meets them."""
SIGNALS: Final[tuple[Signal, ...]] = get_args(Signal)
"""Of two decisions that are equally strict, the one of the earlier signal is recorded."""

PDQ_DISTANCE: Final = 31
"""Bits of 256 in which the PDQ hashes of one picture differ at most (facebook/ThreatExchange, `pdq/README.md`)."""
PDQ_QUALITY: Final = 50
"""A PDQ hash of lower quality is too vague to match."""
