"""A bundle: a folder of networks, as safetensors files beside one networks.json. Stages hand networks on as bundles.

An estimator of scikit-learn is a .skops file instead, both as the last and as the best.

networks.json maps a name to arch, num_classes, in_chans, image_size, the files of its last and its best-on-validation
weights (absent for a network that has not been trained), its validation accuracy, the file of the rows it may see, the
SHA-256 of each file, and the cost of what had to be trained to get it (pipeline.training.cost); of an estimator, its
options and copies, too.
"""

import shutil
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from pipeline.errors import DataError, ParamsError
from pipeline.estimators.catalog import is_estimator
from pipeline.storage.documents import damaged, read_json, write_json
from pipeline.storage.folders import file_digest
from pipeline.storage.records import DivergedDocument, Divergence, Networks, RunDocument

if TYPE_CHECKING:
    from torch import Tensor, nn

INDEX = "networks.json"
RUN = "run.json"
DIVERGED = "diverged.json"  # in the place of networks.json and run.json
FILES = ("weights", "best", "sees")  # keys of a record that name a file


@dataclass(frozen=True)
class Record:
    """One network of a bundle. Files are names within the folder of the bundle."""

    arch: str
    options: dict[str, Any] = field(default_factory=dict)
    copies: int = 0
    num_classes: int | None = None
    in_chans: int | None = None
    image_size: tuple[int, int] | None = None
    weights: str | None = None
    best: str | None = None
    parameters: int | None = None
    validation: dict[str, Any] | None = None
    sees: str | None = None
    sha256: dict[str, str] = field(default_factory=dict)
    cost: dict[str, int] | None = None


