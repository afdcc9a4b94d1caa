"""The outputs of the seeds of a stage, joined. This module imports neither torch nor timm."""

from pathlib import Path
from typing import Any

from pipeline.storage.documents import read_json, write_json
from pipeline.storage.folders import file_digest
from pipeline.storage.records import RunCost

COLUMNS = ("seed", "leg", "epoch", "network", "term", "value")  # of history.csv


def join_history(target: Path, seeds: list[Path]) -> None:
    """Write one history.csv of the folders of several seeds, of which there may be none."""
    lines = [(folder / "history.csv").read_text("utf-8").split("\n")[:-1] for folder in seeds]
    rows = [",".join(COLUMNS), *(line for part in lines for line in part[1:])]
    target.write_text("\n".join(rows) + "\n", "utf-8")


def join_cost(
    target: Path, seeds: dict[int, Path], parameters: dict[str, Any], records: Path, environment: dict[str, Any]
) -> None:
    """Write one cost file of the folders of several seeds, with the parameters that decided them.

    Without a seed, because all have diverged, it holds no network.

    records: the folder results/train/METHOD, whose files' digests are recorded.  environment: of this process.
    """
    costs = {seed: read_json(folder / "cost.json", RunCost) for seed, folder in seeds.items()}
    first = next(iter(costs.values()), {"networks": {}, "environment": environment})
    shared = ("networks", "environment")
    per_seed = {seed: {k: v for k, v in cost.items() if k not in shared} for seed, cost in costs.items()}
    content = {"seeds": per_seed, **{k: first[k] for k in shared}, "parameters": parameters}
    write_json(target, {**content, "sha256": {file.name: file_digest(file) for file in sorted(records.iterdir())}})
