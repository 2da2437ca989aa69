"""`laion-dask params` and `recipes`: print the parameters that hold, and lay a recipe over params.yaml."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from typer.core import TyperCommand

from laion_dask.cli import console
from laion_dask.storage import packaged

if TYPE_CHECKING:
    from ruamel.yaml import YAML
    from typer._click import Context, HelpFormatter


class ExplainsTextSteps(TyperCommand):
    """A command whose help ends with the steps that extract.text_steps may name."""

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Print the help; the steps are read only now, because their libraries take long to load."""
        from laion_dask.extract.text import STEPS

        steps = [f"{name}: {meaning}" for name, meaning in STEPS.items()]
        self.epilog = "\n\n".join(["Steps of extract.text_steps, applied in the order that is written there:", *steps])
        super().format_help(ctx, formatter)


def params(
    file: Annotated[
        Path | None, typer.Argument(help="The file to check.", show_default="params.yaml of this folder")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Lay a recipe over the file: see `laion-dask recipes`. Again: another over that."
        ),
    ] = None,
    write: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--write", help="Write the recipe's values into the file; its comments stay.")
    ] = False,
) -> None:
    """Check params.yaml and print the values that hold, alone or with recipes.

    Files that are missing, and columns of rules that no stage will write, are reported before anything runs.
    """
    with console.told("params"):
        from laion_dask import params as parameters
        from laion_dask.params import recipes
        from laion_dask.preflight import preflight

        names = " ".join(recipe or ())
        if write and not names:
            console.fail("params: --write needs a recipe. Remedy: add --recipe NAME", 2)
        if write:
            for line in lay_over(file or Path("params.yaml"), names):
                console.say(line)
            return
        file = file or Path("params.yaml")
        if recipe and file == Path("params.yaml") and not file.exists():
            # An installed package shows its recipes outside of a project too.
            file = packaged.parameters()
            console.say("params: no params.yaml here, so the recipe is laid over the package's", err=True)
        checked = recipes.load(names, file) if recipe else parameters.load(file)
        console.say(f"recipe = {json.dumps(checked.recipe)}")
        for section, values in checked.model_dump(mode="json", exclude={"recipe"}).items():
            for name, value in values.items():
                console.say(f"{section}.{name} = {json.dumps(value, ensure_ascii=False)}")
        try:
            preflight.check(checked, weights=not recipe)
        except preflight.FilesMissingError as missing:
            # To look at a recipe needs none of its files; to build by it does.
            if not recipe:
                raise
            console.say(f"params: {missing}", err=True)


def recipes() -> None:
    """List the recipes: published datasets whose rules can be followed, and which of them cannot."""
    with console.told("recipes"):
        from laion_dask.params import recipes as known

        for name in known.names():
            recipe = known.describe(name)
            count = sum(len(values) for values in recipe.values.values())
            typer.echo(f"{typer.style(name, bold=True)}: {recipe.title.removeprefix(f'{name}: ')}")
            for line in recipe.notes.splitlines():
                console.say(f"  {line}".rstrip())
            extends = f" with those of {recipe.extends}, which it extends" if recipe.extends else ""
            console.say(f"  It sets {count} parameters{extends}: laion-dask params --recipe {name}\n")


def lay_over(file: Path, recipe: str) -> list[str]:
    """Write the values of one or several recipes into a params.yaml, and return a line for each that changed.

    Every other character of the file stays, its comments too. Recipes that were laid over it before are taken away
    first. Raises what `recipes.load` and `preflight.check` raise, before writing.
    """
    from laion_dask import params as parameters
    from laion_dask.params import recipes
    from laion_dask.preflight import preflight

    base = without_recipes(file, recipes.named(recipe))
    text = file.read_text(encoding="utf-8")
    yaml = round_trip()
    values = yaml.load(base)
    wanted = recipes.apply(recipe, parameters.parse(values, str(file)).model_dump(mode="json", exclude_unset=True))
    preflight.check(parameters.parse(wanted, f"recipe {recipe!r} over {file}"), weights=False)
    told: list[str] = []
    _lay(values, wanted, "", told)
    out = io.StringIO()
    yaml.dump(values, out)
    if out.getvalue() == text:
        return [f"{file} has all values of {recipe} already"]
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(out.getvalue(), encoding="utf-8")
    fresh.chmod(file.stat().st_mode)
    fresh.replace(file)
    return told


def without_recipes(file: Path, wanted: Sequence[str]) -> str:
    """Return the text of a params.yaml as it was before any recipe was laid over it.

    Where it names recipes, that is what Git has, if that names none and differs from the file by these recipes alone.
    Else a second recipe would be mixed with the first, which is refused with `params.ParamsError`.
    """
    from laion_dask import params as parameters
    from laion_dask.params import recipes

    here = parameters.load(file)
    text = file.read_text(encoding="utf-8")
    if not here.recipe:
        return text
    committed = _committed(file)
    yaml = round_trip()
    base = parameters.parse(yaml.load(committed), f"{file} in Git") if committed else None
    laid = recipes.apply(" ".join(here.recipe), base.model_dump(mode="json")) if base and not base.recipe else None
    if committed and laid and parameters.parse(laid) == here:
        return committed
    # The same ones, in a file that Git has so or that has own values beside them: they are only laid once more.
    if tuple(wanted) == here.recipe:
        return text
    raise parameters.ParamsError(
        f"{file} names recipe {', '.join(here.recipe)} already, and own values beside it: {', '.join(wanted)} would be "
        f"mixed with it. Remedy: `git checkout {file}` first, or all names at once, e.g. RECIPE='laion-5b demo'"
    )


def _committed(file: Path) -> str:
    """Return the file as Git's HEAD has it; empty where there is no Git or it has none."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "show", f"HEAD:./{file.name}"]
    done = subprocess.run(
        command, cwd=file.resolve().parent, capture_output=True, text=True, encoding="utf-8", check=False
    )
    return done.stdout if done.returncode == 0 else ""


def _lay(old: Any, new: Mapping[str, Any], path: str, told: list[str]) -> None:  # noqa: ANN401 - ruamel's own types
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            _lay(before, value, f"{path}{key}.", told)
        elif before != value:
            told.append(f"{path}{key}: {json.dumps(before)} -> {json.dumps(value)}")
            old[key] = _flow(value)


def _flow(value: Any) -> Any:  # noqa: ANN401 - any YAML value
    from ruamel.yaml.comments import CommentedMap, CommentedSeq

    if isinstance(value, Mapping):
        mapped = CommentedMap({key: _flow(item) for key, item in value.items()})
        mapped.fa.set_flow_style()
        return mapped
    if not isinstance(value, list | tuple):
        return value
    listed = CommentedSeq([_flow(item) for item in value])
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
