"""A stage's training: its seeds one by one, each kept in the checkpoint store until it is asked for again."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from pipeline.core import launch
from pipeline.core.checkpoint import Checkpoint, digest_of, prune, store_root
from pipeline.core.folders import link_tree
from pipeline.core.logits import LogitStore
from pipeline.core.outs import write_run
from pipeline.core.progress import Progress
from pipeline.core.run import Result, Run
from pipeline.core.vocabulary import Method, Network
from pipeline.core.world import Processes
from pipeline.data.prepared import Prepared
from pipeline.errors import UserError

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
        self.accelerator = launch.accelerate(runtime.threads, recipe)
        self.label, self.recipe, self.decides, self.runtime = label, recipe, decides, runtime
        self.data = Prepared.read(data)
        self.environment = launch.environment(self.accelerator, runtime.threads, recipe)
        self.root = Path.cwd()
        self.store = store_root(self.root)
        # What runs is what was there when this began, though a file is edited before the last seed.
        files = [f for place in (*ALWAYS, *code) for f in python_files(self.root / place)]
        self.digest, self.fingerprint = digest_of(files, self.root), self.data.fingerprint
        self.used: list[Path] = []
        self.taken: TemporaryDirectory | None = None
        self.views: dict[str, Any] = {}
        self.logits = self.logit_store()

    def logit_store(self) -> LogitStore | None:
        """Where guides' answers are kept; what decides them besides weights, seed and order is in its key."""
        if self.recipe.logit_store == "off":
            return None
        about = {
            "data": self.fingerprint,
            "views": [self.recipe.pad, self.recipe.flip],
            "compile": self.recipe.compile,
            "code": digest_of([f for place in ALWAYS for f in python_files(self.root / place)], self.root),
            "environment": self.environment,
        }
        return LogitStore(
            self.store.with_name(".logits"),
            kind=self.recipe.logit_store,
            gib=self.runtime.logit_store_gib,
            about=about,
            say=print if self.accelerator.is_main_process else lambda line: None,
        )

    def key(self, seed: int, networks: Mapping[str, Network]) -> str:
        """A digest of all that decides a seed's result."""
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
            "data": self.fingerprint,
            "code": self.digest,
            "environment": self.environment,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:32]

    def train(self, method: Method, networks: Mapping[str, Network], seed: int, about: dict[str, Any]) -> Path:
        """Train one seed, or find it finished. Returns a folder of its outs, which is rank 0's."""
        checkpoint = Checkpoint(self.store / self.label / self.key(seed, networks))
        label = f"{self.label} seed {seed}"
        world = Processes(self.accelerator)
        try:
            # Several processes cannot wait: all but the first would take its silence for its death.
            with checkpoint.held(wait=world.size == 1) if world.rank == 0 else nullcontext():
                (finished,) = world.agree([checkpoint.finished.exists()])
                if not finished:
                    run = self.run(method, networks, seed, checkpoint, label)
                    result = run.train()
                    world.patiently(lambda: self.keep(checkpoint, run, result, {**about, "seed": seed}))
                    self.accelerator.free_memory()  # it would hold the networks of every seed
                elif world.rank == 0:
                    print(f"{label}: already trained, taken from the checkpoint store")
                    os.utime(checkpoint.folder)
                checkpoint.clear()  # no process needs them any more
                return self.take(checkpoint) if world.rank == 0 else checkpoint.finished
        except RuntimeError as error:
            if world.is_lost(error):
                said = str(error).splitlines()[0][:200]
                raise UserError(
                    f"{label}: another process of this run has ended, and so must this one ({said})"
                ) from None
            raise

    def keep(self, checkpoint: Checkpoint, run: Run, result: Result, about: dict[str, Any]) -> None:
        """Keep what a run leaves in the store, and the store within its size."""
        checkpoint.finish(lambda folder: write_run(folder, run, result, self.data.meta, self.environment, about))
        prune(self.store, self.runtime.checkpoint_gib, [*self.used, checkpoint.folder])

    def take(self, checkpoint: Checkpoint) -> Path:
        """The outs under a name of this process, which no other that makes room in the store removes."""
        self.used.append(checkpoint.folder)
        if self.taken is None:
            self.taken = TemporaryDirectory(prefix=".taken-", dir=self.store / self.label)
        folder = Path(self.taken.name) / checkpoint.folder.name
        if not folder.exists():
            link_tree(checkpoint.finished, folder)
        return folder

    def run(
        self,
        method: Method,
        networks: Mapping[str, Network],
        seed: int,
        checkpoint: Checkpoint,
        label: str,
    ) -> Run:
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
            store=self.logits,
            progress=Progress(label, quiet=not self.accelerator.is_main_process),
        )

    def split(self, name: str) -> Any:
        """A split on the device."""
        if name not in self.views:
            self.views[name] = self.data.views(
                name,
                device=self.accelerator.device,
                pad=self.recipe.pad,
                flip=self.recipe.flip,
                workers=self.runtime.workers,
            )
        return self.views[name]


def python_files(place: Path) -> list[Path]:
    return [place] if place.is_file() else sorted(place.rglob("*.py"))
