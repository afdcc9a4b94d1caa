"""The table of a method's trials, results/tune/METHOD.csv, which `stages.tune` writes and `report` reads.

Its columns are trial (from 1), one for each parameter that was searched, validation (mean of the seeds), seed-N for
each seed, state (complete or diverged) and data (`data_digest`). Accuracies are validation top-1 in percent; empty
where a seed diverged.
"""

import csv
import hashlib
import io
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pipeline.data.prepared import Prepared
from pipeline.storage.atomic import replace_file
from pipeline.storage.documents import damaged, read_bytes

STATES = ("complete", "diverged")
SEED = "seed-"
DATA = r"[0-9a-f]{16}"


@dataclass(frozen=True)
class TriedTrial:
    """One row.

    validation: mean over seeds; None if a seed diverged.  seeds: of each; None if it diverged.  data: the digest of the
    data that it learned from.
    """

    trial: int
    parameters: dict[str, Any]
    validation: float | None
    seeds: dict[int, float | None]
    data: str


@dataclass(frozen=True)
class Tuning:
    """How the parameters of a method were chosen.

    trials: sets of parameters that were tried on validation.  best: the best of them; None if all diverged.
    reported: the trial whose parameters the reported results have; None if there is no such trial.
    """

    trials: int
    best: TriedTrial | None
    reported: TriedTrial | None

    @property
    def adopted(self) -> bool:
        """Whether the reported results have the best parameters."""
        return self.best is not None and self.best == self.reported


def data_digest(data: Prepared) -> str:
    """What trials learn from, in 16 digits: the images and labels of the training and validation split.

    Of streamed images it holds paths and sizes of the files, and the size in pixels, in place of the pixels.
    """
    digest = hashlib.sha256()
    for split in ("train", "validation"):
        if data.meta.root is None:
            digest.update(data.meta.sha256[split].encode())
        else:
            files = data.table.filter(data.table["split"] == split)
            digest.update(repr([data.meta.image_size, *files.select("source", "size").iter_rows()]).encode())
        digest.update(data.labels(split).tobytes())
    return digest.hexdigest()[:16]


def read_tuning(folder: Path, name: str, parameters: dict[str, Any], data: str | None = None) -> Tuning | None:
    """How the parameters of a method were chosen; None if they were not tuned, or if there is no such folder.

    folder: results/tune.  name: of the method.  parameters: those of the reported results.  data: the digest of the
    data that the results are of: trials on other data do not count.  None counts all.
    Raises DataError if the table is damaged.
    """
    file = folder / f"{name}.csv"
    if not file.exists():
        return None
    trials = [row for row in read_trials(file) if data in (None, row.data)]
    if not trials:
        return None
    same = [row for row in trials if all(parameters.get(key) == value for key, value in row.parameters.items())]
    return Tuning(len(trials), best_trial(trials), next(iter(same), None))


def write_trials(file: Path, trials: Sequence[TriedTrial]) -> None:
    """Write the table of a method, in the place of the old one.  trials: at least one."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names, seeds = list(trials[0].parameters), list(trials[0].seeds)
    writer.writerow(["trial", *names, "validation", *(f"{SEED}{seed}" for seed in seeds), "state", "data"])
    for row in trials:
        values = [written(row.parameters[name]) for name in names]
        accuracies = [written(row.validation), *(written(row.seeds[seed]) for seed in seeds)]
        writer.writerow([row.trial, *values, *accuracies, STATES[row.validation is None], row.data])
    file.parent.mkdir(parents=True, exist_ok=True)
    replace_file(file, [out.getvalue().encode()])


def read_trials(file: Path) -> list[TriedTrial]:
    """The rows of a table, at least one. Raises DataError if it is damaged."""
    rerun = f"python -m stages.tune {file.stem}"
    try:
        header, *rows = csv.reader(read_bytes(file, rerun=rerun).decode().splitlines(), strict=True)
        end = header.index("validation")
        seeds = [int(name.removeprefix(SEED)) for name in header[end + 1 : -2]]
        if header[0] != "trial" or header[-2:] != ["state", "data"] or not rows or not seeds:
            raise ValueError("it does not have the columns trial, validation, seed-N, state and data, and a row")
        return [row_of(row, header[1:end], seeds, number) for number, row in enumerate(rows, 1)]
    except (ValueError, csv.Error) as error:
        raise damaged(file, str(error), rerun=rerun) from None


def row_of(row: list[str], names: list[str], seeds: list[int], number: int) -> TriedTrial:
    """One row from its cells. Raises ValueError."""
    if len(row) != len(names) + len(seeds) + 4 or row[0] != str(number) or row[-2] not in STATES:
        raise ValueError(f"row {number} does not have its number, its cells and its state")
    if not re.fullmatch(DATA, row[-1]):
        raise ValueError(f"row {number} does not have the digest of its data")
    values = [percent(cell) for cell in row[len(names) + 1 : -2]]
    if (values[0] is None) != (row[-2] == "diverged"):
        raise ValueError(f"row {number} has no validation accuracy, or has one although it diverged")
    parameters = {name: read_value(cell) for name, cell in zip(names, row[1:])}
    return TriedTrial(number, parameters, values[0], dict(zip(seeds, values[1:])), row[-1])


def best_trial(trials: Sequence[TriedTrial]) -> TriedTrial | None:
    """The trial with the highest validation accuracy, the first of equal ones; None if all diverged."""
    ended = [row for row in trials if row.validation is not None]
    return max(ended, key=lambda row: (row.validation, -row.trial), default=None)


def written(value: Any) -> str:
    """A cell: text as it is, nothing as nothing, anything else as JSON."""
    return value if isinstance(value, str) else "" if value is None else json.dumps(value)


def read_value(cell: str) -> Any:
    """The value of a parameter in a cell."""
    try:
        return json.loads(cell)
    except ValueError:
        return cell


def percent(cell: str) -> float | None:
    """An accuracy in a cell. Raises ValueError."""
    value = float(cell) if cell else None
    if value is not None and not 0 <= value <= 100:
        raise ValueError(f"{cell[:20]} is no accuracy in percent")
    return value
