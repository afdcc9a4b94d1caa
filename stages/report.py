"""Compare all methods and report whether their differences are significant."""

from pathlib import Path

from stages.command import command


def main() -> None:
    """Compare all methods of params.yaml over their seeds and print the tables.

    Reads results/eval, results/cost, results/train and results/predictions. Writes results/summary.json (DVC metrics),
    results/table.md, results/report.html, results/curves and results/confusion.csv (DVC plots).
    """
    from rich.console import Console

    from pipeline.evaluation.comparison import outcomes, summary
    from pipeline.evaluation.page.page import Results, render, write_confusion, write_curves
    from pipeline.evaluation.table import WIDTH, tables
    from pipeline.params.load import load
    from pipeline.storage.atomic import replace_file
    from pipeline.storage.documents import write_plain_json

    p = load("methods", "seeds", "data", "train", "teacher", "student", "assistants")
    compared = outcomes(p["methods"], p["seeds"], Path("results"))
    parts = tables(compared)
    results = Results(Path("results"), compared)
    page = render(results, p.plain())
    write_plain_json(Path("results/summary.json"), summary(compared))
    replace_file(Path("results/table.md"), ["\n".join(part.markdown() for part in parts).encode()])
    replace_file(Path("results/report.html"), [page.encode()])
    write_curves(results, Path("results/curves"))
    write_confusion(results, Path("results/confusion.csv"))
    console = Console(width=WIDTH, highlight=False)
    for part in parts:
        part.print(console)
    print("report written to results/report.html")


if __name__ == "__main__":
    command(main)
