"""How a stage meets the command line: a typer function whose user sees one line, never a traceback, for a mistake."""

import os
import sys
from collections.abc import Callable
from typing import Any

import typer

from pipeline.errors import UserError


def command(main: Callable[..., Any]) -> None:
    """Run a stage's typer function."""
    app = typer.Typer(add_completion=False, pretty_exceptions_enable=False, rich_markup_mode=None)
    app.command()(main)
    try:
        app()
    except UserError as mistake:
        rank = os.environ.get("RANK", "0")
        where = "" if rank == "0" else f" (process {rank})"
        for line in str(mistake).splitlines():
            print(f"error: {line}{where}", file=sys.stderr)
        sys.exit(mistake.exit_code)
