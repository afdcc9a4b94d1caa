"""The training of seeds: on this process's device, each from its newest checkpoint, each kept in the store."""

from contextlib import nullcontext
from pathlib import Path
from typing import Any

from pipeline.core.randomness import hash64
from pipeline.errors import Diverged, UserError
from pipeline.progress import Progress, Tracker
from pipeline.runtime import launch
from pipeline.runtime.processes import Processes
from pipeline.storage.bundle import Bundle
from pipeline.storage.checkpoints import Checkpoint, prune
from pipeline.storage.code_digest import code_digest
from pipeline.storage.logit_cache import LogitCache
from pipeline.tracking import open_tracker
from pipeline.training.cost import costs_before
from pipeline.training.latency import Latency
from pipeline.training.run import Run, full_memory_reported
from pipeline.training.run_outputs import RunOutputs, write_diverged
from pipeline.training.stage import SESSION, Participants, Stage


class Session:
    """What the seeds of one stage share: device, data and stores."""

    def __init__(self, stage: Stage):
        self.stage, self.recipe, self.runtime, self.data = stage, stage.recipe, stage.runtime, stage.data
        self.accelerator = launch.create_accelerator(self.runtime.threads, self.recipe)
        self.views: dict[str, Any] = {}
        self.cache = self.logit_cache()

    def logit_cache(self) -> LogitCache | None:
        """The cache of guides' logits, whose key holds what decides them besides weights, seed and order."""
        if self.recipe.logit_store == "off":
            return None
        return LogitCache(
            self.stage.store.root.with_name(".logits"),
            kind=self.recipe.logit_store,
            gib=self.runtime.logit_store_gib,
            key={
                "data": self.data.fingerprint,
                "views": [self.recipe.pad, self.recipe.flip, self.recipe.augment, self.recipe.random_erasing],
                "compile": self.recipe.compile,
                "code": code_digest(self.stage.root, [SESSION]),
                "environment": self.stage.environment,
            },
            log=self.stage.log,
        )

    def train(self, seed: int, participants: Participants) -> Path:
        """Train one seed, or find it finished, and keep the store within its size.

        Returns a folder of the outputs, which rank 0 may read.

        A run that diverges is finished, too: its outputs are diverged.json in the place of the networks. Raises
        UserError if the device runs out of memory.
        """
        checkpoint = self.stage.checkpoint(seed)
        label = f"{self.stage.label} seed {seed}"
        processes = Processes(self.accelerator)
        try:
            # Only a single process may wait for another run: the other ranks would take rank 0's silence for its end.
            with checkpoint.locked(wait=processes.size == 1) if processes.rank == 0 else nullcontext():
                (finished,) = processes.broadcast_objects([processes.rank == 0 and checkpoint.is_finished()])
                if not finished:
                    with full_memory_reported(self.recipe, participants.networks, self.accelerator.device):
                        self.run(seed, participants, checkpoint, label, processes)
                elif processes.rank == 0:
                    return self.stage.take(checkpoint, seed)
                checkpoint.clear()  # no rank needs them any more
                if processes.rank != 0:
                    return checkpoint.finished
                prune(self.stage.store, self.runtime.checkpoint_gib, [*self.stage.in_use, checkpoint.folder])
                return self.stage.link_outputs(checkpoint)
        except RuntimeError as error:
            if processes.is_lost_rank(error):
                reason = str(error).splitlines()[0][:200]
                raise UserError(
                    f"{label}: another process of this run has ended, so this one ends too ({reason})"
                ) from None
            raise

    def run(
        self, seed: int, participants: Participants, checkpoint: Checkpoint, label: str, processes: Processes
    ) -> None:
        """Train one seed and keep its outputs in the store."""
        about = {**participants.about, "seed": seed}
        run = self.create_run(participants, seed, checkpoint, label)
        try:
            result = run.train()
        except Diverged as error:
            if not self.stage.may_diverge:
                raise
            at = error.at
            processes.on_rank_0(lambda: checkpoint.finish(lambda folder: write_diverged(folder, at, about)))
        else:
            source = self.stage.bundle(seed)
            before = costs_before(None if source is None else Bundle.read(source), participants.networks)
            outputs = RunOutputs(
                self.data.meta,
                self.stage.environment,
                Latency(self.stage.store, self.stage.environment, self.data.meta),
                name=f"{self.stage.label}/seed-{seed}",
                before=before,
                student_arch=participants.student_arch,
            )
            processes.on_rank_0(lambda: checkpoint.finish(lambda folder: outputs.write(folder, run, result, about)))
        self.accelerator.free_memory()  # it would keep the networks of every seed

    def create_run(self, participants: Participants, seed: int, checkpoint: Checkpoint, label: str) -> Run:
        """A run of one seed on the data of the session."""
        return Run(
            participants.method,
            participants.networks,
            self.split("train"),
            self.split("validation"),
            self.recipe,
            seed=hash64(self.stage.stream, seed),
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
        return open_tracker(self.runtime.tracker, self.stage.root / "runs", label.replace(" ", "-"))

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
