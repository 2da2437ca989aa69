"""Types of parameters that several sections share."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

# Of a path, as it is compared: no dot in front, no glob.
Extension = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+(\.[A-Za-z0-9]+)*$")]
Directive = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:-]*$")]
# RFC 9309, 2.2.1: letters, _ and -; some crawlers have digits too.
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
# In the order of laion_dask.web.rights.decision.SIGNALS.
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
