"""What a trained seed leaves behind, and how several seeds' are put together."""

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.core.bundle import write_network
from pipeline.core.history import COLUMNS
from pipeline.core.run import Result, Run
from pipeline.data.prepared import Meta
from pipeline.models.count import latency, macs, parameters

LATENCY_BATCHES = (1, 64)


def write_run(
    folder: Path, run: Run, result: Result, meta: Meta, environment: dict[str, Any], about: dict[str, Any]
) -> None:
    """The outs of one seed in a folder: networks/ with run.json (about), history.csv, cost.json."""
    shape = (meta.in_chans, meta.image_size)
    networks = {
        name: {
            "parameters": parameters(net.bare),
            "macs": macs(net.bare, *shape),
            "latency_ms": {str(batch): round(latency(net.bare, *shape, batch), 4) for batch in LATENCY_BATCHES},
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
    write_json(folder / "networks" / "run.json", about)
    if result.sheets:
        pixels = {name: torch.stack(sheet).round().to(torch.uint8).numpy() for name, sheet in result.sheets.items()}
        np.savez_compressed(folder / "sheets.npz", allow_pickle=False, **pixels)
    write_json(folder / "cost.json", cost)
    with (folder / "history.csv").open("w", newline="") as out:
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(COLUMNS)
        writer.writerows((about["seed"], *row[:4], repr(row[4])) for row in result.rows)


def forward_equivalents(run: Run, result: Result, meta: Meta, student: str | None) -> float | None:
    """What a step costs, in forwards of the student (without one: of the first network): by multiply-adds, a backward
    being two forwards. The store of logits is not seen here: this is what the method asks for.
    """
    if not result.steps:
        return None
    cost = {name: macs(net.bare, meta.in_chans, meta.image_size) for name, net in run.nets.items()}
    total = sum(cost[name] * (3 * learnt + taught) for name, (learnt, taught) in result.passes.items())
    return round(total / result.steps / cost[student or next(iter(cost))], 4)


def write_json(path: Path, content: Any) -> None:
    path.write_text(json.dumps(content, indent=2) + "\n")


def replace_folder(target: Path, fill: Callable[[Path], object]) -> None:
    """Fill a folder beside the target, then put it in the target's place: never half-written."""
    partial = target.with_name(f".{target.name}.partial")
    shutil.rmtree(partial, ignore_errors=True)
    partial.mkdir(parents=True)
    fill(partial)
    shutil.rmtree(target, ignore_errors=True)
    partial.replace(target)


def join_history(target: Path, seeds: list[Path]) -> None:
    """One history.csv of several seeds' folders."""
    lines = [(folder / "history.csv").read_text().splitlines() for folder in seeds]
    target.write_text("\n".join([lines[0][0], *(line for part in lines for line in part[1:])]) + "\n")


def join_cost(target: Path, seeds: dict[int, Path], parameters: dict[str, Any]) -> None:
    """One cost file of several seeds' folders, with the parameters that decided them."""
    costs = {seed: json.loads((folder / "cost.json").read_text()) for seed, folder in seeds.items()}
    first = next(iter(costs.values()))
    own = ("networks", "environment")
    per_seed = {seed: {k: v for k, v in cost.items() if k not in own} for seed, cost in costs.items()}
    write_json(target, {"seeds": per_seed, **{k: first[k] for k in own}, "parameters": parameters})
