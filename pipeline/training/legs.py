"""A leg that is ready to train: what `Method.legs` asked for, with its number, its images and its length."""

from dataclasses import dataclass

from torch import Tensor

from pipeline.core.interface import Leg
from pipeline.errors import DataError
from pipeline.training.training_set import TrainingSet, Views


@dataclass(frozen=True, kw_only=True, eq=False)
class PlannedLeg(Leg):
    """A leg with everything that the loop needs to know about it.

    number: position among the legs of the run, from 0; the counters of randomness use it.
    epochs: passes over `rows`; 0 takes the weights as they are.
    n_steps: batches in an epoch; an incomplete last batch is dropped.
    views: augmented images, the training split followed by the leg's extra images.
    rows: [N] rows of `views` that the learners train on, in ascending order.
    """

    number: int
    epochs: int  # pyright: ignore[reportGeneralTypeIssues]
    n_steps: int
    views: Views
    rows: Tensor


def plan(number: int, leg: Leg, train_set: TrainingSet, *, epochs: int, batch_size: int) -> PlannedLeg:
    """Resolve the images and the length of a leg.

    epochs: train.epochs, unless the leg sets its own.  batch_size: of the global batch.
    Raises DataError if the learners may train on fewer images than one batch holds.
    """
    views, rows = train_set.data_of(leg)
    epochs = epochs if leg.epochs is None else leg.epochs
    n_steps = len(rows) // batch_size
    if n_steps == 0:
        raise DataError(
            f"train.batch_size: a batch holds {batch_size} images, but {', '.join(leg.learners)} may train on only "
            f"{len(rows)}; choose a smaller batch"
        )
    return PlannedLeg(
        leg.learners,
        leg.guides,
        extra=leg.extra,
        fresh=leg.fresh,
        number=number,
        epochs=epochs,
        n_steps=n_steps if epochs else 0,
        views=views,
        rows=rows,
    )
