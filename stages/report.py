"""Say which method won, and whether by more than noise."""

import json
from pathlib import Path

from stages.command import command


def main() -> None:
    """Compare all methods of params.yaml on their seeds.

    Reads results/eval and results/cost; writes results/summary.json (DVC's metrics) and results/table.md, and prints
    the table.
    """
    from rich.console import Console

    from pipeline.evaluation.comparison import outcomes, summary
    from pipeline.evaluation.table import tables
    from pipeline.params.load import load

    p = load("methods", "seeds")
    compared = outcomes(list(p["methods"]), p["seeds"], Path("results"))
    parts = tables(compared)
    Path("results/summary.json").write_text(json.dumps(summary(compared), indent=2) + "\n")
    Path("results/table.md").write_text("\n".join(part.markdown() for part in parts))
    console = Console(width=118, highlight=False)
    for part in parts:
        part.show(console)


if __name__ == "__main__":
    command(main)
