"""Train students by one method."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from stages.command import command


def main(
    method: Annotated[str, typer.Argument(help="An entry of `methods` in params.yaml, e.g. orc.")],
) -> None:
    """Train a student, or a group, by METHOD, once for every seed (methods.METHOD, the section METHOD, train.*).

    Reads data/prepared and what methods.METHOD.after names; writes models/students/METHOD/seed-N (every network
    that was trained), results/train/METHOD (history.csv; of Cooperative, sheets.npz with some
    counterfactuals of the first seed) and results/cost/METHOD.json. A seed that is in the
    checkpoint store is not trained again; a killed run goes on where it was.
    """
    from pipeline.core.launch import begin
    from pipeline.params.load import load, runtime

    p = load("train", "student.arch", "seeds", f"methods.{method}", method)
    begin(runtime(), "stages.distill", method)
    from pipeline.core.cast import bundle_of, method_of, start_of
    from pipeline.core.outs import join_cost, join_history, replace_folder
    from pipeline.core.session import Session

    entry = p[f"methods.{method}"]
    session = Session(
        f"distill-{method}",
        recipe=p["train"],
        decides={k: v for k, v in p.plain().items() if k != "seeds"},
        code=("stages/distill.py", f"pipeline/methods/{entry.is_}.py"),
        runtime=runtime(),
        data=Path("data/prepared"),
    )
    trained: dict[int, Path] = {}
    for seed in p["seeds"]:
        after = bundle_of(entry.after, seed)
        teaching = method_of(entry.is_, p[method])
        networks = teaching.networks(p["student.arch"], start_of(after))
        student = "student" if "student" in networks else None
        about = {
            "method": method,
            "is": entry.is_,
            "student": student,
            "members": [] if student else [name for name, network in networks.items() if network.learns],
            "guides": [name for name, network in networks.items() if not network.learns],
            "after": after and after.as_posix(),
        }
        trained[seed] = session.train(teaching, networks, seed, about)
    if not session.accelerator.is_main_process:
        return

    def students(folder: Path) -> None:
        for seed, outs in trained.items():
            shutil.copytree(outs / "networks", folder / f"seed-{seed}")

    replace_folder(Path("models/students", method), students)

    def records(folder: Path) -> None:
        join_history(folder / "history.csv", list(trained.values()))
        sheets = trained[p["seeds"][0]] / "sheets.npz"
        if sheets.exists():
            shutil.copyfile(sheets, folder / "sheets.npz")

    replace_folder(Path("results/train", method), records)
    Path("results/cost").mkdir(parents=True, exist_ok=True)
    join_cost(Path(f"results/cost/{method}.json"), trained, p.plain())


if __name__ == "__main__":
    command(main)
