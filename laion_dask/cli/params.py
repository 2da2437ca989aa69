"""`laion-dask params` and `recipes`: print the effective parameters, list recipes, apply one to params.yaml."""

from __future__ import annotations

import io
import json
import shutil
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

import typer
from typer.core import TyperCommand

from laion_dask.cli import console
from laion_dask.storage import packaged

if TYPE_CHECKING:
    from ruamel.yaml import YAML
    from typer._click import Context, HelpFormatter

    from laion_dask.params.recipes import Recipe


HELP: Final = """Check params.yaml and print its effective values, alone or with recipes.

\b
  laion-dask params                       # check the project of this folder
  laion-dask params --recipe laion-5b     # with a recipe over its params.yaml
  laion-dask params --recipe laion-5b --recipe demo --write    # and write it

Reports missing files, and rules on columns that no stage writes. --write refuses a recipe whose files are missing
here: `laion-dask recipes NAME` lists them, and the recipe demo, given behind it, replaces them by the demo's.
"""


class ExplainsTextSteps(TyperCommand):
    """A command whose help ends with the steps of extract.text_steps."""

    def format_help(self, ctx: Context, formatter: HelpFormatter) -> None:
        """Print the help; imports the steps only here, because their libraries load slowly."""
        from laion_dask.extract.text import STEPS

        steps = [f"{name}: {meaning}" for name, meaning in STEPS.items()]
        self.epilog = "\n\n".join(["Steps of extract.text_steps, applied in the order of the list:", *steps])
        super().format_help(ctx, formatter)


def params(
    file: Annotated[
        Path | None, typer.Argument(help="The file to check.", show_default="params.yaml of this folder")
    ] = None,
    recipe: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME",
            help="Apply a recipe to the file (see `laion-dask recipes`); repeat to apply another on top.",
        ),
    ] = None,
    write: Annotated[  # noqa: FBT002 - a flag
        bool, typer.Option("--write", help="Write the recipe's values into the file; its comments stay.")
    ] = False,
) -> None:
    """Check params.yaml and print its effective values, or write a recipe into it."""
    with console.report_errors("params"):
        from laion_dask import params as parameters
        from laion_dask.params import recipes
        from laion_dask.preflight import preflight

        names = " ".join(recipe or ())
        if write and not names:
            console.fail("params: --write needs a recipe. Remedy: add --recipe NAME", 2)
        if write:
            for line in write_recipes(file or Path("params.yaml"), names):
                console.say(line)
            return
        file = file or Path("params.yaml")
        if recipe and file == Path("params.yaml") and not file.exists():
            # Outside of a project, the recipe is shown with the package's parameters.
            file = packaged.parameters()
            console.say("params: no params.yaml here, so the recipe is applied to the package's", err=True)
        checked = recipes.load(names, file) if recipe else parameters.load(file)
        console.say(f"recipe = {json.dumps(checked.recipe)}")
        for section, values in checked.model_dump(mode="json", exclude={"recipe"}).items():
            if values is None:
                console.say(f"{section} = null")
                continue
            for name, value in values.items():
                console.say(f"{section}.{name} = {json.dumps(value, ensure_ascii=False)}")
        try:
            preflight.check(checked, weights=not recipe)
        except preflight.FilesMissingError as missing:
            # Showing a recipe needs none of its files.
            if not recipe:
                raise
            console.say(f"params: {missing}", err=True)


RECIPES_HELP: Final = """List the recipes: the rules of published datasets and studies; with names, all about these.

\b
  laion-dask recipes                                # one line each
  laion-dask recipes laion-5b datacomp              # sources, limits, files
  laion-dask params --recipe laion-5b               # the values that hold
  laion-dask params --recipe laion-5b --recipe demo --write
  make repro RECIPE=laion-5b ON=demo                # write them, and build

The recipe demo, over another one, replaces its crawl, models and files by those of the demo.
"""


def recipes(
    names: Annotated[
        list[str] | None, typer.Argument(metavar="[NAME]...", help="Recipes to describe in full; default: list all.")
    ] = None,
) -> None:
    """List the recipes in one line each, or describe those that are named."""
    with console.report_errors("recipes"):
        from laion_dask.params import recipes as known

        if names:
            for recipe in [known.describe(name) for name in names]:
                _describe(recipe)
            return
        listed = known.names()
        width = max(map(len, listed))
        for name in listed:
            console.say(console.cut(f"{name:<{width}}  {known.describe(name).title.removeprefix(f'{name}: ')}"))
        console.say("\nall about one: laion-dask recipes NAME; build it on the demo: make repro RECIPE=NAME ON=demo")


def _describe(recipe: Recipe) -> None:
    from laion_dask.params import recipes as known
    from laion_dask.preflight import preflight

    name = recipe.name
    count = sum(1 if values is None else len(values) for values in recipe.values.values())
    typer.echo(f"{typer.style(name, bold=True)}: {recipe.title.removeprefix(f'{name}: ')}")
    for line in recipe.notes.splitlines():
        console.say(f"  {line}".rstrip())
    extends = f" with those of {recipe.extends}, which it extends" if recipe.extends else ""
    console.say(f"  It sets {count} parameters{extends}: laion-dask params --recipe {name}")
    if wanted := preflight.files(known.load(name, packaged.parameters())):
        console.say("  Files of yours that it reads:")
        for key, path in wanted:
            console.say(f"  - {key} = {path}{'' if Path(path).exists() else ' (not in this folder)'}")
        console.say("  To try its rules without them: make repro RECIPE=" + name + " ON=demo")
    console.say("")


