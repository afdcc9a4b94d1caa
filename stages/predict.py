"""Classify images with an exported student."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from stages.command import command


def main(
    images: Annotated[list[Path], typer.Argument(metavar="IMAGE...", help="Image files, or folders of image files.")],
    model: Annotated[Path, typer.Option(help="Folder that the stage `export` wrote.")] = Path("models/export"),
    top: Annotated[int, typer.Option(min=1, help="Number of classes to print per image.")] = 5,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object per image and line.")] = False,
) -> None:
    """Print the most probable classes of every IMAGE with their probabilities.

    A file that is not an image is reported on standard error and skipped, and the exit status is then 1.
    """
    import json
    import sys

    from pipeline.errors import DataError
    from pipeline.export.prediction import Predictor, find_files

    predict, failed = Predictor(model), False
    for file in find_files(images):
        try:
            prediction = predict(file, top)
        except DataError as error:
            print(f"error: {error}", file=sys.stderr)
            failed = True
            continue
        if as_json:
            print(json.dumps(asdict(prediction)))
        else:
            pairs = zip(prediction.classes, prediction.probabilities)
            print("  ".join([prediction.image, *(f"{c} {p:.4f}" for c, p in pairs)]))
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    command(main)
