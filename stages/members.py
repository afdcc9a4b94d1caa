"""Train the members of a cooperative group, each on the images that it has."""

import shutil
from pathlib import Path

from stages.command import command

OUT = Path("models/members")


def main() -> None:
    """Train Cooperative's base networks (cooperative.members, student.arch, train.*), once for each seed.

    Reads data/prepared; writes models/members/seed-N: each member, trained on the images that it has, and all/ARCH,
    trained on all images, for each architecture among them. Trains nothing if no entry of `methods` is Cooperative.
    """
    from pipeline.params.load import load, runtime
    from pipeline.params.rules import uses_members
    from pipeline.runtime.launch import begin
    from pipeline.storage.atomic import replace_folder

    p = load("train", "student.arch", "seeds", "methods", "cooperative.members")
    if not uses_members(p["methods"]):
        replace_folder(OUT, lambda folder: (folder / "none.txt").write_text("no entry of methods is cooperative\n"))
        return
    begin(runtime(), "stages.members")
    from pipeline.core.interface import Network
    from pipeline.data.members import members_of, visible_rows
    from pipeline.methods.scratch import Scratch
    from pipeline.training.session import Session

    session = Session(
        "members",
        recipe=p["train"],
        parameters={k: v for k, v in p.plain().items() if k not in ("seeds", "methods")},
        code=("stages/members.py", "pipeline/methods/scratch.py"),
        runtime=runtime(),
        data=Path("data/prepared"),
    )
    labels = session.data.labels("train")
    members = members_of(p["cooperative.members"], session.data.classes, p["student.arch"])
    archs = dict.fromkeys(member.arch for member in members.values())
    trained = {}
    for seed in p["seeds"]:
        networks = {
            name: Network(member.arch, sees=visible_rows(name, member, labels, seed), independent=True)
            for name, member in members.items()
        }
        networks |= {f"all/{arch}": Network(arch, independent=True) for arch in archs}
        about = {"method": "members", "members": list(members)}
        trained[seed] = session.train(Scratch(label_smoothing=0.0), networks, seed, about)

    def fill(folder: Path) -> None:
        for seed, outputs in trained.items():
            shutil.copytree(outputs / "networks", folder / f"seed-{seed}")

    if session.accelerator.is_main_process:
        replace_folder(OUT, fill)


if __name__ == "__main__":
    command(main)
