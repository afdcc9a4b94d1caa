"""Train one teacher assistant of a chain."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from stages.command import Seed, check_name, command


def main(
    chain: Annotated[
        Literal["takd", "dgkd"],
        typer.Argument(help="takd: the predecessor guides the assistant; dgkd: all networks before it do."),
    ],
    name: Annotated[
        str, typer.Argument(callback=check_name, help="The assistant: a key of `assistants` in params.yaml.")
    ],
    seed: Seed = None,
) -> None:
    """Train the teacher assistant NAME of CHAIN (assistants.NAME, train.*, and the section of the chain's method).

    Reads data/prepared and models/CHAIN/AFTER; writes models/CHAIN/NAME: bundles of the chain up to this network, one
    for each of seeds, or one for all seeds if teacher.per_seed is false. The assistant sees the training images that
    the teacher of its bundle was trained on.
    """
    from pipeline.params.load import load, runtime
    from pipeline.runtime.launch import is_main_process
    from pipeline.storage.atomic import replace_folder
    from pipeline.storage.bundle import copy_network, seed_bundle
    from pipeline.training.seeds import train_seeds
    from pipeline.training.stage import Participants, Stage

    p = load("train", chain, f"assistants.{name}", "seeds", "teacher.per_seed")
    assistant = p[f"assistants.{name}"]
    predecessor = Path("models", chain, assistant.after)
    stage = Stage(
        "stages.assist",
        chain,
        name,
        recipe=p["train"],
        parameters={k: v for k, v in p.plain().items() if k not in ("seeds", "teacher.per_seed")},
        code=("stages/assist.py", f"pipeline/methods/{chain}.py"),
        runtime=runtime(),
        stream=f"assist-{name}",
        bundle=lambda seed: seed_bundle(predecessor, seed),
    )

    def participants(seed: int) -> Participants:
        from pipeline.training.participants import create_method, initial_networks, learning_from

        start = initial_networks(seed_bundle(predecessor, seed))
        method = create_method(chain, p[chain])
        networks = learning_from(method.networks(assistant.arch, start), start["teacher"].sees)
        about = {"method": f"assist-{chain}", "student": "student"}
        return Participants(method, networks, about, student_arch=assistant.arch)

    per_seed = p["teacher.per_seed"]
    chosen = p["seeds"] if per_seed else [p["train"].seed]
    trained = train_seeds(stage, chosen if seed is None else [seed], participants)

    def fill(folder: Path) -> None:
        for number, outputs in trained.items():
            target = folder / f"seed-{number}" if per_seed else folder
            source = seed_bundle(predecessor, number)
            shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run.json"))
            copy_network(outputs / "networks", "student", target, name)

    if is_main_process() and seed is None:
        replace_folder(Path("models", chain, name), fill)


if __name__ == "__main__":
    command(main)
