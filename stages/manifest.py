"""List a folder of images that is too large to copy, for data.storage: stream."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import command


def main(
    images: Annotated[Path, typer.Argument(help="Folder of images: train/CLASS/*, with val and test where there are.")],
    manifest: Annotated[Path, typer.Argument(help="Folder to write, e.g. data/imagenet; data.root names it.")],
    skip: Annotated[bool, typer.Option(help="Decode every image now, and leave out those that cannot be.")] = False,
) -> None:
    """Write a manifest of IMAGES: names, sizes and times of its files, which the pipeline depends on.

    No stage of dvc.yaml runs this: run it again when the images have changed.
    """
    from pipeline.data.sources.streamed import write_manifest

    found = write_manifest(images, manifest, on_error="skip" if skip else "fail")
    counts = ", ".join(f"{len(files)} {split}" for split, files in found.files.items())
    print(f"{manifest}: {counts} images, {len(found.classes)} classes")
    for name, reason in found.skipped:
        print(f"skipped {name}: {reason}")


if __name__ == "__main__":
    command(main)
