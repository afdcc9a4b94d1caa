"""A bundle: a folder of networks, as safetensors files beside one networks.json. Stages hand networks on as bundles.

networks.json maps a name to arch, num_classes, in_chans, image_size, the files of its last and its best-on-validation
weights (absent for a network that has not been trained), its validation accuracy and the file of the rows it may see.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.errors import DataError
from pipeline.models.create import create

INDEX = "networks.json"


@dataclass(frozen=True)
class Record:
    """One network of a bundle. Files are names within the folder of the bundle."""

    arch: str
    num_classes: int | None = None
    in_chans: int | None = None
    image_size: tuple[int, int] | None = None
    weights: str | None = None
    best: str | None = None
    parameters: int | None = None
    validation: dict[str, Any] | None = None
    sees: str | None = None


@dataclass(frozen=True)
class Bundle:
    """The networks of a folder, in their order."""

    folder: Path
    networks: dict[str, Record]

    @classmethod
    def read(cls, folder: Path) -> "Bundle":
        """The bundle in a folder. Raises DataError if there is none."""
        try:
            index = json.loads((folder / INDEX).read_text())
        except FileNotFoundError:
            raise DataError(f"{folder / INDEX} is missing: run the stage that writes {folder} (dvc repro)") from None
        return cls(folder, {name: Record(**record) for name, record in index.items()})

    def load(self, name: str, which: str = "last") -> nn.Module:
        """A trained network, in evaluation mode on the CPU.  which: "last" or "best" (on validation)."""
        record = self.networks[name]
        file = record.weights if which == "last" else record.best
        if file is None or record.num_classes is None or record.in_chans is None or record.image_size is None:
            raise DataError(f"{self.folder}: network {name} has no {which} weights")
        module = create(
            record.arch,
            num_classes=record.num_classes,
            in_chans=record.in_chans,
            image_size=record.image_size,
        )
        module.load_state_dict(load_file(self.folder / file))
        return module.eval()


def write_network(
    folder: Path,
    name: str,
    record: dict[str, Any],
    *,
    last: dict[str, Tensor],
    best: dict[str, Tensor] | None = None,
    sees: np.ndarray | None = None,
) -> None:
    """Add a trained network to the bundle in a folder.

    last, best: its weights.  sees: [N] rows of the training split that it may train on.
    """
    folder.mkdir(parents=True, exist_ok=True)
    stem = name.replace("/", "-")
    record = {**record, "weights": f"{stem}.last.safetensors"}
    save_file(last, folder / record["weights"])
    if best is not None:
        record["best"] = f"{stem}.best.safetensors"
        save_file(best, folder / record["best"])
    if sees is not None:
        record["sees"] = f"{stem}.sees.npy"
        np.save(folder / record["sees"], sees)
    add_record(folder, name, record)


def copy_network(source: Path, name: str, folder: Path, new_name: str) -> None:
    """Copy one network of the bundle in `source` into the bundle in `folder`, under a new name."""
    record = json.loads((source / INDEX).read_text())[name]
    for key in ("weights", "best", "sees"):
        if record.get(key):
            suffix = record[key].removeprefix(f"{name}.")
            shutil.copyfile(source / record[key], folder / f"{new_name}.{suffix}")
            record[key] = f"{new_name}.{suffix}"
    add_record(folder, new_name, record)


def add_record(folder: Path, name: str, record: dict[str, Any]) -> None:
    """Add a network to networks.json. A record with nothing but `arch` is a network that has yet to be trained."""
    index = folder / INDEX
    networks = json.loads(index.read_text()) if index.exists() else {}
    networks[name] = record
    index.write_text(json.dumps(networks, indent=2) + "\n")
