"""Compare all methods and report whether their differences are significant."""

from pathlib import Path

from stages.command import command


def main() -> None:
    """Compare all methods of params.yaml with report.reference over their seeds, and print the tables.

    Reads results/eval, results/cost, results/train, results/predictions and the test split of data/prepared. Writes
    results/summary.json (DVC metrics), results/table.md, results/report.html, results/curves.csv and
    results/confusion.csv (DVC plots).
    """
    from rich.console import Console

    from pipeline.data.prepared import Prepared
    from pipeline.evaluation.comparison import summary
    from pipeline.evaluation.notes import notes
    from pipeline.evaluation.outcomes import outcomes
    from pipeline.evaluation.page.page import render, write_confusion, write_curves
    from pipeline.evaluation.page.results import Results
    from pipeline.evaluation.table import WIDTH, markdown, tables
    from pipeline.params.load import load
    from pipeline.storage.atomic import replace_file
    from pipeline.storage.documents import write_plain_json

    p = load("methods", "seeds", "data", "train", "teacher", "student", "assistants", "report")
    reference = p["report"].reference
    data = Prepared.read(Path("data/prepared"))
    compared = outcomes(p["methods"], p["seeds"], Path("results"))
    parts = tables(compared, reference, p["report"].margin)
    lines = notes(compared, reference, data.labels("test"), not p["teacher"].shared)
    results = Results(Path("results"), compared, reference, p["report"].margin)
    page = render(results, p.plain(), notes=lines, images=data.images("test") if data.meta.root is None else None)
    write_plain_json(Path("results/summary.json"), summary(compared, reference, p["report"].margin))
    replace_file(Path("results/table.md"), [markdown(parts, lines).encode()])
    replace_file(Path("results/report.html"), [page.encode()])
    write_curves(results, Path("results/curves.csv"))
    write_confusion(results, Path("results/confusion.csv"))
    console = Console(width=WIDTH, highlight=False)
    for part in parts:
        part.print(console)
    for line in lines:
        print(line)
    print("report written to results/report.html")


if __name__ == "__main__":
    command(main)
