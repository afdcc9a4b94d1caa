"""A bundle: a folder of networks, as safetensors beside one networks.json. What stages hand each other.

networks.json maps a name to arch, num_classes, in_chans, image_size, the files of its last and best-on-validation
weights (null for a network that has yet to be trained), its validation accuracy and the rows that it may see.
"""

import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from pipeline.core.vocabulary import Network
from pipeline.errors import DataError
from pipeline.models.create import create

INDEX = "networks.json"


@dataclass(frozen=True)
class Record:
    """One network of a bundle."""

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
        try:
            index = json.loads((folder / INDEX).read_text())
        except FileNotFoundError:
            raise DataError(f"{folder / INDEX} is missing: run the stage that makes {folder} (dvc repro)") from None
        return cls(folder, {name: Record(**record) for name, record in index.items()})

    def load(self, name: str, which: str = "last") -> nn.Module:
        """A trained network, in evaluation mode on the CPU. which: "last" or "best"."""
        record = self.networks[name]
        file = record.weights if which == "last" else record.best
        if file is None or record.num_classes is None or record.in_chans is None or record.image_size is None:
            raise DataError(f"{self.folder}: network {name} has no weights")
        module = create(
            record.arch,
            num_classes=record.num_classes,
            in_chans=record.in_chans,
            image_size=record.image_size,
        )
        module.load_state_dict(load_file(self.folder / file))
        return module.eval()

    def start(self) -> dict[str, Network]:
        """What a run starts from: every network with its last weights, or with none yet."""
        return {
            name: Network(
                record.arch,
                weights=self.folder / record.weights if record.weights else None,
                learns=record.weights is None,
                sees=np.load(self.folder / record.sees) if record.sees else None,
            )
            for name, record in self.networks.items()
        }


def write_network(
    folder: Path,
    name: str,
    record: dict[str, Any],
    *,
    last: dict[str, Tensor],
    best: dict[str, Tensor] | None = None,
    sees: np.ndarray | None = None,
) -> None:
    """Add a trained network to the bundle in a folder."""
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


def adopt(folder: Path, source: Path, name: str, called: str) -> None:
    """Copy one network of the bundle in `source` into the bundle in `folder`, under another name."""
    record = json.loads((source / INDEX).read_text())[name]
    for key in ("weights", "best", "sees"):
        if record.get(key):
            suffix = record[key].removeprefix(f"{name}.")
            shutil.copyfile(source / record[key], folder / f"{called}.{suffix}")
            record[key] = f"{called}.{suffix}"
    add_record(folder, called, record)


def add_record(folder: Path, name: str, record: dict[str, Any]) -> None:
    """Add a line to networks.json."""
    index = folder / INDEX
    networks = json.loads(index.read_text()) if index.exists() else {}
    networks[name] = record
    index.write_text(json.dumps(networks, indent=2) + "\n")


def initial(network: Network, *, seed: int, num_classes: int, in_chans: int, image_size: tuple[int, int]) -> nn.Module:
    """A network as a run begins with it. The caller has seeded torch: initial weights are drawn here."""
    torch.manual_seed(seed)
    module = create(
        network.arch,
        num_classes=num_classes,
        in_chans=in_chans,
        image_size=image_size,
        pretrained=network.pretrained,
        checkpoint=network.checkpoint,
    )
    if network.weights is not None:
        module.load_state_dict(load_file(network.weights))
    return module
