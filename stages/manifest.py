"""Write the manifest of a folder of images that is too large to copy, for `data.storage: stream`."""

from pathlib import Path
from typing import Annotated

import typer

from stages.command import command


def main(
    images: Annotated[Path, typer.Argument(help="Folder of images: train/CLASS/*, optionally with val and test.")],
    manifest: Annotated[Path, typer.Argument(help="Folder to write, e.g. data/imagenet; set data.root to it.")],
    skip: Annotated[bool, typer.Option(help="Decode every image and leave out those that fail.")] = False,
) -> None:
    """Write a manifest of IMAGES: the names, sizes and modification times of its files.

    The pipeline depends on the manifest instead of the images. No stage of dvc.yaml writes it, so run this command
    again when the images have changed.
    """
    from pipeline.data.class_names import shown
    from pipeline.data.sources.streamed import write_manifest

    found = write_manifest(images, manifest, on_error="skip" if skip else "fail")
    counts = ", ".join(f"{len(files)} {split}" for split, files in found.files.items())
    print(f"{shown(manifest)}: {counts} images, {len(found.classes)} classes")
    for name, reason in found.skipped:
        print(f"skipped {shown(name)}: {reason}")


if __name__ == "__main__":
    command(main)