@dataclass(frozen=True)
class Bundle:
    """The networks of a folder, in their order."""

    folder: Path
    networks: dict[str, Record]

    @classmethod
    def read(cls, folder: Path) -> "Bundle":
        """The bundle in a folder. Raises DataError if there is none, or if networks.json is damaged."""
        index = read_json(folder / INDEX, Networks)
        return cls(folder, {name: to_record(record) for name, record in index.items()})

    def record(self, name: str) -> Record:
        """The record of a network. Raises DataError if the bundle has no such network."""
        if name not in self.networks:
            raise damaged(self.folder / INDEX, f"it has no network {name}")
        return self.networks[name]

    def file(self, name: str, key: str) -> Path:
        """A file of a network.  key: of its record: weights, best or sees.

        Raises DataError if there is none, or if it is not the file that was written.
        """
        record = self.record(name)
        file_name = getattr(record, key)
        if file_name is None:
            raise damaged(self.folder / INDEX, f"network {name} has no file of {key}")
        file = self.folder / file_name
        if not file.is_file():
            raise DataError(f"{file} is missing: run `dvc repro`")
        if file_digest(file) != record.sha256.get(file_name):
            raise damaged(file, f"its SHA-256 is not the one in {INDEX}")
        return file

    def cost(self, name: str) -> dict[str, int]:
        """The multiply-adds of each training that a trained network needed. Raises DataError if it has no cost."""
        cost = self.record(name).cost
        if cost is None:
            raise damaged(self.folder / INDEX, f"network {name} has no cost")
        return cost

    def content(self) -> dict[str, Any]:
        """What decides a run that starts from this bundle: the records, whose files are checked.

        Raises DataError as `file` and `cost` do.
        """
        for name, record in self.networks.items():
            if record.weights is not None:
                self.cost(name)
            for key in FILES:
                if getattr(record, key) is not None:
                    self.file(name, key)
        return {name: asdict(record) for name, record in self.networks.items()}

    def load(self, name: str, which: str = "last") -> "nn.Module":
        """A trained network or estimator, in evaluation mode on the CPU.  which: "last" or "best" (on validation)."""
        from pipeline.models.create import create
        from pipeline.models.weights import load_weights

        record, file = self.record(name), self.file(name, "weights" if which == "last" else "best")
        if record.num_classes is None or record.in_chans is None or record.image_size is None:
            raise damaged(self.folder / INDEX, f"network {name} lacks num_classes, in_chans or image_size")
        if is_estimator(record.arch):
            from pipeline.estimators.file import from_bytes
            from pipeline.estimators.module import EstimatorModule

            return EstimatorModule(from_bytes(file.read_bytes(), record.arch, str(file)), record.num_classes)
        try:
            module = create(
                record.arch,
                num_classes=record.num_classes,
                in_chans=record.in_chans,
                image_size=record.image_size,
            )
        except ParamsError as error:
            raise damaged(self.folder / INDEX, str(error)) from None
        load_weights(module, file, record.arch)
        return module.eval()

    def sees(self, name: str) -> np.ndarray | None:
        """The rows of the training split that a network may train on, [N] int64; None: all."""
        if self.record(name).sees is None:
            return None
        file = self.file(name, "sees")
        try:
            rows = np.load(file, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise damaged(file, str(error)) from None
        if rows.ndim != 1 or not len(rows) or not np.issubdtype(rows.dtype, np.integer) or rows.min() < 0:
            raise damaged(file, "expected a vector of row numbers")
        return rows


def to_record(content: dict[str, Any]) -> Record:
    """The record of one network of networks.json."""
    size = content.get("image_size")
    return Record(**{**content, "image_size": size and (size[0], size[1])})


def read_run(folder: Path) -> dict[str, Any]:
    """The content of run.json in a bundle. Raises DataError if it is missing or damaged."""
    return read_json(folder / RUN, RunDocument)


def seed_folders(networks: Path) -> list[Path]:
    """The bundles seed-N of a folder, by N.  networks: the folder, e.g. models/students/METHOD."""
    folders = {folder.name.removeprefix("seed-"): folder for folder in networks.glob("seed-*") if folder.is_dir()}
    return [folders[seed] for seed in sorted((s for s in folders if s.isdecimal()), key=int)]


def read_diverged(folder: Path) -> tuple[dict[str, Any], dict[str, Any]] | None:
    """diverged.json in the place of a bundle: its content, and where the loss became not finite; None without one."""
    if not (folder / DIVERGED).exists():
        return None
    content = read_json(folder / DIVERGED, DivergedDocument)
    return content, {key: content[key] for key in Divergence.model_fields}


def seed_bundle(networks: Path, seed: int) -> Path:
    """The bundle of a seed in a folder of networks: seed-N, or the folder itself if all seeds share its networks."""
    return networks if (networks / INDEX).is_file() else networks / f"seed-{seed}"


def bundle_path(after: str, seed: int) -> Path | None:
    """The bundle that a run starts from; None for a run that starts from nothing.  after: of the entry in `methods`."""
    path = Path(after)
    return None if path.parts[0] == "data" else seed_bundle(path, seed)


def write_network(
    folder: Path,
    name: str,
    record: dict[str, Any],
    *,
    last: "dict[str, Tensor]",
    best: "dict[str, Tensor] | None" = None,
    sees: np.ndarray | None = None,
) -> None:
    """Add a trained network to the bundle in a folder.

    last, best: its weights.  sees: [N] rows of the training split that it may train on.
    """
    from safetensors.torch import save_file

    from pipeline.estimators.file import CONTENT

    folder.mkdir(parents=True, exist_ok=True)
    stem = name.replace("/", ".")  # names have no dot before their first slash, so no two networks share a file
    files = {"weights": f"{stem}.last.safetensors", "best": f"{stem}.best.safetensors", "sees": f"{stem}.sees.npy"}
    fitted = is_estimator(record["arch"])
    if fitted:
        files["weights"] = files["best"] = f"{stem}.skops"
    taken = [file for file in files.values() if (folder / file).exists()]
    if taken:
        raise ValueError(f"{folder / taken[0]} exists: two networks of a run have names that a file system confuses")
    if fitted:
        (folder / files["weights"]).write_bytes(last[CONTENT].numpy().tobytes())
    else:
        save_file(last, folder / files["weights"])
    if best is not None and not fitted:
        save_file(best, folder / files["best"])
    if sees is not None:
        np.save(folder / files["sees"], sees)
    written = {key: file for key, file in files.items() if (folder / file).exists()}
    digests = {file: file_digest(folder / file) for file in written.values()}
    add_record(folder, name, {**record, **written, "sha256": digests})


def copy_network(source: Path, name: str, folder: Path, new_name: str) -> None:
    """Copy one network of the bundle in `source` into the bundle in `folder`, under a new name.

    Raises DataError if `source` has no such network, or if a file of it is damaged.
    """
    bundle = Bundle.read(source)
    record = dict(read_json(source / INDEX, Networks)[name])
    digests = {}
    for key in FILES:
        if record.get(key):
            file = bundle.file(name, key)
            record[key] = f"{new_name}.{file.name.removeprefix(f'{name}.')}"
            shutil.copyfile(file, folder / record[key])
            digests[record[key]] = bundle.networks[name].sha256[file.name]
    add_record(folder, new_name, {**record, "sha256": digests})


def add_record(folder: Path, name: str, record: dict[str, Any]) -> None:
    """Add a network to networks.json. A record with nothing but `arch` is a network that has yet to be trained."""
    index = folder / INDEX
    write_json(index, {**(read_json(index, Networks) if index.exists() else {}), name: record})
