"""The outputs of a trained seed: networks/ with run.json, history.csv, cost.json and sheets.npz."""

import csv
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from pipeline.data.prepared import Meta
from pipeline.estimators.catalog import is_estimator
from pipeline.models.count import macs, parameters
from pipeline.models.create import create
from pipeline.storage.bundle import DIVERGED, RUN, write_network
from pipeline.storage.documents import write_json
from pipeline.training.cost import Cost, cost_of, forward_equivalents, join_costs, multiply_adds
from pipeline.training.estimator import TrainingEstimator
from pipeline.training.latency import Latency
from pipeline.training.outputs import COLUMNS
from pipeline.training.run import Result, Run


@dataclass(frozen=True)
class RunOutputs:
    """Writes the outputs of a trained seed.

    name: of the run in costs, STAGE/seed-N.  before: what each network had cost before the run (cost.costs_before).
    student_arch: the architecture whose forward pass is the unit of cost, if the run trains no student.
    """

    meta: Meta
    environment: dict[str, Any]
    latency: Latency
    name: str
    before: Mapping[str, Cost]
    student_arch: str

    def write(self, folder: Path, run: Run, result: Result, about: dict[str, Any]) -> None:
        """Write networks/ with run.json, history.csv, cost.json, and sheets.npz if there are any.

        about: the content of run.json.
        """
        networks = {
            name: estimator_cost(net, result.fit_seconds.get(name))
            if isinstance(net, TrainingEstimator)
            else self.describe(run.networks[name].arch, net.module)
            for name, net in run.nets.items()
        }
        macs_of = {name: described["macs"] or 0 for name, described in networks.items()}
        costs = {
            name: cost_of(name, run.networks, result.passes, run=self.name, macs=macs_of, before=self.before)
            for name in result.networks
        }
        for name, trained in result.networks.items():
            record = {
                "arch": run.networks[name].arch,
                "num_classes": self.meta.num_classes,
                "in_chans": self.meta.in_chans,
                "image_size": list(self.meta.image_size),
                "parameters": networks[name]["parameters"],
                "validation": trained.validation,
                "cost": costs[name],
            }
            if is_estimator(record["arch"]):
                record |= {"options": dict(run.networks[name].options), "copies": run.networks[name].copies}
            write_network(
                folder / "networks", name, record, last=trained.last, best=trained.best, sees=run.networks[name].sees
            )
        student = about.get("student")
        unit = macs_of[student] if student else self.unit()
        spent = sum(multiply_adds(passes, macs_of) for passes in result.passes.values())
        cost = {
            "seconds": result.seconds,
            "steps": result.steps,
            "images_per_second": result.images / result.seconds if result.seconds else None,
            "forward_equivalents_per_step": round(spent / result.images / unit, 4) if result.images else None,
            "forward_equivalents": forward_equivalents(costs[student] if student else join_costs(costs.values()), unit),
            "networks": networks,
            "environment": self.environment,
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

    def describe(self, arch: str, module: nn.Module) -> dict[str, Any]:
        """Size and speed of a network (storage.records.NetworkCost)."""
        return {
            "parameters": parameters(module),
            "macs": macs(module, self.meta.in_chans, self.meta.image_size),
            "latency_ms": self.latency(arch, module),
        }

    def unit(self) -> int:
        """Multiply-adds of the unit of cost in a run that trains no student."""
        shape = {"in_chans": self.meta.in_chans, "image_size": self.meta.image_size}
        module = create(self.student_arch, num_classes=self.meta.num_classes, **shape)
        return macs(module, **shape)


def estimator_cost(net: TrainingEstimator, fit_seconds: float | None) -> dict[str, Any]:
    """The cost of an estimator: the size of its file, and the seconds of its fit in this run.

    Parameters, multiply-adds and latency are for networks.
    """
    return {"parameters": 0, "macs": None, "latency_ms": {}, "bytes": len(net.content), "fit_seconds": fit_seconds}


def write_diverged(folder: Path, at: dict[str, Any], about: dict[str, Any]) -> None:
    """Write what a seed leaves whose loss is not finite: networks/diverged.json.

    at: where that was found.  about: the content of run.json.
    """
    (folder / "networks").mkdir()
    who = {key: about[key] for key in ("method", "is", "student", "members", "seed")}
    write_json(folder / "networks" / DIVERGED, {**who, **at})
