"""Evaluate a method's networks on the test split: the only stage that reads it."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.command import command


def main(
    method: Annotated[str, typer.Argument(help="An entry of `methods` in params.yaml, e.g. orc.")],
) -> None:
    """Test every network of METHOD's runs, with its last and its best-on-validation weights.

    Reads data/prepared, models/students/METHOD and the guides that it learned from; writes results/eval/METHOD.json
    (all seeds, all networks) and results/predictions/METHOD.parquet (the logits of what METHOD ends in).
    """
    from pipeline.core.launch import settle_threads
    from pipeline.params.load import runtime

    settle_threads(runtime().threads)
    import torch

    from pipeline.core.numerics import settle
    from pipeline.data.prepared import Prepared
    from pipeline.errors import DataError
    from pipeline.evaluation.testing import Tester, predictions

    torch.set_num_threads(runtime().threads)
    settle()
    tester = Tester(Prepared.read(Path("data/prepared")))
    runs = sorted(Path("models/students", method).glob("seed-*"), key=lambda run: int(run.name.split("-")[1]))
    if not runs:
        raise DataError(f"models/students/{method} is missing: run `python -m stages.distill {method}` (or dvc repro)")
    seeds: dict[str, Any] = {}
    tables = []
    about: dict[str, Any] = {}
    for run in runs:
        about = json.loads((run / "run.json").read_text())
        result, logits = tester.run(run, about)
        seeds[str(about["seed"])] = result
        tables += [predictions(about["seed"], name, z, tester.labels) for name, z in logits.items()]
    report = {key: about[key] for key in ("method", "is", "student", "members")}
    write_table(Path("results/predictions", f"{method}.parquet"), tables)
    out = Path("results/eval", f"{method}.json")
    out.parent.mkdir(parents=True, exist_ok=True)
    out.write_text(json.dumps({**report, "n_images": len(tester.labels), "seeds": seeds}, indent=1) + "\n")


def write_table(file: Path, tables: list[Any]) -> None:
    import polars as pl

    file.parent.mkdir(parents=True, exist_ok=True)
    pl.concat(tables).write_parquet(file, compression="zstd", statistics=False)


if __name__ == "__main__":
    command(main)
