"""Say what is on images, by an exported student."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stages.command import command


def main(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Files, or folders of them.")],
    model: Annotated[Path, typer.Option(help="A folder that `export` wrote.")] = Path("models/export"),
    top: Annotated[int, typer.Option(min=1, help="So many classes of each image.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
) -> None:
    """Print the most probable classes of every IMAGE, with probabilities.

    A file that is no image is said on standard error; the others are answered all the same, and the exit status is 1.
    """
    import json
    import sys

    from pipeline.errors import DataError
    from pipeline.export.prediction import Predictor, files_of

    predict, failed = Predictor(model), False
    for file in files_of(images):
        try:
            said = predict(file, top)
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
            continue
        if as_json:
            print(json.dumps(asdict(said)))
        else:
            print(said.image + "  " + "  ".join(f"{c} {p:.4f}" for c, p in zip(said.classes, said.probabilities)))
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    command(main)
