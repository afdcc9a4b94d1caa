"""The outputs of a trained seed, and how those of several seeds are joined."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.prepared import Meta
from pipeline.models.count import latency, macs, parameters
from pipeline.storage.bundle import RUN, write_network
from pipeline.storage.documents import read_json, write_json
from pipeline.storage.folders import file_digest
from pipeline.storage.records import RunCost
from pipeline.training.metrics import COLUMNS
from pipeline.training.run import Result, Run

LATENCY_BATCHES = (1, 64)


def write_run(
    folder: Path, run: Run, result: Result, meta: Meta, environment: dict[str, Any], about: dict[str, Any]
) -> None:
    """Write the outputs of one seed: networks/ with run.json, history.csv, cost.json, and sheets.npz if there are any.

    about: the content of run.json.
    """
    shape = (meta.in_chans, meta.image_size)
    networks = {
        name: {
            "parameters": parameters(net.module),
            "macs": macs(net.module, *shape),
            "latency_ms": {str(batch): round(latency(net.module, *shape, batch), 4) for batch in LATENCY_BATCHES},
        }
        for name, net in run.nets.items()
    }
    for name, trained in result.networks.items():
        record = {
            "arch": run.networks[name].arch,
            "num_classes": meta.num_classes,
            "in_chans": meta.in_chans,
            "image_size": list(meta.image_size),
            "parameters": networks[name]["parameters"],
            "validation": trained.validation,
        }
        write_network(
            folder / "networks", name, record, last=trained.last, best=trained.best, sees=run.networks[name].sees
        )
    cost = {
        "seconds": result.seconds,
        "steps": result.steps,
        "images_per_second": result.images / result.seconds if result.seconds else None,
        "forward_equivalents_per_step": forward_equivalents(run, result, meta, about.get("student")),
        "networks": networks,
        "environment": environment,
    }
    write_json(folder / "networks" / RUN, about)
    if result.sheets:
        pixels = {name: torch.stack(sheet).round().to(torch.uint8).numpy() for name, sheet in result.sheets.items()}
        np.savez_compressed(folder / "sheets.npz", allow_pickle=False, **pixels)
    write_json(folder / "cost.json", cost)
    with (folder / "history.csv").open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((about["seed"], *row[:4], repr(row[4])) for row in result.history)


def forward_equivalents(run: Run, result: Result, meta: Meta, student: str | None) -> float | None:
    """The cost of a step in forward passes of the student (of the first network if there is no student).

    Counted in multiply-adds; a backward pass counts as two forward passes. Logits from the cache count as if they were
    computed: this is what the method asks for. None for a run without steps.
    """
    if not result.steps:
        return None
    cost = {name: macs(net.module, meta.in_chans, meta.image_size) for name, net in run.nets.items()}
    total = sum(cost[name] * (3 * learnt + taught) for name, (learnt, taught) in result.passes.items())
    return round(total / result.steps / cost[student or next(iter(cost))], 4)


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
