"""An estimator of scikit-learn in a run: fitted as a whole in a leg of its own, and answering as a network does."""

import numpy as np
import torch
from torch import Tensor, nn

from pipeline.core.interface import Leg, Network
from pipeline.core.randomness import hash64
from pipeline.errors import UserError
from pipeline.estimators.file import CONTENT, from_bytes, to_bytes
from pipeline.estimators.module import EstimatorModule, create, fit, rows_of
from pipeline.progress import Progress
from pipeline.storage.logit_cache import CachedLogits
from pipeline.training.checkpointing import Checkpointing
from pipeline.training.cost import TO_PIXELS, Passes, count_pass
from pipeline.training.learner import State
from pipeline.training.legs import PlannedLeg
from pipeline.training.state import TrainState
from pipeline.training.training_set import TrainingSet, Views
from pipeline.training.validation import Validation

CHUNK = 512  # images that are augmented at once


class TrainingEstimator:
    """One estimator of a run (`interface.Net`). What a checkpoint and a bundle hold of it is the content of its file.

    seed: of the run, as in `Batches`.  name: of the member.  classes: number of classes.
    module: what answers, None before the estimator is fitted.  passes: images that it has answered, as of a network.
    """

    differentiable = False

    def __init__(self, network: Network, *, seed: int, name: str, classes: int):
        self.network, self.seed, self.name, self.classes = network, seed, name, classes
        self.random_state = hash64(seed, "weights", name) % 2**32
        self.guiding = False
        self.cached_logits: CachedLogits | None = None  # an estimator answers fast enough
        self.passes: Passes = [0, 0, 0]
        self.content = b""
        self.module: nn.Module = nn.Identity()
        if network.weights is not None:
            self.load({CONTENT: torch.frombuffer(bytearray(network.weights.read_bytes()), dtype=torch.uint8)})

    def __call__(self, x: Tensor) -> Tensor:
        """Logits [B, C]. An estimator has no training mode."""
        return self.teach(x)

    def teach(self, x: Tensor, *, mode: str = "eval") -> Tensor:
        """Logits [B, C] in the type of the images: the logarithms of the probabilities, in both modes the same."""
        return count_pass(self.passes, self.forward_eval(x), TO_PIXELS)

    def forward_eval(self, x: Tensor) -> Tensor:
        """`teach`, which validation does not count."""
        if not self.content:
            raise ValueError(f"{self.name} has not been fitted")
        return self.module(x)

    def fit(self, views: Views, rows: Tensor) -> list[str]:
        """Fit the estimator to the images at `rows` [N] of `views`, and to `copies` augmented views of each.

        The views are those that a network would see in epochs 1 to `copies`. Returns scikit-learn's warnings.
        Raises UserError if it cannot be fitted.
        """
        rows = rows.to(views.labels.device)
        parts = rows.split(CHUNK)
        x = [rows_of(views.plain(part)) for part in parts]
        for epoch in range(1, self.network.copies + 1):
            x += [rows_of(views(part, seed=self.seed, epoch=epoch)) for part in parts]
        y = np.tile(views.labels[rows].cpu().numpy(), 1 + self.network.copies)
        estimator = create(self.network.arch, self.network.options, self.random_state)
        told = fit(estimator, np.concatenate(x), y, self.name)
        self.content = to_bytes(estimator)
        self.module = EstimatorModule(estimator, self.classes)
        return told

    def weights(self) -> State:
        """The content of the estimator's file; empty before it is fitted."""
        if not self.content:
            return {}
        return {CONTENT: torch.frombuffer(bytearray(self.content), dtype=torch.uint8)}

    def load(self, weights: State) -> None:
        """Become the estimator that `weights` returned. Raises DataError if the content is not that of an estimator."""
        if not weights:
            return
        self.content = weights[CONTENT].numpy().tobytes()
        self.module = EstimatorModule(from_bytes(self.content, self.network.arch, self.name), self.classes)


def fit_leg(
    number: int,
    leg: Leg,
    estimator: TrainingEstimator,
    train_set: TrainingSet,
    state: TrainState,
    validation: Validation,
    checkpointing: Checkpointing,
    progress: Progress,
) -> None:
    """Fit the one learner of a leg, validate it, and checkpoint it. A fit that is killed begins again.

    Raises UserError if its probabilities on the validation split are not finite.
    """
    views, rows = train_set.data_of(leg)
    planned = PlannedLeg(
        leg.learners,
        leg.guides,
        extra=leg.extra,
        fresh=leg.fresh,
        number=number,
        epochs=1,
        n_steps=1,
        views=views,
        rows=rows,
    )
    if leg.extra is not None:
        checkpointing.save(None)  # the extra images may have been expensive to compute
    checkpointing.stop_if_asked()
    progress.begin_leg(planned, n_steps=1)
    for _ in state.epochs_left(planned):
        for line in estimator.fit(views, rows):
            progress.log(f"{estimator.name}: {line}")
        seconds = state.seconds
        state.count_time()
        state.fit_seconds[estimator.name] = state.seconds - seconds
        measured = validation(planned, 1)
        if not all(np.isfinite(value) for *_, value in measured):
            raise UserError(
                f"{estimator.name}: {estimator.network.arch} answers with probabilities that are not finite"
            )
        state.history += measured
        progress.step()
        progress.epoch(1, planned, measured)
        state.end_epoch(1)
    state.end_leg(planned)
    checkpointing.save(None)
