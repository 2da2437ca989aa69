"""Plain values in, a frozen model out: what every section of params.yaml has in common."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, ValidationInfo, field_validator


class Section(BaseModel):
    """A section of params.yaml: frozen, and closed to keys that it does not know."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @field_validator("*", mode="before")
    @classmethod
    def _is_no_switch(cls, value: object, field: ValidationInfo) -> object:
        # pydantic would read true as 1, and "yes" as true.
        switch = cls.model_fields[str(field.field_name)].annotation is bool
        if isinstance(value, bool) and not switch:
            message = f"{value} is refused: this parameter is no switch. Remedy: see its comment in params.yaml"
            raise ValueError(message)
        if switch and not isinstance(value, bool):
            message = f"{value!r} is refused: this parameter is true or false. Remedy: see its comment in params.yaml"
            raise ValueError(message)
        return value
