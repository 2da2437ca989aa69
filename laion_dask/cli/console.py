"""Print lines, tables and errors on the terminal; used by all commands."""

from __future__ import annotations

import math
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Literal, NoReturn

import typer

from laion_dask.cluster import interrupts
from laion_dask.storage import printable

if TYPE_CHECKING:
    from rich.console import Console, RenderableType
    from rich.table import Table

# A file or a pipe has no width; lines there must not be cut.
_WIDTH_OF_A_PIPE: Final = 160
_STEPS_OF_1000: Final = ("", "k", "M", "G", "T", "P")
_INTERRUPTED: Final = 130
# Exceptions that libraries raise for a damaged file or a wrong format, by module and class.
_DAMAGED: Final = frozenset(
    {
        ("pyarrow.lib", "ArrowInvalid"),
        ("builtins", "UnicodeDecodeError"),
        ("builtins", "EOFError"),
        ("json.decoder", "JSONDecodeError"),
        ("tarfile", "ReadError"),
        ("zipfile", "BadZipFile"),
        ("zlib", "error"),
    }
)
_LISTED: Final = 4


def fail(message: str, status: int = 1) -> NoReturn:
    """End the command with one message on standard error."""
    say(message, err=True)
    raise typer.Exit(status)


def say(text: str, *, err: bool = False) -> None:
    """Print a line; escapes control characters, so that quoted content cannot control the terminal."""
    typer.echo(printable.plain(text), err=err)


@contextmanager
def report_errors(command: str, *, kept: str = "") -> Iterator[None]:
    """End with one message on an error that the user can fix (status 1) or a signal; `kept` says what is not lost.

    A bug raises with its traceback.
    """
    try:
        yield
    except KeyboardInterrupt:
        fail(f"\n{command}: interrupted. {kept}".rstrip(), _INTERRUPTED)
    except interrupts.Ended as ended:
        fail(f"\n{command}: ended by {ended.name}. {kept}".rstrip(), ended.status)
    except BrokenPipeError:
        raise  # the reader of our output has closed the pipe
    except OSError as error:
        fail(f"{command}: {error}. {kept}".rstrip())
    except Exception as error:
        kind = type(error)
        if (kind.__module__, kind.__name__) in _DAMAGED:
            what = " ".join(str(error).split()) or kind.__name__
            fail(f"{command}: a file is damaged or has another format: {what}. Remedy: check its input files")
        # The errors of this project's own modules say what to do; any other is a bug and needs its traceback.
        if kind.__module__.partition(".")[0] not in {"laion_dask", "workflow"}:
            raise
        fail(f"{command}: {error}")


@contextmanager
def flush_output() -> Iterator[None]:
    """Flush standard output at the end, so that a full disk ends the command with a message."""
    try:
        yield
    finally:
        try:
            sys.stdout.flush()
        except OSError:
            # Python flushes again when it exits: redirect that to the null device.
            with open(os.devnull, "wb") as null:  # noqa: PTH123 - the name of a device
                os.dup2(null.fileno(), sys.stdout.fileno())
            raise


@contextmanager
def into(
    out: Path,
    work: Path,
    found: Sequence[str],
    *,
    command: str,
    ours: bool,
    kind: str,
    overwrite: bool,
    by: Callable[[], str] = str,
) -> Iterator[bool]:
    """Prepare the output folder of a command, or refuse it; yield whether an interrupted run is resumed.

    `work` is the folder of unfinished work below `out`; `found` are names that an earlier run has published; `ours`
    says whether this command made them; `kind` is what it makes ("a download"); `by` returns who made it. If the block
    fails before any part has begun, the folders made here are removed.
    """
    what, other = kind.partition(" ")[2], "give another folder with --out"
    if found and not ours and not work.is_dir():
        fail(f"{command}: {out / found[0]} does not belong to {kind}. Remedy: {other}")
    if overwrite:
        shutil.rmtree(work, ignore_errors=True)
    elif found and not work.is_dir():
        listed = "" if len(found) > _LISTED else f" ({', '.join(found)})"
        fail(f"{command}: {out} holds a finished {what}{by()}{listed}. Remedy: --overwrite replaces it, or {other}")
    resumed = (work / "parts").is_dir()
    made = [path for path in (work, *work.parents) if not path.exists()]
    try:
        work.mkdir(parents=True, exist_ok=True)
        (work / "lock").touch()
    except OSError as error:
        fail(f"{command}: cannot write into {out} ({error.strerror}). Remedy: {other}")
    try:
        yield resumed
    except Exception:
        if work in made and not (work / "parts").is_dir():
            shutil.rmtree(work, ignore_errors=True)
            with suppress(OSError):
                for path in made[1:]:
                    path.rmdir()
        raise


