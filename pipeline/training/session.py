"""The training of one stage: its seeds one after another, each kept in the checkpoint store for later runs."""

import hashlib
import json
import os
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.core.interface import Method, Network
from pipeline.data.prepared import Prepared
from pipeline.errors import UserError
from pipeline.progress import Progress, Tracker
from pipeline.runtime import launch
from pipeline.runtime.processes import Processes
from pipeline.storage.checkpoints import Checkpoint, prune, store_root
from pipeline.storage.code_digest import code_digest
from pipeline.storage.folders import file_digest, link_tree
from pipeline.storage.logit_cache import LogitCache
from pipeline.storage.store import Store, mark
from pipeline.tracking import open_tracker
from pipeline.training.outputs import write_run
from pipeline.training.run import Result, Run

if TYPE_CHECKING:
    from pipeline.params.schema import Runtime, Train


class Session:
    """What the seeds of one stage share: device, data, stores, and everything that decides their results.

    label: names the stage in the store and in messages, e.g. "distill-orc".
    parameters: the values of the parameters that the stage declares, as plain data.
    code: the files of the stage and of its method. What they import is part of the checkpoints' key too.
    """

    def __init__(
        self,
        label: str,
        *,
        recipe: "Train",
        parameters: dict[str, Any],
        code: tuple[str, ...],
        runtime: "Runtime",
        data: Path,
    ):
        self.accelerator = launch.create_accelerator(runtime.threads, recipe)
        self.label, self.recipe, self.parameters, self.runtime = label, recipe, parameters, runtime
        self.data = Prepared.read(data)
        self.fingerprint = self.data.fingerprint
        self.environment = launch.environment(self.accelerator, runtime.threads, recipe)
        self.root = Path.cwd()
        self.store = Store(store_root(self.root), grouped=True, log=self.log)
        # Digests of the code as it was when the session began, even if a file is edited before the last seed.
        self.code_digest = code_digest(self.root, [*code, "pipeline/training/session.py"])
        self.training_digest = code_digest(self.root, ["pipeline/training/session.py"])
        self.in_use: list[Path] = []
        self.links: TemporaryDirectory | None = None
        self.views: dict[str, Any] = {}
        self.cache = self.logit_cache()

    def log(self, line: str) -> None:
        """Print a message, on rank 0 only."""
        if self.accelerator.is_main_process:
            print(line)

    def logit_cache(self) -> LogitCache | None:
        """The cache of guides' logits, whose key holds what decides them besides weights, seed and order."""
        if self.recipe.logit_store == "off":
            return None
        return LogitCache(
            self.store.root.with_name(".logits"),
            kind=self.recipe.logit_store,
            gib=self.runtime.logit_store_gib,
            key={
                "data": self.fingerprint,
                "views": [self.recipe.pad, self.recipe.flip, self.recipe.augment, self.recipe.random_erasing],
                "compile": self.recipe.compile,
                "code": self.training_digest,
                "environment": self.environment,
            },
            log=self.log,
        )

    def key(self, seed: int, networks: Mapping[str, Network]) -> str:
        """A digest of everything that decides the result of a seed."""
        starts = {
            name: [
                network.arch,
                network.lr_scale,
                network.checkpoint and file_digest(Path(network.checkpoint)),
                network.weights and file_digest(network.weights),
                None if network.sees is None else hashlib.sha256(network.sees.tobytes()).hexdigest(),
            ]
            for name, network in networks.items()
        }
        decides = {
            "parameters": self.parameters,
            "seed": seed,
            "networks": list(starts.items()),
            "data": self.fingerprint,
            "code": self.code_digest,
            "environment": self.environment,
        }
        return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:32]

    def train(self, method: Method, networks: Mapping[str, Network], seed: int, about: dict[str, Any]) -> Path:
        """Train one seed, or find it finished. Returns a folder of its outputs, which rank 0 may read.

        about: what run.json says of the run, besides the seed.
        """
        checkpoint = Checkpoint(self.store.root / self.label / self.key(seed, networks))
        label = f"{self.label} seed {seed}"
        processes = Processes(self.accelerator)
        try:
            # Only a single process may wait for another run: the other ranks would take rank 0's silence for its end.
            with checkpoint.locked(wait=processes.size == 1) if processes.rank == 0 else nullcontext():
                (finished,) = processes.broadcast_objects([processes.rank == 0 and checkpoint.is_finished()])
                if not finished:
                    run = self.create_run(method, networks, seed, checkpoint, label)
                    result = run.train()
                    processes.on_rank_0(lambda: self.finish(checkpoint, run, result, {**about, "seed": seed}))
                    self.accelerator.free_memory()  # it would keep the networks of every seed
                elif processes.rank == 0:
                    print(f"{label}: already trained, found in the checkpoint store")
                    os.utime(checkpoint.folder)
                checkpoint.clear()  # no rank needs them any more
                return self.link_outputs(checkpoint) if processes.rank == 0 else checkpoint.finished
        except RuntimeError as error:
            if processes.is_lost_rank(error):
                reason = str(error).splitlines()[0][:200]
                raise UserError(
                    f"{label}: another process of this run has ended, so this one ends too ({reason})"
                ) from None
            raise

    def finish(self, checkpoint: Checkpoint, run: Run, result: Result, about: dict[str, Any]) -> None:
        """Keep the outputs of a run in the store, and the store within its size."""
        checkpoint.finish(lambda folder: write_run(folder, run, result, self.data.meta, self.environment, about))
        prune(self.store, self.runtime.checkpoint_gib, [*self.in_use, checkpoint.folder])

    def link_outputs(self, checkpoint: Checkpoint) -> Path:
        """Hard-link the outputs so that cache eviction cannot remove them while this process needs them."""
        self.in_use.append(checkpoint.folder)
        if self.links is None:
            self.links = TemporaryDirectory(prefix=".taken-", dir=self.store.root / self.label)
            mark(Path(self.links.name))
        folder = Path(self.links.name) / checkpoint.folder.name
        if not folder.exists():
            link_tree(checkpoint.finished, folder)
        return folder

    def create_run(
        self, method: Method, networks: Mapping[str, Network], seed: int, checkpoint: Checkpoint, label: str
    ) -> Run:
        """A run of one seed on the data of the session."""
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
            cache=self.cache,
            progress=Progress(label, quiet=not self.accelerator.is_main_process, tracker=self.tracker(label)),
        )

    def tracker(self, label: str) -> Tracker | None:
        """The live log of a run, on rank 0 only."""
        if not self.accelerator.is_main_process:
            return None
        return open_tracker(self.runtime.tracker, self.root / "runs", label.replace(" ", "-"))

    def split(self, name: str) -> Any:
        """A split on the device, loaded once."""
        if name not in self.views:
            self.views[name] = self.data.views(
                name,
                device=self.accelerator.device,
                pad=self.recipe.pad,
                flip=self.recipe.flip,
                policy=self.recipe.augment,
                erasing=self.recipe.random_erasing,
                workers=self.runtime.workers,
            )
        return self.views[name]
