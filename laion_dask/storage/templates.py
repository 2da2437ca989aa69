"""Open the Jinja templates that a package carries, with the same rules for the card, the report and the audit page."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(package: str, *, escape: bool) -> Environment:
    """Return the environment of `<package>/templates`; a name that is not given to a template raises.

    With `escape`, values are written so that they cannot be markup: for HTML. The filter `number` sets commas.
    """
    made = Environment(
        loader=PackageLoader(package),
        autoescape=escape,  # noqa: S701 - the caller says what the text becomes
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = lambda value: f"{value:,}"
    return made
