"""Read img2dataset's options of `laion-dask download`, and say what they mean here or why they are refused.

img2dataset writes `--image_size=256`, `--image_size 256` or, for a switch, `--skip_reencode`. An option that has a
counterpart becomes it. One that decides nothing about the data set is left out, with a note. One that would give
another data set than asked for is refused with the remedy: nothing is ignored in silence.
"""

from __future__ import annotations

import ast
import shlex
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Final

from typer.core import TyperCommand

from laion_dask.cli import console

if TYPE_CHECKING:
    from typer._click import Context

Meaning = list[str] | str
"""Arguments in this program's spelling, or why the option is left out."""


class OptionError(Exception):
    """An option of img2dataset asks for what this program does not do; the message has key, value and remedy."""


class Download(TyperCommand):
    """The command download, which also takes img2dataset's options."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Translate img2dataset's options, print the command that they mean, and parse it."""
        with console.report_errors("download"):
            translated, notes = translate(args)
        for note in notes:
            console.say(f"download: {note}", err=True)
        if translated != args:
            console.say(f"download: this means: laion-dask download {shlex.join(translated)}", err=True)
        return super().parse_args(ctx, translated)


def translate(args: Sequence[str]) -> tuple[list[str], list[str]]:
    """Return the arguments with img2dataset's options replaced, and a note for each that was left out.

    Raises `OptionError` for an option that asks for another data set than this program makes.
    """
    found: list[str] = []
    notes: list[str] = []
    rest = list(args)
    while rest:
        word = rest.pop(0)
        if word == "--":
            return [*found, word, *rest], notes
        name, equals, value = word.removeprefix("--").partition("=")
        key = name.replace("-", "_")
        if not word.startswith("--") or name in _ALIKE or key not in _MEANINGS:
            found.append(word)
            continue
        if not equals:
            value = rest.pop(0) if rest and not rest[0].startswith("--") else "True"
        meaning = _MEANINGS[key](value)
        if isinstance(meaning, str):
            notes.append(f"--{key} {value} is left out: {meaning}")
        else:
            found += meaning
    return found, notes


def _same(option: str) -> Callable[[str], Meaning]:
    return lambda value: [option, value]


def _is_true(value: str) -> bool:
    return value.lower() in {"true", "1", "yes"}


def _refused(name: str, why: str, remedy: str, *, but: Mapping[str, Meaning] | None = None) -> Callable[[str], Meaning]:
    """Refuse an option, but for values that mean what this program does anyway, by lower-case value."""

    def read(value: str) -> Meaning:
        meaning = (but or {}).get(value.lower())
        if meaning is None:
            raise OptionError(f"--{name} {value} is refused: {why}. Remedy: {remedy}")
        return meaning

    return read


def _ignored(why: str) -> Callable[[str], Meaning]:
    return lambda _: why


def _tables(value: str) -> Meaning:
    folder = Path(value)
    if not folder.is_dir():
        return [value]
    names = sorted(path for path in folder.iterdir() if path.is_file() and not path.name.startswith((".", "_")))
    if not names:
        raise OptionError(f"--url_list {value} is a folder without files. Remedy: the folder of the tables")
    return [str(path) for path in names]


def _format(value: str) -> Meaning:
    name = value.removesuffix(".gz")
    return ["--input-format", "jsonl" if name == "json" else name]


def _columns(value: str) -> Meaning:
    names = _list(value)
    return ["--save-additional-columns", ",".join(names)] if names else "no further column is asked for"


def _list(value: str) -> list[str]:
    """Return the texts of a list in Python's or JSON's notation; another text is one name."""
    try:
        read = ast.literal_eval(value)
    except (SyntaxError, ValueError):
        return [value]
    return [str(one) for one in read] if isinstance(read, list | tuple) else [] if read is None else [value]


def _hash(value: str) -> Meaning:
    names = _list(value)
    return ["--hash-col", names[0]] if names else "no column of hashes is named"


def _smaller(value: str) -> Meaning:
    return ["--smaller", "keep" if _is_true(value) else "enlarge"]


