"""Open the Jinja templates of a package, with the same options for card, report and audit page."""

from __future__ import annotations

from jinja2 import Environment, PackageLoader, StrictUndefined


def environment(package: str, *, escape: bool) -> Environment:
    """Return the environment of `<package>/templates`, in which undefined names raise.

    With `escape`, values are escaped for HTML. The filter `number` adds thousands separators.
    """
    made = Environment(
        loader=PackageLoader(package),
        autoescape=escape,  # noqa: S701 - the caller chooses by the output format
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["number"] = lambda value: f"{value:,}"
    return made
