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

    Reads data/prepared and models/CHAIN/AFTER; writes models/CHAIN/NAME, a bundle of the chain up to this network.
    """
    from pipeline.params.load import load, runtime
    from pipeline.runtime.launch import is_main_process
    from pipeline.storage.atomic import replace_folder
    from pipeline.storage.bundle import copy_network
    from pipeline.training.stage import Participants, Stage

    p = load("train", chain, f"assistants.{name}")
    assistant = p[f"assistants.{name}"]
    predecessor = Path("models", chain, assistant.after)
    stage = Stage(
        "stages.assist",
        chain,
        name,
        recipe=p["train"],
        parameters=p.plain(),
        code=("stages/assist.py", f"pipeline/methods/{chain}.py"),
        runtime=runtime(),
        inputs=lambda seed: predecessor,
    )

    def participants(seed: int) -> Participants:
        from pipeline.training.participants import create_method, initial_networks

        method = create_method(chain, p[chain])
        networks = method.networks(assistant.arch, initial_networks(predecessor))
        return Participants(method, networks, {"method": f"assist-{chain}", "student": "student"})

    (trained,) = stage.train([p["train"].seed if seed is None else seed], participants).values()

    def fill(folder: Path) -> None:
        shutil.copytree(predecessor, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run.json"))
        copy_network(trained / "networks", "student", folder, name)

    if is_main_process() and seed is None:
        replace_folder(Path("models", chain, name), fill)


if __name__ == "__main__":
    command(main)