def _bodies(name: str) -> Callable[[str], Meaning]:
    def read(value: str) -> Meaning:
        if not _is_true(value):
            return "images are encoded again, as asked"
        if name == "skip_reencode":
            raise OptionError(
                "--skip_reencode True is refused: an image that needs no resizing is encoded again here, like all "
                "others. Remedy: leave it out; --encode-format original --resize-mode no keeps every body as received"
            )
        return ["--encode-format", "original", "--resize-mode", "no"]

    return read


_ALIKE: Final = frozenset(
    {
        "bbox-col",
        "caption-col",
        "encode-format",
        "encode-quality",
        "image-size",
        "input-format",
        "resize-mode",
        "retries",
        "save-additional-columns",
        "timeout",
        "url-col",
    }
)
"""Options that both programs have by this spelling; they need no translation."""
_NOT_NEEDED: Final = "this program does so anyway"
_FILTERS: Final = "there is one filter for each direction"
_SIZES: Final = "a download records sizes and drops nothing by them"
_QUERY: Final = "leave it out, and query original_width and original_height, or set filter.{} in a project"
_LEAVE: Final = "leave it out"

_MEANINGS: Final[Mapping[str, Callable[[str], Meaning]]] = {
    "url_list": _tables,
    "image_size": _same("--image-size"),
    "output_folder": _same("--out"),
    "processes_count": _same("--workers"),
    "resize_mode": _same("--resize-mode"),
    "resize_only_if_bigger": _smaller,
    "upscale_interpolation": _refused("upscale_interpolation", _FILTERS, _LEAVE, but={"lanczos": _NOT_NEEDED}),
    "downscale_interpolation": _refused("downscale_interpolation", _FILTERS, _LEAVE),
    "encode_quality": _same("--encode-quality"),
    "encode_format": _same("--encode-format"),
    "skip_reencode": _bodies("skip_reencode"),
    "output_format": _refused(
        "output_format",
        "it writes shards of tars only",
        "webdataset; `tar xf` gives files",
        but={"webdataset": _NOT_NEEDED},
    ),
    "input_format": _format,
    "url_col": _same("--url-col"),
    "caption_col": _same("--caption-col"),
    "bbox_col": _same("--bbox-col"),
    "thread_count": _same("--connections"),
    "number_sample_per_shard": _same("--shard-rows"),
    "extract_exif": _refused(
        "extract_exif", "EXIF holds places and names of people", _LEAVE, but={"false": _NOT_NEEDED}
    ),
    "save_additional_columns": _columns,
    "enable_wandb": _ignored("a project records its versions in MLflow"),
    "wandb_project": _ignored("a project records its versions in MLflow"),
    "oom_shard_count": _same("--shard-digits"),
    "compute_hash": _refused(
        "compute_hash",
        "md5 and sha256 of every body are recorded, always",
        _LEAVE,
        but={"md5": _NOT_NEEDED, "sha256": _NOT_NEEDED},
    ),
    "verify_hash": _hash,
    "distributor": _refused(
        "distributor",
        "Dask spreads the work",
        "leave it out; DASK_LAION_DASK__CLUSTER__KIND names a scheduler of other machines",
        but={"multiprocessing": "Dask spreads the work over processes"},
    ),
    "subjob_size": _ignored("a task is a shard"),
    "disable_all_reencoding": _bodies("disable_all_reencoding"),
    "min_image_size": _refused("min_image_size", _SIZES, _QUERY.format("min_side_px"), but={"0": _NOT_NEEDED}),
    "max_image_area": _same("--max-pixels"),
    "max_aspect_ratio": _refused(
        "max_aspect_ratio", _SIZES, _QUERY.format("max_aspect_ratio"), but={"inf": _NOT_NEEDED}
    ),
    "incremental_mode": _refused(
        "incremental_mode",
        "a finished download is not extended",
        "another folder",
        but={"incremental": "the same command resumes", "overwrite": ["--overwrite"]},
    ),
    "max_shard_retry": _ignored("the same command makes only unfinished shards"),
    "user_agent_token": _refused(
        "user_agent_token", "the user agent names this program and its contact", "--contact", but={"none": _NOT_NEEDED}
    ),
    "disallowed_header_directives": _refused(
        "disallowed_header_directives",
        "X-Robots-Tag is one of several opt-outs",
        "--rights with those to obey; download.opt_out_directives in a file for --params has the directives",
    ),
}
