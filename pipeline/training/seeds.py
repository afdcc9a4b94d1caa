"""The seeds of a stage: found in the store, trained by the workers of a cluster, or trained by this process.

This module imports neither torch nor timm until a seed must be trained here.
"""

from collections.abc import Callable, Sequence
from pathlib import Path

from pipeline.parallel.seeds import on_cluster, train_on_cluster
from pipeline.runtime import launch
from pipeline.training.stage import Participants, Stage


def train_seeds(stage: Stage, seeds: Sequence[int], participants: Callable[[int], Participants]) -> dict[int, Path]:
    """A folder of outputs for each seed: those of the store, and those that are trained now.

    participants: of a seed; called only if it must be trained.
    """
    # Of several ranks each might find something else, so rank 0 decides within the session.
    found = {} if launch.is_launched() else {seed: stage.find(seed) for seed in seeds}
    outputs = {seed: folder for seed, folder in found.items() if folder is not None}
    missing = [seed for seed in seeds if seed not in outputs]
    if missing and on_cluster():
        train_on_cluster(stage.command, stage.label, missing, stage.runtime.threads)
        outputs |= {seed: folder for seed in missing if (folder := stage.find(seed)) is not None}
        missing = [seed for seed in missing if seed not in outputs]  # if another run has evicted one meanwhile
    if missing:
        launch.begin(stage.runtime, *stage.command)
        from pipeline.training.session import Session

        session = Session(stage)
        outputs |= {seed: session.train(seed, participants(seed)) for seed in missing}
    return {seed: outputs[seed] for seed in seeds}
