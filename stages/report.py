"""Compare all methods and report whether their differences are significant."""

import json
from pathlib import Path

from stages.command import command


def main() -> None:
    """Compare all methods of params.yaml over their seeds and print the tables.

    Reads results/eval, results/cost, results/train, results/predictions and data/prepared/classes.txt. Writes
    results/summary.json (DVC metrics), results/table.md, results/report.html, results/curves and
    results/confusion.csv (DVC plots).
    """
    from rich.console import Console

    from pipeline.evaluation.comparison import outcomes, summary
    from pipeline.evaluation.page.page import Results, render, write_confusion, write_curves
    from pipeline.evaluation.table import WIDTH, tables
    from pipeline.params.load import load

    p = load("methods", "seeds", "data", "train", "teacher", "student", "assistants")
    compared = outcomes(p["methods"], p["seeds"], Path("results"))
    parts = tables(compared)
    Path("results/summary.json").write_text(json.dumps(summary(compared), indent=2) + "\n")
    Path("results/table.md").write_text("\n".join(part.markdown() for part in parts))
    classes = Path("data/prepared/classes.txt").read_text("utf-8").splitlines()
    results = Results(Path("results"), compared, classes)
    Path("results/report.html").write_text(render(results, p.plain()), "utf-8")
    write_curves(results, Path("results/curves"))
    write_confusion(results, Path("results/confusion.csv"))
    console = Console(width=WIDTH, highlight=False)
    for part in parts:
        part.print(console)
    print("report written to results/report.html")


if __name__ == "__main__":
    command(main)
