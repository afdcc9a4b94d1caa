"""Train one teacher assistant of a chain: the next link after its predecessor."""

import shutil
from pathlib import Path
from typing import Annotated

import typer

from stages.command import command


def main(
    chain: Annotated[str, typer.Argument(help="takd (guided by its predecessor) or dgkd (by all before it).")],
    name: Annotated[str, typer.Argument(help="The assistant: a key of `assistants` in params.yaml.")],
) -> None:
    """Train a teacher assistant (assistants.NAME, train.*, and the chain's own section).

    Reads data/prepared and models/CHAIN/AFTER; writes models/CHAIN/NAME: the chain so far, and this network.
    """
    from pipeline.core.launch import begin
    from pipeline.params.load import load, runtime

    p = load("train", chain, f"assistants.{name}")
    begin(runtime(), "stages.assist", chain, name)
    from pipeline.core.bundle import Bundle, adopt
    from pipeline.core.cast import method_of
    from pipeline.core.outs import replace_folder
    from pipeline.core.session import Session

    assistant = p[f"assistants.{name}"]
    predecessor = Path("models", chain, assistant.after)
    session = Session(
        f"assist-{chain}-{name}",
        recipe=p["train"],
        decides=p.plain(),
        code=("stages/assist.py", f"pipeline/methods/{chain}.py"),
        runtime=runtime(),
        data=Path("data/prepared"),
    )
    method = method_of(chain, p[chain])
    networks = method.networks(assistant.arch, Bundle.read(predecessor).start())
    trained = session.train(method, networks, p["train"].seed, {"method": f"assist-{chain}", "student": "student"})

    def fill(folder: Path) -> None:
        shutil.copytree(predecessor, folder, dirs_exist_ok=True, ignore=shutil.ignore_patterns("run.json"))
        adopt(folder, trained / "networks", "student", name)

    if session.accelerator.is_main_process:
        replace_folder(Path("models", chain, name), fill)


if __name__ == "__main__":
    command(main)
