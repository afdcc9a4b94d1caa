"""Train students by one method."""

import shutil
from pathlib import Path
from typing import Annotated, Any

import typer

from stages.command import check_name, command, print_error


def main(
    method: Annotated[str, typer.Argument(callback=check_name, help="An entry of `methods` in params.yaml, e.g. orc.")],
) -> None:
    """Train a student, or a group, by METHOD, once for each seed (methods.METHOD, the section METHOD, train.*).

    Reads data/prepared and the networks that methods.METHOD.after names; writes models/students/METHOD/seed-N (every
    network that was trained), results/train/METHOD (history.csv, and for Cooperative sheets.npz with some
    counterfactuals of the first seed) and results/cost/METHOD.json. A seed in the checkpoint store is not trained
    again, and a killed run resumes from its checkpoint.

    A seed whose loss is not finite is reported and leaves diverged.json in the place of its networks; the other seeds
    go on, and the stage `complete` fails once everything else has run.
    """
    from pipeline.params.load import load, runtime
    from pipeline.runtime.launch import begin

    p = load("train", "student.arch", "seeds", f"methods.{method}.is", f"methods.{method}.after", method)
    begin(runtime(), "stages.distill", method)
    from pipeline.storage.atomic import replace_folder
    from pipeline.storage.bundle import DIVERGED
    from pipeline.storage.documents import write_json
    from pipeline.training.metrics import Diverged
    from pipeline.training.outputs import join_cost, join_history
    from pipeline.training.participants import bundle_path, create_method, initial_networks
    from pipeline.training.session import Session

    kind, after = p[f"methods.{method}.is"], p[f"methods.{method}.after"]
    session = Session(
        f"distill-{method}",
        recipe=p["train"],
        parameters={k: v for k, v in p.plain().items() if k != "seeds"},
        code=("stages/distill.py", f"pipeline/methods/{kind}.py"),
        runtime=runtime(),
        data=Path("data/prepared"),
    )
    trained: dict[int, Path] = {}
    diverged: dict[int, dict[str, Any]] = {}
    for seed in p["seeds"]:
        bundle = bundle_path(after, seed)
        teaching = create_method(kind, p[method])
        networks = teaching.networks(p["student.arch"], initial_networks(bundle))
        student = "student" if "student" in networks else None
        about = {
            "method": method,
            "is": kind,
            "student": student,
            "members": [] if student else [name for name, network in networks.items() if network.learns],
            "guides": [name for name, network in networks.items() if not network.learns],
            "after": bundle and bundle.as_posix(),
        }
        try:
            trained[seed] = session.train(teaching, networks, seed, about)
        except Diverged as error:
            if session.accelerator.is_main_process:
                print_error(f"distill-{method} seed {seed}: {error}")
            who = {key: about[key] for key in ("method", "is", "student", "members")}
            diverged[seed] = {**who, **error.at, "seed": seed}
    if not session.accelerator.is_main_process:
        return

    def fill_students(folder: Path) -> None:
        for seed, outputs in trained.items():
            shutil.copytree(outputs / "networks", folder / f"seed-{seed}")
        for seed, where in diverged.items():
            (folder / f"seed-{seed}").mkdir()
            write_json(folder / f"seed-{seed}" / DIVERGED, where)

    def fill_records(folder: Path) -> None:
        join_history(folder / "history.csv", list(trained.values()))
        for outputs in list(trained.values())[:1]:
            if (outputs / "sheets.npz").exists():
                shutil.copyfile(outputs / "sheets.npz", folder / "sheets.npz")

    replace_folder(Path("models/students", method), fill_students)
    replace_folder(Path("results/train", method), fill_records)
    Path("results/cost").mkdir(parents=True, exist_ok=True)
    join_cost(
        Path(f"results/cost/{method}.json"), trained, p.plain(), Path("results/train", method), session.environment
    )


if __name__ == "__main__":
    command(main)
