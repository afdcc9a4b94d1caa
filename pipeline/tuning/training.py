"""The training of a trial: by the session that `distill` uses, from the checkpoint store where it is there already."""

import hashlib
import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pipeline.params.load import plain
from pipeline.storage.bundle import Bundle, bundle_path, read_diverged, read_run
from pipeline.training.stage import Participants, Stage
from pipeline.tuning.space import Space, Values
from pipeline.tuning.study import Trial

if TYPE_CHECKING:
    from pipeline.training.session import Session

STREAM = "distill"  # trials draw as the trainings of `distill` do, but with other seeds


class Trainer:
    """Trains the trials of one entry of `methods`.

    name: of the entry.  values: all sections of params.yaml.  session: that of another entry, whose device and data
    are used again.
    """

    def __init__(self, name: str, values: dict[str, Any], session: "Session | None" = None):
        entry, tune = values["methods"][name], values["tune"]
        self.name, self.kind, self.section = name, entry.is_, values[name]
        self.student, self.seeds = values["student"].arch, list(tune.seeds)
        self.runtime, self.session = values["runtime"], session
        recipe = values["train"].model_copy(update={"epochs": tune.epochs or values["train"].epochs})
        guide_seed = values["seeds"][0] if tune.teacher_seed is None else tune.teacher_seed
        self.after, self.bundle = entry.after, bundle_path(entry.after, guide_seed)
        self.parameters = {
            "train": plain(recipe),
            "student.arch": self.student,
            "is": entry.is_,
            "after": entry.after,
        }
        self.stage = Stage(
            "stages.tune",
            name,
            recipe=recipe,
            parameters=self.parameters,
            code=("pipeline/training/participants.py", f"pipeline/methods/{entry.is_}.py"),
            runtime=self.runtime,
            stream=STREAM,
            bundle=lambda seed: self.bundle,
            may_diverge=True,
        )

    def key(self, space: Space) -> str:
        """A digest of everything that decides a trial besides the parameters that are searched, and of the space."""
        fixed = {key: value for key, value in plain(self.section).items() if key not in space.searched}
        searched = {key: str(search) for key, search in space.searched.items()}
        decides = [fixed, searched, [self.stage.key(seed) for seed in self.seeds]]
        return hashlib.sha256(json.dumps(decides, sort_keys=True).encode()).hexdigest()[:32]

    def section_of(self, parameters: Values) -> Any:
        """The section of the entry with other values of some parameters, which are validated."""
        return type(self.section).model_validate(plain(self.section) | parameters, strict=True)

    def stage_of(self, number: int, parameters: Values) -> Stage:
        """The stage that trains one trial.  number: of the trial, for messages.  parameters: that are searched."""
        decides = self.parameters | {"section": plain(self.section_of(parameters))}
        arguments = ("--trial", str(number), "--parameters", json.dumps(parameters))
        return self.stage.with_parameters(decides, f"tune-{self.name}-trial-{number}", *arguments)

    def participants(self, parameters: Values) -> Participants:
        """What a trial trains."""
        from pipeline.training.participants import distillation

        section = self.section_of(parameters)
        return distillation(self.name, self.kind, section, student=self.student, after=self.after, bundle=self.bundle)

    def train(self, number: int, parameters: Values, seed: int) -> Path:
        """Train one seed of a trial, or find it in the store. Returns the folder of its outputs.

        Raises Interrupted, with a checkpoint, after a signal.
        """
        stage = self.stage_of(number, parameters)
        found = stage.find(seed)
        if found is not None:
            return self.keep(stage, found)
        if self.session is None:
            from pipeline.runtime import launch

            launch.begin(self.runtime, *stage.command)
            from pipeline.training.session import Session

            self.session = Session(stage)
        self.session.stage = stage
        return self.keep(stage, self.session.train(seed, self.participants(parameters)))

    def keep(self, stage: Stage, folder: Path) -> Path:
        """Keep the links of a stage's outputs until they are read."""
        self.links = stage.links  # the folder goes with them
        return folder

    def results(self, trial: Trial) -> dict[int, float | None]:
        """Train the seeds of a trial. Returns the validation top-1 of each, in percent; None for one that diverged."""
        return {seed: validation(self.train(trial.number, trial.parameters, seed)) for seed in self.seeds}


def validation(outputs: Path) -> float | None:
    """The validation top-1 after the last epoch: of the student, or the mean of the group's members, in percent.

    outputs: of a trained seed.  Returns None if it diverged.
    """
    networks = outputs / "networks"
    if read_diverged(networks) is not None:
        return None
    about, bundle = read_run(networks), Bundle.read(networks)
    names = [about["student"]] if about["student"] else about["members"]
    values = [(bundle.record(name).validation or {})["last"] for name in names]
    return sum(values) / len(values)
