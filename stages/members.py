"""Train the members of a cooperative group, each on the images that it has."""

import shutil
from dataclasses import replace
from pathlib import Path

from stages.command import Seed, command

OUT = Path("models/members")


def main(seed: Seed = None) -> None:
    """Train Cooperative's base networks (cooperative.members, student.arch, train.*), once for each seed.

    Reads data/prepared; writes models/members/seed-N: each member, trained on the images that it has, and all/ARCH,
    trained on all images, for each architecture among them; an estimator with other
    options is all/ARCH-2. Trains nothing if no entry of `methods` is Cooperative.
    """
    from pipeline.estimators.check import check_estimators
    from pipeline.params.load import load, runtime
    from pipeline.params.rules import uses_members
    from pipeline.runtime.launch import is_main_process
    from pipeline.storage.atomic import replace_folder
    from pipeline.training.seeds import train_seeds
    from pipeline.training.stage import Participants, Stage

    p = load("train", "student.arch", "seeds", "methods", "cooperative.members")
    if not uses_members(p["methods"]):
        if seed is None:
            replace_folder(OUT, lambda folder: (folder / "none.txt").write_text("no entry of methods is cooperative\n"))
        return
    if isinstance(p["cooperative.members"], dict):
        check_estimators(p["cooperative.members"])
    stage = Stage(
        "stages.members",
        recipe=p["train"],
        parameters={k: v for k, v in p.plain().items() if k not in ("seeds", "methods")},
        code=("stages/members.py", "pipeline/methods/scratch.py"),
        runtime=runtime(),
    )

    def participants(seed: int) -> Participants:
        from pipeline.core.interface import Network
        from pipeline.data.members import members_of, oracles, visible_rows
        from pipeline.methods.scratch import Scratch

        labels = stage.data.labels("train")
        members = members_of(p["cooperative.members"], stage.data.classes, p["student.arch"])
        networks = {
            name: Network(
                member.arch,
                sees=visible_rows(name, member, labels, seed),
                independent=True,
                options=member.options,
                copies=member.copies,
            )
            for name, member in members.items()
        }
        networks |= {oracle: replace(networks[name], sees=None) for name, oracle in oracles(members).items()}
        about = {"method": "members", "members": list(members)}
        return Participants(
            Scratch(ce_weight=1.0, label_smoothing=0.0), networks, about, student_arch=p["student.arch"]
        )

    trained = train_seeds(stage, p["seeds"] if seed is None else [seed], participants)

    def fill(folder: Path) -> None:
        for number, outputs in trained.items():
            shutil.copytree(outputs / "networks", folder / f"seed-{number}")

    if is_main_process() and seed is None:
        replace_folder(OUT, fill)


if __name__ == "__main__":
    command(main)