def console() -> Console:
    """Return a console as wide as the terminal, or of a fixed width for files and pipes."""
    from rich.console import Console

    class Harmless(Console):
        """A console that escapes control characters in texts; it adds its own colours."""

        def print(self, *objects: Any, **options: Any) -> None:  # noqa: ANN401 - as Rich has it
            super().print(*(printable.plain(one) if isinstance(one, str) else one for one in objects), **options)

    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else _WIDTH_OF_A_PIPE
    # Paths may contain what looks like markup.
    return Harmless(width=width, highlight=False, markup=False, emoji=False)


def cut(line: str) -> str:
    """Return a line that fits the terminal, with an ellipsis where it was cut; for files and pipes it stays whole."""
    width = shutil.get_terminal_size().columns if sys.stdout.isatty() else len(line)
    return line if len(line) <= width else f"{line[: width - 1].rstrip()}…"


def need(command: str, *paths: Path) -> None:
    """End with a message unless the version in this folder has these paths, as in a clone where nothing is built."""
    if missing := [str(path) for path in paths if not path.exists()]:
        here = "" if Path("params.yaml").is_file() else ", and this is not the folder of a project"
        fail(
            f"{command}: nothing is built here: {', '.join(missing)} {'is' if len(missing) == 1 else 'are'} missing"
            f"{here}. Remedy: `make repro` builds the version in the project's folder; `dvc pull` fetches it from a "
            "remote that has it, and `dvc checkout` restores it from the cache"
        )


def table(title: str, *columns: str, right: Iterable[str] = (), wide: str = "") -> Table:
    """Return an empty table: columns `right` are right-aligned, and only the column `wide` wraps lines."""
    from rich.table import Table

    class Harmless(Table):
        """A table that escapes control characters in cells."""

        def add_row(self, *cells: RenderableType | None, **options: Any) -> None:  # noqa: ANN401 - as Rich has it
            super().add_row(*(printable.plain(one) if isinstance(one, str) else one for one in cells), **options)

    numbers = set(right)
    empty = Harmless(title=printable.plain(title), title_justify="left", title_style="italic", header_style="bold")
    for column in columns:
        justify: Literal["left", "right"] = "right" if column in numbers else "left"
        empty.add_column(
            printable.plain(column),
            justify=justify,
            no_wrap=column != wide,
            overflow="fold" if column == wide else "ellipsis",
        )
    return empty


def funnel(title: str, ledgers: Iterable[tuple[str, Mapping[str, Any]]]) -> Table:
    """Return a table of named ledgers: rows seen, kept and dropped by reason."""
    reasons = "dropped, by reason"
    rows = table(title, "step", "seen", "kept", reasons, right=("seen", "kept"), wide=reasons)
    for name, ledger in ledgers:
        dropped = ", ".join(f"{reason} {count:,}" for reason, count in ledger["dropped"].items())
        rows.add_row(name, f"{ledger['seen']:,}", f"{ledger['kept']:,}", dropped)
    return rows


def short(value: float, unit: str = "") -> str:
    """Return a number with three significant digits and an SI prefix: 36.5 G, 361 MB, 0.42."""
    step = 0 if abs(value) < 1000 else min(int(math.log10(abs(value)) / 3), len(_STEPS_OF_1000) - 1)
    scaled = value / 1000**step
    digits = 0 if abs(scaled) >= 100 or (step == 0 and value == int(value)) else 1 if abs(scaled) >= 10 else 2
    return f"{scaled:,.{digits}f} {_STEPS_OF_1000[step]}{unit}".rstrip()
