"""Train students by one method."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from stages.command import Seed, check_name, command, print_error


def main(
    method: Annotated[str, typer.Argument(callback=check_name, help="An entry of `methods` in params.yaml, e.g. orc.")],
    seed: Seed = None,
) -> None:
    """Train a student, or a group, by METHOD, once for each seed (methods.METHOD, the section METHOD, train.*).

    Reads data/prepared and the networks that methods.METHOD.after names; writes models/students/METHOD/seed-N (every
    network that was trained), results/train/METHOD (history.csv, and for Cooperative sheets.npz with some
    counterfactuals of the first seed) and results/cost/METHOD.json. A seed in the checkpoint store is not trained
    again, and a killed run resumes from its checkpoint.

    A seed whose loss is not finite is reported and leaves diverged.json in the place of its networks; the other seeds
    go on, and the stage `complete` fails once everything else has run.
    """
    from pipeline.errors import Diverged
    from pipeline.params.load import load, runtime
    from pipeline.runtime.launch import is_main_process
    from pipeline.storage.atomic import replace_folder
    from pipeline.storage.bundle import bundle_path, read_diverged
    from pipeline.training.outputs import join_cost, join_history
    from pipeline.training.seeds import train_seeds
    from pipeline.training.stage import Participants, Stage

    p = load("train", "student.arch", "seeds", f"methods.{method}.is", f"methods.{method}.after", method)
    kind, after = p[f"methods.{method}.is"], p[f"methods.{method}.after"]
    stage = Stage(
        "stages.distill",
        method,
        recipe=p["train"],
        parameters={k: v for k, v in p.plain().items() if k != "seeds"},
        code=("stages/distill.py", f"pipeline/methods/{kind}.py"),
        runtime=runtime(),
        bundle=lambda seed: bundle_path(after, seed),
        may_diverge=True,
    )

    def participants(seed: int) -> Participants:
        from pipeline.training.participants import distillation

        bundle = bundle_path(after, seed)
        return distillation(method, kind, p[method], student=p["student.arch"], after=after, bundle=bundle)

    outputs = train_seeds(stage, p["seeds"] if seed is None else [seed], participants)
    if not is_main_process():
        return
    diverged = {number: at for number, done in outputs.items() if (at := read_diverged(done / "networks"))}
    for number, (_, at) in diverged.items():
        print_error(f"{stage.label} seed {number}: {Diverged(**at)}")
    if seed is not None:
        return
    trained = {number: folder for number, folder in outputs.items() if number not in diverged}

    def fill_students(folder: Path) -> None:
        for number, done in outputs.items():
            shutil.copytree(done / "networks", folder / f"seed-{number}")

    def fill_records(folder: Path) -> None:
        join_history(folder / "history.csv", list(trained.values()))
        for done in list(trained.values())[:1]:
            if (done / "sheets.npz").exists():
                shutil.copyfile(done / "sheets.npz", folder / "sheets.npz")

    replace_folder(Path("models/students", method), fill_students)
    replace_folder(Path("results/train", method), fill_records)
    Path("results/cost").mkdir(parents=True, exist_ok=True)
    join_cost(Path(f"results/cost/{method}.json"), trained, p.plain(), Path("results/train", method), stage.environment)


if __name__ == "__main__":
    command(main)
