"""Fail if a method has diverged, after everything else has run."""

import json
from pathlib import Path

from stages.command import command


def main() -> None:
    """Exit with status 1 and one line for each method of results/summary.json that has diverged in some seed.

    It is the last stage, so a method that diverges costs no other method its place in the table, and `dvc repro` still
    says that something is wrong.
    """
    from pipeline.errors import DataError

    file = Path("results/summary.json")
    try:
        summary = json.loads(file.read_text("utf-8"))
        found = {name: int(method["diverged"]) for name, method in summary.items() if method.get("diverged")}
    except FileNotFoundError:
        raise DataError(f"{file} is missing: run `dvc repro report`") from None
    except (OSError, ValueError, AttributeError, TypeError):
        raise DataError(f"{file} is damaged: run `dvc repro report` to write it again") from None
    if found:
        lines = [
            f"{name} diverged in {n} seed{'s' if n > 1 else ''}; the table has the others" for name, n in found.items()
        ]
        raise DataError("\n".join(lines))


if __name__ == "__main__":
    command(main)
