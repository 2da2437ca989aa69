"""Types of parameters that several sections share."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

# Extension of a path, without the leading dot; no glob.
Extension = Annotated[str, Field(pattern=r"^[A-Za-z0-9]+(\.[A-Za-z0-9]+)*$")]
Directive = Annotated[str, Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9_:-]*$")]
# RFC 9309, 2.2.1: letters, _ and -; some crawlers have digits too.
Token = Annotated[str, Field(pattern=r"^[A-Za-z0-9_-]+$")]
Fraction = Annotated[float, Field(ge=0, le=1)]
Sha256 = Annotated[str, Field(pattern=r"^[0-9a-f]{64}$")]
