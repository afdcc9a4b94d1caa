"""How a stage meets the command line: a typer function whose user sees one line, never a traceback, for a mistake."""

import errno
import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline.errors import UserError

FULL = (errno.ENOSPC, errno.EDQUOT)


def command(main: Callable[..., Any]) -> None:
    """Run a stage's typer function."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    try:
        app()
    except UserError as mistake:
        tell(str(mistake))
        sys.exit(mistake.exit_code)
    except OSError as error:  # copying a folder says it as text only
        full = next((code for code in FULL if error.errno == code or f"[Errno {code}]" in str(error)), None)
        if full is None:
            raise
        tell(f"{os.strerror(full)}: make room and run the same command again")
        sys.exit(1)


def tell(mistake: str) -> None:
    rank = os.environ.get("RANK", "0")
    where = "" if rank == "0" else f" (process {rank})"
    for line in mistake.splitlines():
        sys.stderr.write(f"error: {line}{where}\n")  # at once: several processes may have something to say