def write_recipes(file: Path, recipe: str) -> list[str]:
    """Write the values of one or several recipes into a params.yaml, and return a line for each changed value.

    Everything else in the file stays, including comments. Recipes applied before are undone first. Raises what
    `recipes.load` and `preflight.check` raise, before writing.
    """
    from laion_dask import params as parameters
    from laion_dask.params import recipes
    from laion_dask.preflight import preflight

    base = without_recipes(file, recipes.named(recipe))
    text = file.read_text(encoding="utf-8")
    yaml = round_trip()
    values = yaml.load(base)
    wanted = recipes.apply(recipe, parameters.parse(values, str(file)).model_dump(mode="json", exclude_unset=True))
    try:
        preflight.check(parameters.parse(wanted, f"recipe {recipe!r} over {file}"), weights=False)
    except preflight.FilesMissingError as missing:
        if "demo" in recipes.named(recipe):
            raise
        message = (
            f"recipe {recipe} reads files that are missing: {'; '.join(missing.missing)}. Nothing was written. Remedy: "
            "put them there (docs/recipes.md says what they are), or add --recipe demo (ON=demo), which replaces them "
            "by the demo's"
        )
        raise preflight.FilesMissingError(message, missing.missing) from None
    changes: list[str] = []
    for section in [key for key, value in wanted.items() if value is None and values.get(key) is not None]:
        base = _emptied(base, section)
        changes.append(f"{section}: … -> null")
    values = yaml.load(base)
    _merge(values, wanted, "", changes)
    out = io.StringIO()
    yaml.dump(values, out)
    if out.getvalue() == text:
        return [f"{file} has all values of {recipe} already"]
    fresh = file.with_name(f".{file.name}.new")
    fresh.write_text(out.getvalue(), encoding="utf-8")
    fresh.chmod(file.stat().st_mode)
    fresh.replace(file)
    return changes


def _emptied(text: str, section: str) -> str:
    """Return the text of a params.yaml with null in the place of a section, and its other lines as they are.

    ruamel would take the comment in front of the next section away too.
    """
    lines = text.split("\n")
    first = lines.index(f"{section}:")
    last = next((at for at in range(first + 1, len(lines)) if lines[at][:1].strip()), len(lines))
    while not lines[last - 1].strip():
        last -= 1
    return "\n".join([*lines[:first], f"{section}: null", *lines[last:]])


def without_recipes(file: Path, wanted: Sequence[str]) -> str:
    """Return the text of a params.yaml as it was before any recipe was applied to it.

    If the file names recipes, this is the committed file, provided that it names none and that applying these recipes
    gives the file. Otherwise raises `params.ParamsError`: a second recipe would be mixed with the first.
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
    applied = recipes.apply(" ".join(here.recipe), base.model_dump(mode="json")) if base and not base.recipe else None
    if committed and applied and parameters.parse(applied) == here:
        return committed
    # The same recipes again, in a file that is committed so or that has other changed values: apply them once more.
    if tuple(wanted) == here.recipe:
        return text
    raise parameters.ParamsError(
        f"{file} already has recipe {', '.join(here.recipe)} and other changed values: {', '.join(wanted)} would be "
        f"mixed with it. Remedy: `git checkout {file}` first, or give all names at once, e.g. RECIPE='laion-5b demo'"
    )


def _committed(file: Path) -> str:
    """Return the file as of Git's HEAD; empty without Git or if it is not committed."""
    git = shutil.which("git")
    if git is None:
        return ""
    command = [git, "show", f"HEAD:./{file.name}"]
    done = subprocess.run(
        command, cwd=file.resolve().parent, capture_output=True, text=True, encoding="utf-8", check=False
    )
    return done.stdout if done.returncode == 0 else ""


def _merge(old: Any, new: Mapping[str, Any], path: str, changes: list[str]) -> None:  # noqa: ANN401 - ruamel's own types
    for key, value in new.items():
        before = old.get(key)
        if isinstance(value, Mapping) and isinstance(before, Mapping):
            _merge(before, value, f"{path}{key}.", changes)
        elif before != value:
            changes.append(f"{path}{key}: {json.dumps(before)} -> {json.dumps(value)}")
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
    """Return a YAML reader and writer that preserves the formatting of unchanged values."""
    from ruamel.yaml import YAML
    from ruamel.yaml.nodes import ScalarNode
    from ruamel.yaml.representer import RoundTripRepresenter

    class Representer(RoundTripRepresenter):
        """Writes null as `null`: ruamel's own omits the value."""

    def null(representer: RoundTripRepresenter, _: None) -> ScalarNode:
        node: ScalarNode = representer.represent_scalar("tag:yaml.org,2002:null", "null")
        return node

    Representer.add_representer(type(None), null)
    yaml = YAML()
    yaml.Representer = Representer
    yaml.preserve_quotes = True
    yaml.width = 10_000
    return yaml
