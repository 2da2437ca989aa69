"""Train the demo's small models: `python -m laion_dask.demo.train COMMAND`.

Each command writes one model into its folder of the package, or into --out, and prints what it measures on held-out
pictures and texts. The same seed on the same machine gives the same files.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Final

import typer

from laion_dask.storage import packaged

HELP: Final = """Train the demo's small models, each from a seed, and print what they do on held-out pictures and texts.

They only work for the demo's drawings and captions: for a real crawl, name pretrained models in params.yaml.
Times are those of 2 cores of a server.
"""

app = typer.Typer(add_completion=False, rich_markup_mode=None, help=HELP, no_args_is_help=True)

_DEMO: Final = packaged.file("demo")
Seed = Annotated[int, typer.Option(help="Start of every random number; what is held out does not depend on it.")]
Out = Annotated[Path, typer.Option(help="Folder to write to, or to evaluate.")]
EvaluateOnly = Annotated[bool, typer.Option("--evaluate", help="Only measure what is in the folder.")]


@contextmanager
def _timed(what: str) -> Iterator[None]:
    typer.echo(f"{what}: begins")
    start = time.monotonic()
    yield
    minutes, seconds = divmod(round(time.monotonic() - start), 60)
    typer.echo(f"{what}: done in {minutes} min {seconds} s")


@app.command()
def clip(out: Out = _DEMO / "model", seed: Seed = 1, *, evaluate: EvaluateOnly = False) -> None:
    """Train the small CLIP with its heads."""
    from laion_dask.demo.training import train  # noqa: PLC0415 - torch, seconds

    with _timed("clip"):
        train.main(out, seed=seed, evaluate_only=evaluate)


@app.command()
def faces(
    out: Annotated[Path, typer.Option(metavar="FILE", help="The ONNX file to write.")] = _DEMO / "model/faces.onnx",
    seed: Seed = 7,
) -> None:
    """Train the detector of drawn faces."""
    from laion_dask.demo.training import faces as detector  # noqa: PLC0415 - torch, seconds

    with _timed("faces"):
        detector.main(out, seed=seed)


@app.command()
def captioner(out: Out = _DEMO / "captioner", seed: Seed = 1, *, evaluate: EvaluateOnly = False) -> None:
    """Train the small captioner, about 22 minutes with its pictures."""
    from laion_dask.demo.training import captioner, evaluate_texts  # noqa: PLC0415 - torch, seconds

    with _timed("captioner"):
        if not evaluate:
            captioner.train(out, seed, say=typer.echo)
        found = evaluate_texts.evaluate_captioner(evaluate_texts.load_captioner(out))
        typer.echo(evaluate_texts.report_captioner(found))


@app.command()
def translator(out: Out = _DEMO / "translator", seed: Seed = 1, *, evaluate: EvaluateOnly = False) -> None:
    """Train the small translator and convert it for CTranslate2, about 7 minutes."""
    from laion_dask.demo.training import evaluate_texts, translator  # noqa: PLC0415 - torch, seconds

    with _timed("translator"):
        if not evaluate:
            translator.train(out, seed, say=typer.echo)
        found = evaluate_texts.evaluate_translator(evaluate_texts.load_translator(out))
        typer.echo(evaluate_texts.report_translator(found))


@app.command("all")
def every(out: Annotated[Path, typer.Option(help="Folder of the folders to write to.")] = _DEMO) -> None:
    """Train all four, one after the other."""
    clip(out / "model")
    faces(out / "model" / "faces.onnx")
    captioner(out / "captioner")
    translator(out / "translator")


if __name__ == "__main__":
    app()
