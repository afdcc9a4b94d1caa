"""Evaluation of trained networks on the test split, and of what students took over on the training images.

The module loads bundles and runs their networks. It knows which networks a method starts from and produces, but not
how they were trained.
"""

from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.data.prepared import Prepared
from pipeline.data.split import stratified
from pipeline.errors import UserError
from pipeline.evaluation import false_knowledge, metrics
from pipeline.storage.bundle import Bundle, seed_bundle

BATCH_SIZE = 512
MOST_TRAINING = 10_000  # training images on which false knowledge is measured
DECIMALS = 6  # of what is written; further decimals vary between processors


class Tester:
    """Evaluates the networks of one method, keeping the test split and all logits in memory.

    Args:
        data: The prepared data set.
    """

    def __init__(self, data: Prepared):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.data = data
        self.views = data.views("test", device=self.device)
        self.labels = data.labels("test")
        self.cached_logits: dict[tuple[Path, str, str, str], np.ndarray] = {}

    def logits(self, bundle: Bundle, name: str, which: str, split: str = "test") -> np.ndarray:
        """Return a network's logits, [N, C] float32, computing them on the first call only.

        Args:
            bundle: The bundle that holds the network.
            name: The network's name in the bundle.
            which: The weights, "last" or "best" (on validation).
            split: "test", or "train" for the images of `training_rows`, without augmentation.

        Raises:
            UserError: The device runs out of memory.
        """
        key = (bundle.folder, name, which, split)
        if key not in self.cached_logits:
            network = bundle.load(name, which).to(self.device)
            views = self.views if split == "test" else self.training_views
            rows = np.arange(len(self.labels)) if split == "test" else self.training_rows
            batches = torch.as_tensor(rows).split(BATCH_SIZE)
            try:
                with torch.inference_mode():
                    z = torch.cat([network(views.plain(batch.to(self.device))) for batch in batches])
            except torch.OutOfMemoryError:
                raise UserError(
                    f"out of memory on {self.device}: {name} does not evaluate {BATCH_SIZE} images at a time; free the "
                    f"device, or set CUDA_VISIBLE_DEVICES= to evaluate on the CPU"
                ) from None
            self.cached_logits[key] = z.float().cpu().numpy()
        return self.cached_logits[key]

    @cached_property
    def training_views(self) -> Any:
        """The training images, without augmentation."""
        return self.data.views("train", device=self.device, pad=0, flip=False)

    @cached_property
    def training_rows(self) -> np.ndarray:
        """The training images on which false knowledge is measured: all, or MOST_TRAINING of them, [N] int64."""
        labels = self.data.labels("train")
        n = len(labels)
        return np.arange(n) if n <= MOST_TRAINING else stratified(labels, MOST_TRAINING, "false knowledge")

    def evaluate_training(self, folder: Path, metadata: dict[str, Any]) -> tuple[dict[str, Any], Any]:
        """Measure what the student of one seed took over on the training images, with the last weights of all.

        Args:
            folder: The seed's bundle, models/students/METHOD/seed-N.
            metadata: The content of its run.json.

        Returns:
            The entry `training` of the seed in results/eval/METHOD.json, and the table of `training_answers`.
        """
        rows = self.training_rows
        labels, true = self.data.labels("train")[rows], self.data.true_labels("train")[rows]
        student = self.logits(Bundle.read(folder), metadata["student"], "last", "train").argmax(1)
        teachers = None
        if names := metadata.get("teachers"):
            bundle = Bundle.read(seed_bundle(Path(metadata["after"]), metadata["seed"]))
            teachers = false_knowledge.answers([self.logits(bundle, name, "last", "train") for name in names])
        found = false_knowledge.describe(student, teachers, labels, true)
        rounded = {k: round(v, DECIMALS) if isinstance(v, float) else v for k, v in found.items()}
        return rounded, training_answers(metadata["seed"], rows, true, student, teachers)

    def evaluate_seed(self, folder: Path, metadata: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """Evaluate all networks of one seed.

        Args:
            folder: The seed's bundle, models/students/METHOD/seed-N.
            metadata: The content of its run.json.

        Returns:
            The seed's entry of results/eval/METHOD.json, and the logits [N, C] of the student or of every member.
        """
        bundle = Bundle.read(folder)
        networks = {name: self.evaluate_network(bundle, name) for name in bundle.networks}
        final_names = [metadata["student"]] if metadata["student"] else metadata["members"]
        final = {name: self.logits(bundle, name, "last") for name in final_names}
        result: dict[str, Any] = {"networks": networks}
        after = metadata["after"] and seed_bundle(Path(metadata["after"]), metadata["seed"])
        guides = Bundle.read(after) if after else None
        trained = [name for name, record in guides.networks.items() if record.weights] if guides else []
        if guides and metadata["student"]:  # guides teach with their last weights
            result["guides"] = {name: self.evaluate_network(guides, name, ("last",)) for name in trained}
        if metadata["student"]:
            z = final[metadata["student"]]
            result["per_class"] = round_all(metrics.per_class(z, self.labels))
            if guides and "teacher" in trained:
                agreement = metrics.agreement(z, self.logits(guides, "teacher", "last"))
                result["agreement"] = round(agreement, DECIMALS)
            if guides and (names := metadata.get("teachers")):
                z_teachers = [self.logits(guides, name, "last") for name in names]
                result["false_knowledge"] = round(metrics.false_knowledge(z, z_teachers, self.labels), DECIMALS)
            result["right"] = pack(z.argmax(1) == self.labels)
        elif guides:
            start = {name: self.evaluate_network(guides, name) for name in trained}
            result["before"] = {name: start[name] for name in metadata["members"]}
            result["all_data"] = {name: start[oracle_of(guides, name)] for name in metadata["members"]}
            correct = np.concatenate([final[name].argmax(1) == self.labels for name in metadata["members"]])
            result["right"] = pack(correct)
        return result, final

    def evaluate_network(
        self, bundle: Bundle, name: str, weights: tuple[str, ...] = ("last", "best")
    ) -> dict[str, Any]:
        """Return a network's test metrics for each of the weights, with its size and validation accuracy."""
        record = bundle.networks[name]
        tested = {which: metrics.summary(self.logits(bundle, name, which), self.labels) for which in weights}
        return {
            "arch": record.arch,
            "parameters": record.parameters,
            **{which: {k: round(v, DECIMALS) for k, v in values.items()} for which, values in tested.items()},
            "validation": record.validation,
        }


def oracle_of(bundle: Bundle, member: str) -> str:
    """Return the name of the network that is trained as a member is, but on all images."""
    own = bundle.networks[member]
    return next(
        name
        for name, other in bundle.networks.items()
        if name.startswith("all/") and (other.arch, other.options, other.copies) == (own.arch, own.options, own.copies)
    )


def round_all(values: list[float | None]) -> list[float | None]:
    """Round every number to DECIMALS, keeping None."""
    return [None if v is None else round(v, DECIMALS) for v in values]


def pack(correct: np.ndarray) -> str:
    """Encode booleans [n] as hexadecimal digits, eight to a byte.

    The report needs them for paired tests and so does not have to read the logits.
    """
    return np.packbits(correct).tobytes().hex()


def predictions(seed: int, name: str, z: np.ndarray, labels: np.ndarray) -> Any:
    """Return a polars data frame with one row per image: seed, network, index, label, prediction, logits."""
    import polars as pl

    n = len(labels)
    logits = pl.Array(pl.Float32, z.shape[1])
    return pl.DataFrame(
        {
            "seed": pl.Series([seed] * n, dtype=pl.Int64),
            "network": pl.Series([name] * n, dtype=pl.String),
            "index": np.arange(n),
            "label": labels,
            "prediction": z.argmax(1),
            "logits": pl.Series(z.astype(np.float32), dtype=logits) if n else pl.Series([], dtype=logits),
        }
    )


def training_answers(
    seed: int, rows: np.ndarray, true: np.ndarray, student: np.ndarray, teachers: np.ndarray | None
) -> Any:
    """Return a polars data frame with one row per training image: seed, index, true, student, teachers.

    Args:
        seed: The seed.
        rows: The rows of the images in the training split, [N].
        true: Their true labels, [N].
        student: The classes that the student predicts, [N].
        teachers: The answers of its teachers, [N]; None, which is written as -1, without teachers.
    """
    import polars as pl

    teachers = np.full(len(rows), -1) if teachers is None else teachers
    columns = {"index": rows, "true": true, "student": student, "teachers": teachers}
    return pl.DataFrame(
        {"seed": pl.Series([seed] * len(rows), dtype=pl.Int64)}
        | {name: pl.Series(values, dtype=pl.Int64) for name, values in columns.items()}
    )


def no_training_answers() -> Any:
    """Return the data frame of :func:`training_answers` without rows, for a group, or if all seeds diverged."""
    empty = np.zeros(0, np.int64)
    return training_answers(0, empty, empty, empty, empty)


def no_predictions(n_classes: int) -> Any:
    """Return the data frame of :func:`predictions` without rows, for a method that diverged in all seeds."""
    return predictions(0, "", np.zeros((0, n_classes), np.float32), np.zeros(0, np.int64))
