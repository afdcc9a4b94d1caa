"""The seeds of a stage: what decides their results, and those that the checkpoint store has already.

This module imports neither torch nor timm, so a stage that finds all its seeds trained starts without delay.
"""

import hashlib
import json
import os
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

from pipeline.data.prepared import Prepared
from pipeline.errors import DataError
from pipeline.runtime import launch
from pipeline.storage.bundle import Bundle
from pipeline.storage.checkpoints import Checkpoint, store_root
from pipeline.storage.code_digest import code_digest
from pipeline.storage.folders import file_digest, link_tree
from pipeline.storage.store import Store, mark

if TYPE_CHECKING:
    from pipeline.core.interface import Method, Network
    from pipeline.params.schema import Runtime, Train

SESSION = "pipeline/training/session.py"


@dataclass(frozen=True)
class Participants:
    """What a seed trains.

    about: what run.json says of the run, besides the seed.
    student_arch: of the student, whose forward pass is the unit of the run's cost.
    """

    method: "Method"
    networks: "Mapping[str, Network]"
    about: dict[str, Any]
    student_arch: str


class Stage:
    """A training stage: its label, its parameters, its code, its data, and the store of its seeds.

    command: the stage's module and arguments, e.g. ("stages.distill", "orc"), with which it can be started again.
    label: names the stage in the store and in messages, e.g. "distill-orc".
    stream: names what is drawn at random in the stage: initial weights, the order of images, their augmentation and a
        method's own draws. Methods are compared on the same draws, so they share a stream; stages that hand networks on
        differ, so that no student sees the batches that its teacher was trained on. Default: the stage's module.
    parameters: the values of the parameters that the stage declares, as plain data.
    code: the files of the stage and of its method. What they import is part of the seeds' keys too.
    bundle: of a seed, the bundle that its networks start from, or None.  weights: the file that they start from.
    may_diverge: whether a seed whose loss is not finite leaves diverged.json for outputs; else it is an error.
    """

    def __init__(
        self,
        *command: str,
        recipe: "Train",
        parameters: dict[str, Any],
        code: tuple[str, ...],
        runtime: "Runtime",
        stream: str | None = None,
        data: Path = Path("data/prepared"),
        bundle: Callable[[int], Path | None] = lambda seed: None,
        weights: Path | None = None,
        may_diverge: bool = False,
    ):
        self.command, self.label = command, "-".join([command[0].removeprefix("stages."), *command[1:]])
        self.recipe, self.runtime, self.bundle, self.weights = recipe, runtime, bundle, weights
        self.stream = stream or command[0].removeprefix("stages.")
        self.root = Path.cwd()
        self.data = Prepared.read(data)
        self.environment = launch.environment(runtime, recipe)
        self.store = Store(store_root(self.root), grouped=True, log=self.log)
        self.may_diverge = may_diverge
        self.in_use: list[Path] = []
        self.links: TemporaryDirectory | None = None
        self.decides = {
            "parameters": parameters,
            "data": self.data.fingerprint,
            "code": code_digest(self.root, [*code, SESSION]),  # as it is now, even if it is edited before the last seed
            "environment": self.environment,
        }

    def with_parameters(self, parameters: dict[str, Any], label: str, *arguments: str) -> "Stage":
        """This stage with other values of its parameters, under another label: a trial of a search.

        It does not read data and code again, and the store need not keep its seeds while this process runs.
        arguments: of the command that trains it, after those of this stage.
        """
        other = copy(self)
        other.command, other.label = (*self.command, *arguments), label
        other.decides = {**self.decides, "parameters": parameters}
        other.in_use, other.links = [], None
        return other

    def log(self, line: str) -> None:
        """Print a message, on rank 0 only."""
        if launch.is_main_process():
            print(line)

    def key(self, seed: int) -> str:
        """A digest of everything that decides the result of a seed. Raises DataError if an input is damaged."""
        inputs = content_of(self.bundle(seed)) if self.weights is None else digest_of(self.weights)
        decides = {**self.decides, "seed": seed, "inputs": inputs}
        return hashlib.sha256(json.dumps(decides, sort_keys=True, default=str).encode()).hexdigest()[:32]

    def checkpoint(self, seed: int) -> Checkpoint:
        """Where the store keeps a seed."""
        return Checkpoint(self.store.root / self.label / self.key(seed))

    def find(self, seed: int) -> Path | None:
        """The outputs of a seed that the store has, checked and linked; else None."""
        checkpoint = self.checkpoint(seed)
        if not checkpoint.finished.exists():
            return None
        with checkpoint.locked(wait=True):
            return self.take(checkpoint, seed) if checkpoint.is_finished() else None

    def take(self, checkpoint: Checkpoint, seed: int) -> Path:
        """The outputs of a finished seed whose checkpoint is locked."""
        self.log(f"{self.label} seed {seed}: already trained, found in the checkpoint store")
        os.utime(checkpoint.folder)
        return self.link_outputs(checkpoint)

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


def content_of(bundle: Path | None) -> Any:
    """What decides a run that starts from a bundle. Raises DataError if it is missing or damaged."""
    return None if bundle is None else Bundle.read(bundle).content()


def digest_of(weights: Path) -> str:
    """What decides a run that starts from a file of weights. Raises DataError if there is no such file."""
    if not weights.is_file():
        raise DataError(f"the file of weights {weights} does not exist")
    return file_digest(weights)
