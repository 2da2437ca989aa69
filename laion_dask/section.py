"""Plain values in, a frozen model out: what every section of params.yaml has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, field_validator


class Section(BaseModel):
    """A section of params.yaml: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_switch(cls, value: object) -> object:
        # pydantic would read true as 1.
        if isinstance(value, bool):
            message = f"{value} is refused: no parameter is a switch. Remedy: see its comment in params.yaml"
            raise ValueError(message)  # noqa: TRY004 - pydantic turns a ValueError into its own
        return value
