"""The command line of a stage: a typer function whose user sees one line, never a traceback, for a mistake."""

import errno
import os
import re
import sys
from collections.abc import Callable
from typing import Annotated, Any

import typer

from pipeline.errors import ParamsError, UserError, first_line, is_disk_full

Seed = Annotated[
    int | None, typer.Option(help="Train only this seed, into the checkpoint store, and write no outputs.", min=0)
]
NAME = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,99}")


def command(main: Callable[..., Any]) -> None:
    """Run the typer function of a stage; exit with the status of a UserError after printing its message."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    try:
        app()
    except UserError as error:
        print_error(str(error))
        sys.exit(error.exit_code)
    except Exception as error:
        if not isinstance(error, OSError) and not is_disk_full(error):
            raise
        print_error(describe(error))
        sys.exit(1)


def describe(error: Exception) -> str:
    """One line about a file that cannot be read or written: the system's reason and, where it is known, the file."""
    if is_disk_full(error) or not isinstance(error, OSError):
        return f"{os.strerror(errno.ENOSPC)}: free space and run the same command again"
    file = error.filename2 or error.filename
    where = f"{ascii(os.fsdecode(file))[1:-1][:300]}: " if isinstance(file, str | bytes | os.PathLike) else ""
    return f"{where}{error.strerror or first_line(error)}"


def check_name(value: str) -> str:
    """The callback of an argument that names an entry of params.yaml. Raises ParamsError for anything but a name.

    The argument is part of paths that a stage replaces, so `..` and an empty name must not reach them.
    """
    if not NAME.fullmatch(value):
        raise ParamsError(f"{value[:100]!r} is not a name of letters, digits, _ and -")
    return value


def print_error(message: str) -> None:
    """Print each line of a message to stderr, with the rank of the process unless that is 0."""
    rank = os.environ.get("RANK", "0")
    where = "" if rank == "0" else f" (process {rank})"
    for line in message.splitlines():
        sys.stderr.write(f"error: {line}{where}\n")  # one write each: several processes may print at once
