"""Compare all methods and report whether their differences are significant."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import command


def main(
    study: Annotated[
        Path | None, typer.Option(help="Folder of a study: report what it keeps, e.g. studies/cifar100.")
    ] = None,
) -> None:
    """Compare all methods of params.yaml with report.reference over their seeds, and print the tables.

    Reads results/eval, results/cost, results/train, results/predictions and the test split of data/prepared. Writes
    results/summary.json (DVC metrics), results/table.md, results/report.html, results/curves.csv and
    results/confusion.csv (DVC plots).

    With --study, params.yaml and results/ are those of the study, and results/accuracy.svg is written, too. A study has
    neither predictions nor data: the figures that need them are left out. An unfinished study is reported for seeds
    that most of its methods have, and a line names the methods that lack some of them.
    """
    from rich.console import Console

    from pipeline.data.prepared import Prepared
    from pipeline.errors import DataError
    from pipeline.evaluation.comparison import summary
    from pipeline.evaluation.notes import listed, notes
    from pipeline.evaluation.outcomes import outcomes
    from pipeline.evaluation.page.page import render, write_confusion, write_curves, write_picture
    from pipeline.evaluation.page.results import Results
    from pipeline.evaluation.study import collected
    from pipeline.evaluation.table import WIDTH, markdown, tables
    from pipeline.evaluation.trials import data_digest
    from pipeline.params.load import load
    from pipeline.storage.atomic import replace_file
    from pipeline.storage.documents import write_plain_json

    root = study or Path()
    if study is not None and not (study / "params.yaml").is_file():
        raise DataError(f"--study: {study / 'params.yaml'} is missing")
    file = root / "params.yaml"
    p = load("methods", "seeds", "data", "train", "teacher", "student", "assistants", "report", file=file)
    reference, margin, folder = p["report"].reference, p["report"].margin, root / "results"
    data = Prepared.read(Path("data/prepared")) if study is None else None
    images = data.images("test") if data and data.has_images else None
    methods, seeds, unfinished = p["methods"], p["seeds"], {}
    if study is not None:
        methods, seeds, unfinished = collected(methods, seeds, reference, folder)
    of_data = data_digest(data) if data else None
    compared = outcomes(methods, seeds, folder, study=study is not None, data=of_data)
    parts = tables(compared, reference, margin)
    lines = notes(compared, reference, data.labels("test") if data else None, not p["teacher"].shared)
    if unfinished:
        has = {name: f"seed{'s' * (len(its) > 1)} {listed(its)}" if its else "none" for name, its in unfinished.items()}
        of_methods = ", ".join(f"{name} (has {its})" for name, its in has.items())
        lines.append(f"Left out because seeds are missing: {of_methods}.")
    results = Results(folder, compared, reference, margin, has_predictions=study is None)
    page = render(results, p.plain(), notes=lines, images=images)
    write_plain_json(folder / "summary.json", summary(compared, reference, margin))
    replace_file(folder / "table.md", [markdown(parts, lines).encode()])
    replace_file(folder / "report.html", [page.encode()])
    write_curves(results, folder / "curves.csv")
    if study is not None:
        write_picture(results, folder / "accuracy.svg")
    if results.has_predictions:
        write_confusion(results, folder / "confusion.csv")
    console = Console(width=WIDTH, highlight=False)
    for part in parts:
        part.print(console)
    for line in lines:
        print(line)
    print(f"report written to {folder / 'report.html'}")


if __name__ == "__main__":
    command(main)
