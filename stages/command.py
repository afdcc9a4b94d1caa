"""The command line of a stage: a typer function whose user sees one line, never a traceback, for a mistake."""

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline.errors import UserError

DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


def command(main: Callable[..., Any]) -> None:
    """Run the typer function of a stage; exit with the status of a UserError after printing its message."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    try:
        app()
    except UserError as error:
        print_error(str(error))
        sys.exit(error.exit_code)
    except OSError as error:  # shutil.copytree gives the error number only within its message
        full = next((code for code in DISK_FULL if error.errno == code or f"[Errno {code}]" in str(error)), None)
        if full is None:
            raise
        print_error(f"{os.strerror(full)}: free space and run the same command again")
        sys.exit(1)


def print_error(message: str) -> None:
    """Print each line of a message to stderr, with the rank of the process unless that is 0."""
    rank = os.environ.get("RANK", "0")
    where = "" if rank == "0" else f" (process {rank})"
    for line in message.splitlines():
        sys.stderr.write(f"error: {line}{where}\n")  # one write each: several processes may print at once
