"""Copy a chain of teacher assistants to the path from which methods start."""

import shutil
from pathlib import Path
from typing import Annotated, Literal

import typer

from stages.command import check_name, command


def main(
    chain: Annotated[Literal["takd", "dgkd"], typer.Argument(help="The chain.")],
    last: Annotated[str, typer.Argument(callback=check_name, help="Its last network: the value of student.after.")],
) -> None:
    """Copy models/CHAIN/LAST, the chain up to the network LAST, to models/chains/CHAIN.

    Methods start from models/chains/CHAIN, whose path does not change with the length of the chain.
    """
    from pipeline.errors import DataError
    from pipeline.storage.atomic import replace_folder

    source = Path("models", chain, last)
    if not source.is_dir():
        raise DataError(f"{source} is missing: run `dvc repro chain@{chain}`, which trains the chain first")
    replace_folder(Path("models/chains", chain), lambda folder: shutil.copytree(source, folder, dirs_exist_ok=True))


if __name__ == "__main__":
    command(main)
