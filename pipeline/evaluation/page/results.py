"""What the page reads of results/: the outcomes, histories and logits of all methods."""

from collections import Counter
from pathlib import Path

import numpy as np

from pipeline.evaluation.comparison import MARGIN
from pipeline.evaluation.outcomes import Outcome, train_file
from pipeline.evaluation.page.history import History
from pipeline.evaluation.predictions import read_logits


class Results:
    """Everything that the page reads. Figures show the first seed that ended, and no method without one.

    Args:
        results: The folder results/.
        outcomes: The outcomes of all methods, at least one.
        reference: The method to compare with, `report.reference` of params.yaml.
        margin: Percentage points of an equivalent accuracy, `report.margin`.
        has_predictions: Whether there are predictions; a study does not keep them.
    """

    def __init__(
        self,
        results: Path,
        outcomes: list[Outcome],
        reference: str,
        margin: float = MARGIN,
        *,
        has_predictions: bool = True,
    ):
        self.results, self.outcomes, self.reference, self.margin = results, outcomes, reference, margin
        self.has_predictions = has_predictions
        self.classes = outcomes[0].classes
        self.ended = [o for o in outcomes if o.seeds]
        self.students = [o for o in self.ended if o.student]
        self.seeds = {o.name: next(iter(o.seeds)) for o in self.ended}
        files = {o.name: train_file(results, o.name, o.cost, "history.csv") for o in self.ended}
        self.histories = {name: History(file, self.seeds[name]) for name, file in files.items()}

    def logits(self, o: Outcome) -> tuple[np.ndarray, np.ndarray]:
        """Return the student's logits on the test split [N, C] and the labels [N], of the seed that figures show."""
        file, seed = self.results / "predictions" / f"{o.name}.parquet", self.seeds[o.name]
        z, y = read_logits(file, seed, str(o.student), o.correct()[seed][0], len(self.classes))
        return z, y

    @property
    def representative(self) -> Outcome | None:
        """The method whose errors are shown: the reference, else the first that trains a student, if it ended."""
        return next((o for o in self.students if o.name == self.reference), next(iter(self.students), None))

    @property
    def shown_seeds(self) -> str:
        """The seeds that figures show, e.g. "seed 0 (orc: seed 1)"; empty if all methods diverged."""
        if not self.seeds:
            return ""
        usual = Counter(self.seeds.values()).most_common(1)[0][0]
        others = ", ".join(f"{name}: seed {seed}" for name, seed in self.seeds.items() if seed != usual)
        return f"seed {usual} ({others})" if others else f"seed {usual}"
