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

    A file that cannot be classified is reported on standard error, and the exit status is then 1. In a folder, files
    whose names do not end as those of images are skipped.
    """
    import json
    import sys
    from io import TextIOWrapper

    from pipeline.data.class_names import shown
    from pipeline.errors import DataError
    from pipeline.export.prediction import Predictor, find_images

    if isinstance(sys.stdout, TextIOWrapper):
        sys.stdout.reconfigure(errors="backslashreplace")  # a name may have any character
    predict, failed = Predictor(model), False

    def report(error: DataError) -> None:
        """Print an error and remember that there was one."""
        nonlocal failed
        print(f"error: {error}", file=sys.stderr)
        failed = True

    for path in images:
        try:
            found = find_images(path)
        except DataError as error:
            report(error)
            continue
        for error in found.failed:
            report(error)
        if found.skipped:
            files = "1 file that is no image" if found.skipped == 1 else f"{found.skipped} files that are no images"
            print(f"skipped {files} by name", file=sys.stderr)
        for file in found.files:
            try:
                prediction = predict(file, top)
            except DataError as error:
                report(error)
                continue
            if as_json:
                print(json.dumps(asdict(prediction)))
            else:
                pairs = zip(prediction.classes, prediction.probabilities)
                print("  ".join([shown(prediction.image), *(f"{c} {p:.4f}" for c, p in pairs)]))
    if failed:
        raise typer.Exit(1)


if __name__ == "__main__":
    command(main)
