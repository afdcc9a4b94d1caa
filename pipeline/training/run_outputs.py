"""The outputs of a trained seed: networks/ with run.json, history.csv, cost.json and sheets.npz."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.prepared import Meta
from pipeline.models.count import macs, parameters
from pipeline.storage.bundle import DIVERGED, RUN, write_network
from pipeline.storage.documents import write_json
from pipeline.training.latency import Latency
from pipeline.training.outputs import COLUMNS
from pipeline.training.run import Result, Run


def write_run(
    folder: Path,
    run: Run,
    result: Result,
    meta: Meta,
    environment: dict[str, Any],
    about: dict[str, Any],
    latency: Latency,
) -> None:
    """Write the outputs of one seed: networks/ with run.json, history.csv, cost.json, and sheets.npz if there are any.

    about: the content of run.json.
    """
    shape = (meta.in_chans, meta.image_size)
    networks = {
        name: {
            "parameters": parameters(net.module),
            "macs": macs(net.module, *shape),
            "latency_ms": latency(run.networks[name].arch, net.module),
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


def write_diverged(folder: Path, at: dict[str, Any], about: dict[str, Any]) -> None:
    """Write what a seed leaves whose loss is not finite: networks/diverged.json.

    at: where that was found.  about: the content of run.json.
    """
    (folder / "networks").mkdir()
    who = {key: about[key] for key in ("method", "is", "student", "members", "seed")}
    write_json(folder / "networks" / DIVERGED, {**who, **at})
