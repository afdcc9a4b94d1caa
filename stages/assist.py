"""Train one teacher assistant of a chain."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from stages.command import check_name, command


def main(
    chain: Annotated[
        Literal["takd", "dgkd"],
        typer.Argument(help="takd: the predecessor guides the assistant; dgkd: all networks before it do."),
    ],
    name: Annotated[
        str, typer.Argument(callback=check_name, help="The assistant: a key of `assistants` in params.yaml.")
    ],
) -> None:
    """Train the teacher assistant NAME of CHAIN (assistants.NAME, train.*, and the section of the chain's method).

    Reads data/prepared and models/CHAIN/AFTER; writes models/CHAIN/NAME, a bundle of the chain up to this network.
    """
    from pipeline.params.load import load, runtime
    from pipeline.runtime.launch import begin

    p = load("train", chain, f"assistants.{name}")
    begin(runtime(), "stages.assist", chain, name)
    from pipeline.storage.atomic import replace_folder
    from pipeline.storage.bundle import copy_network
    from pipeline.training.participants import create_method, initial_networks
    from pipeline.training.session import Session

    assistant = p[f"assistants.{name}"]
    predecessor = Path("models", chain, assistant.after)
    session = Session(
        f"assist-{chain}-{name}",
        recipe=p["train"],
        parameters=p.plain(),
        code=("stages/assist.py", f"pipeline/methods/{chain}.py"),
        runtime=runtime(),
        data=Path("data/prepared"),
    )
    method = create_method(chain, p[chain])
    networks = method.networks(assistant.arch, initial_networks(predecessor))
    trained = session.train(method, networks, p["train"].seed, {"method": f"assist-{chain}", "student": "student"})

    def fill(folder: Path) -> None:
        shutil.copytree(predecessor, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run.json"))
        copy_network(trained / "networks", "student", folder, name)

    if session.accelerator.is_main_process:
        replace_folder(Path("models", chain, name), fill)


if __name__ == "__main__":
    command(main)
