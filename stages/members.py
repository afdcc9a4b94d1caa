"""Train the members of a cooperative group on what each of them has, and one network of each kind on all data."""

import shutil
from pathlib import Path

from stages.command import command


def main() -> None:
    """Train Cooperative's base networks (cooperative.members, student.arch, train.*), for every seed.

    Reads data/prepared; writes models/members/seed-N: each member, and all/ARCH for each architecture among them.
    """
    from pipeline.core.launch import begin
    from pipeline.params.load import load, runtime

    p = load("train", "student.arch", "seeds", "cooperative.members")
    begin(runtime(), "stages.members")
    from pipeline.core.outs import replace_folder
    from pipeline.core.session import Session
    from pipeline.core.vocabulary import Network
    from pipeline.data.members import members_of, rows_of
    from pipeline.methods.scratch import Scratch

    session = Session(
        "members",
        recipe=p["train"],
        decides={k: v for k, v in p.plain().items() if k != "seeds"},
        code=("stages/members.py", "pipeline/methods/scratch.py"),
        runtime=runtime(),
        data=Path("data/prepared"),
    )
    labels = session.data.labels("train")
    members = members_of(p["cooperative.members"], session.data.classes, p["student.arch"])
    trained = {}
    for seed in p["seeds"]:
        networks = {
            **{name: Network(m.arch, sees=rows_of(name, m, labels, seed), apart=True) for name, m in members.items()},
            **{f"all/{arch}": Network(arch, apart=True) for arch in dict.fromkeys(m.arch for m in members.values())},
        }
        about = {"method": "members", "members": list(members)}
        trained[seed] = session.train(Scratch(label_smoothing=0.0), networks, seed, about)

    def fill(folder: Path) -> None:
        for seed, outs in trained.items():
            shutil.copytree(outs / "networks", folder / f"seed-{seed}")

    if session.accelerator.is_main_process:
        replace_folder(Path("models/members"), fill)


if __name__ == "__main__":
    command(main)
