"""Parameters and recipes: what holds, what a recipe changes, and params.yaml with a recipe laid over it."""

from __future__ import annotations

import io
import json
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from laion_dask import cli_console

if TYPE_CHECKING:
    from ruamel.yaml import YAML
    from typer._click import Context, HelpFormatter


class ExplainsTextSteps(TyperCommand):
    """A command whose help ends with the steps that extract.text_steps may name."""

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Print the help; the steps are read only now, for their libraries are heavy."""
        from laion_dask.text import STEPS

        steps = [f"{name}: {meaning}" for name, meaning in STEPS.items()]
        self.epilog = "\n\n".join(["Steps of extract.text_steps, applied in the order that is written there:", *steps])
        super().format_help(ctx, formatter)


def params(
    file: Annotated[Path, typer.Argument(help="The file to check.")] = Path("params.yaml"),
    recipe: Annotated[
        str | None, typer.Option(metavar="NAME", help="Lay a recipe over the file: see `laion-dask recipes`.")
    ] = None,
    write: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--write", help="Write the recipe's values into the file; its comments stay.")
    ] = False,
) -> None:
    """Check params.yaml and print the values that hold, alone or with a recipe."""
    with cli_console.told("params"):
        from laion_dask import params as parameters
        from laion_dask import recipes

        if write and not recipe:
            cli_console.fail("params: --write needs a recipe. Remedy: add --recipe NAME", 2)
        if write and recipe:
            for line in lay_over(file, recipe):
                typer.echo(line)
            return
        checked = recipes.load(recipe, file) if recipe else parameters.load(file)
        for section, values in checked.model_dump(mode="json").items():
            for name, value in values.items():
                typer.echo(f"{section}.{name} = {json.dumps(value, ensure_ascii=False)}")


def recipes() -> None:
    """List the recipes: published datasets whose rules can be followed, and what of them cannot be met."""
    with cli_console.told("recipes"):
        from laion_dask import recipes as known

        for name in known.names():
            recipe = known.describe(name)
            count = sum(len(values) for values in recipe.values.values())
            typer.echo(f"{typer.style(name, bold=True)}: {recipe.title.removeprefix(f'{name}: ')}")
            for line in recipe.notes.splitlines():
                typer.echo(f"  {line}".rstrip())
            typer.echo(f"  It sets {count} parameters: laion-dask params --recipe {name}\n")


def lay_over(file: Path, recipe: str) -> list[str]:
    """Write the values of a recipe into a params.yaml, and return a line for each that changed.

    Every other character of the file stays, its comments too. Raises what `recipes.load` raises, before writing.
    """
    from laion_dask import recipes

    recipes.load(recipe, file)
    yaml = round_trip()
    values = yaml.load(file.read_text(encoding="utf-8"))
    told: list[str] = []
    _lay(values, recipes.apply(recipe, values), "", told)
    text = io.StringIO()
    yaml.dump(values, text)
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(text.getvalue(), encoding="utf-8")
    fresh.chmod(file.stat().st_mode)
    fresh.replace(file)
    return told or [f"{file} has all values of {recipe} already"]


def _lay(old: Any, new: Mapping[str, Any], path: str, told: list[str]) -> None:  # noqa: ANN401 - ruamel's own types
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping):
            _lay(before, value, f"{path}{key}.", told)
        elif before != value:
            told.append(f"{path}{key}: {json.dumps(before)} -> {json.dumps(value)}")
            old[key] = _flow(value)


def _flow(value: Any) -> Any:  # noqa: ANN401 - any YAML value
    from ruamel.yaml.comments import CommentedSeq

    if not isinstance(value, list | tuple):
        return value
    listed = CommentedSeq(value)
    listed.fa.set_flow_style()
    return listed


def round_trip() -> YAML:
    """Return a reader and writer that leave alone what is not changed."""
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import ScalarNode
    from ruamel.yaml.representer import RoundTripRepresenter

    class Representer(RoundTripRepresenter):
        """Writes null as null: ruamel's own leaves the value out."""

    def null(representer: RoundTripRepresenter, _: None) -> ScalarNode:
        node: ScalarNode = representer.represent_scalar("tag:yaml.org,2002:null", "null")
        return node

    Representer.add_representer(type(None), null)
    yaml = YAML()
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = 10_000
    return yaml
