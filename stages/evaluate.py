"""Evaluate the networks of a method on the test split."""

from pathlib import Path
from typing import Annotated, Any

import typer

from stages.command import check_name, command


def main(
    method: Annotated[str, typer.Argument(callback=check_name, help="An entry of `methods` in params.yaml, e.g. orc.")],
) -> None:
    """Evaluate all networks of METHOD on the test split, with their last and their best weights.

    The best weights are those with the highest validation accuracy. Reads data/prepared, models/students/METHOD and
    the guides that METHOD starts from. Writes results/eval/METHOD.json (metrics of all networks, for every seed that
    ended, and where the others diverged) and results/predictions/METHOD.parquet (logits of the student or of the
    group's members). For a student, also measures what it took over on the training images where its teachers err, and
    writes results/predictions/METHOD.training.parquet (classes that student and teachers give them).
    """
    from pipeline.params.load import runtime
    from pipeline.runtime.threads import set_threads

    set_threads(runtime().threads)
    import torch

    from pipeline.data.prepared import Prepared
    from pipeline.errors import DataError
    from pipeline.evaluation.predictions import write_predictions
    from pipeline.evaluation.testing import Tester, no_predictions, no_training_answers, predictions
    from pipeline.runtime.determinism import enable_determinism
    from pipeline.storage.bundle import read_diverged, read_run, seed_folders
    from pipeline.storage.documents import write_json

    torch.set_num_threads(runtime().threads)
    enable_determinism()
    data = Prepared.read(Path("data/prepared"))
    tester = Tester(data)
    runs = seed_folders(Path("models/students", method))
    if not runs:
        raise DataError(f"models/students/{method} is missing: run `python -m stages.distill {method}` (or dvc repro)")
    seeds: dict[str, Any] = {}
    diverged: dict[str, Any] = {}
    tables, answers = [], []
    metadata: dict[str, Any] = {}
    for run in runs:
        ended = read_diverged(run)
        if ended:
            metadata, diverged[str(ended[0]["seed"])] = ended
            continue
        metadata = read_run(run)
        result, logits = tester.evaluate_seed(run, metadata)
        if metadata["student"]:
            result["training"], table = tester.evaluate_training(run, metadata)
            answers.append(table)
        seeds[str(metadata["seed"])] = result
        tables += [predictions(metadata["seed"], name, z, tester.labels) for name, z in logits.items()]
    report = {key: metadata[key] for key in ("method", "is", "student", "members")}
    report |= {"classes": data.classes, "n_images": len(tester.labels), "seeds": seeds}
    if diverged:
        report["diverged"] = diverged
    folder = Path("results/predictions")
    write_predictions(folder / f"{method}.parquet", tables or [no_predictions(len(data.classes))])
    write_predictions(folder / f"{method}.training.parquet", answers or [no_training_answers()])
    out = Path("results/eval", f"{method}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    write_json(out, report, indent=1)


if __name__ == "__main__":
    command(main)
