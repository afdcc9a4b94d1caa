"""A stage's training: its seeds one by one, each kept in the checkpoint store, then written out together."""

import csv
import hashlib
import json
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.core import launch
from pipeline.core.bundle import write_network
from pipeline.core.checkpoint import Checkpoint, digest_of, prune, store_root
from pipeline.core.history import COLUMNS
from pipeline.core.progress import Progress

if TYPE_CHECKING:
    from pipeline.core.engine import Result, Run
    from pipeline.core.vocabulary import Method, Network

ALWAYS = ("pipeline/core", "pipeline/data", "pipeline/models")


class Session:
    """What the seeds of one stage share.

    label: names the run in the store and in what is printed, e.g. "distill-orc".
    decides: the values of the parameters that the stage declares, as plain data.
    code: the stage's own files besides the library's; all of it is part of the checkpoints' key.
    """

    def __init__(
        self,
        label: str,
        *,
        recipe: Any,
        decides: dict[str, Any],
        code: tuple[str, ...],
        runtime: Any,
        data: Path,
    ):
        self.accelerator = launch.accelerate(runtime.threads)
        from pipeline.data.prepared import Prepared

        self.label, self.recipe, self.decides, self.code, self.runtime = label, recipe, decides, code, runtime
        self.data: Prepared = Prepared.read(data)
        self.environment = launch.environment(self.accelerator, runtime.threads)
        self.root = Path.cwd()
        self.store = store_root(self.root)
        self.used: list[Path] = []
        self.views: dict[str, Any] = {}

    def key(self, seed: int, networks: Mapping[str, "Network"]) -> str:
        """A digest of all that decides a seed's result."""
        files = [f for place in (*ALWAYS, *self.code) for f in python_files(self.root / place)]
        starts = {
            name: [
                network.arch,
                network.lr_scale,
                network.checkpoint and digest_of([Path(network.checkpoint)], Path(network.checkpoint).parent),
                network.weights and hashlib.sha256(network.weights.read_bytes()).hexdigest(),
                None if network.sees is None else hashlib.sha256(network.sees.tobytes()).hexdigest(),
            ]
            for name, network in networks.items()
        }
        decides = {
            "parameters": self.decides,
            "seed": seed,
            "networks": list(starts.items()),
            "data": self.data.fingerprint,
            "code": digest_of(files, self.root),
            "environment": self.environment,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:32]

    def train(self, method: "Method", networks: Mapping[str, "Network"], seed: int, about: dict[str, Any]) -> Path:
        """Train one seed, or find it finished. Returns the folder of its outs, in the store."""
        checkpoint = Checkpoint(self.store / self.label / self.key(seed, networks))
        label = f"{self.label} seed {seed}"
        if self.accelerator.is_main_process:
            with checkpoint.held():
                self.used.append(checkpoint.folder)
                if checkpoint.finished.exists():
                    print(f"{label}: already trained, taken from the checkpoint store")
                    checkpoint.folder.touch()
                else:
                    run = self.run(method, networks, seed, checkpoint, label)
                    result = run.train()
                    checkpoint.finish(lambda folder: self.write(folder, run, result, seed, about))
                prune(self.store, self.runtime.checkpoint_gib, self.used)
        else:
            self.run(method, networks, seed, checkpoint, label).train()
        return checkpoint.finished

    def run(
        self,
        method: "Method",
        networks: Mapping[str, "Network"],
        seed: int,
        checkpoint: Checkpoint,
        label: str,
    ) -> "Run":
        from pipeline.core.engine import Run

        return Run(
            method,
            networks,
            self.split("train"),
            self.split("validation"),
            self.recipe,
            seed=seed,
            accelerator=self.accelerator,
            checkpoint=checkpoint,
            checkpoint_minutes=self.runtime.checkpoint_minutes,
            progress=Progress(label) if self.accelerator.is_main_process else Progress.silent(),
        )

    def split(self, name: str) -> Any:
        """A split on the device."""
        if name not in self.views:
            self.views[name] = self.data.views(
                name, device=self.accelerator.device, pad=self.recipe.pad, flip=self.recipe.flip
            )
        return self.views[name]

    def write(self, folder: Path, run: "Run", result: "Result", seed: int, about: dict[str, Any]) -> None:
        """The outs of one seed: networks/, run.json, history.csv, cost.json."""
        from pipeline.models.count import macs, parameters

        meta = self.data.meta
        networks = {}
        for name, trained in result.networks.items():
            module = run.nets[name].bare
            networks[name] = {
                "parameters": parameters(module),
                "macs": macs(module, meta.in_chans, meta.image_size),
            }
            record = {
                "arch": run.networks[name].arch,
                "num_classes": meta.num_classes,
                "in_chans": meta.in_chans,
                "image_size": list(meta.image_size),
                "parameters": networks[name]["parameters"],
                "validation": trained.validation,
            }
            sees = run.networks[name].sees
            write_network(folder / "networks", name, record, last=trained.last, best=trained.best, sees=sees)
        cost = {
            "seconds": result.seconds,
            "steps": result.steps,
            "images_per_second": result.images / result.seconds if result.seconds else None,
            "networks": networks,
            "environment": self.environment,
        }
        write_json(folder / "networks" / "run.json", {**about, "seed": seed})
        write_json(folder / "cost.json", cost)
        with (folder / "history.csv").open("w", newline="") as out:
            writer = csv.writer(out, lineterminator="\n")
            writer.writerow(COLUMNS)
            writer.writerows((seed, *row[:4], repr(row[4])) for row in result.rows)


def python_files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("*.py"))


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


def join_cost(target: Path, seeds: dict[int, Path]) -> None:
    """One cost file of several seeds' folders."""
    costs = {seed: json.loads((folder / "cost.json").read_text()) for seed, folder in seeds.items()}
    first = next(iter(costs.values()))
    own = ("networks", "environment")
    per_seed = {seed: {k: v for k, v in cost.items() if k not in own} for seed, cost in costs.items()}
    write_json(target, {"seeds": per_seed, **{k: first[k] for k in own}})
