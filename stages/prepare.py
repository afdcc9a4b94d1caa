"""Read a source of images and write them as arrays, split into train, validation and test."""

from pathlib import Path

from stages.command import command

OUT = Path("data/prepared")


def main() -> None:
    """Prepare the images of data.source at data.root.

    Writes data/prepared: train.npy, validation.npy, test.npy (uint8), split.parquet (which image is where),
    classes.txt and meta.json. Also refuses members of `cooperative` that lack a class which the data do not have.
    """
    from pipeline.data.members import members_of
    from pipeline.data.prepare import prepare
    from pipeline.data.sources.open import open_source
    from pipeline.params.load import load, runtime

    p = load("data", "cooperative.members")
    source = open_source(p["data"], runtime().workers)
    members_of(p["cooperative.members"], source.classes, student_arch="")
    report = prepare(source, p["data"], OUT)
    meta = report.meta
    height, width = meta["image_size"]
    counts = ", ".join(f"{n} {split}" for split, n in meta["counts"].items())
    shape = f"{width}x{height}x{meta['in_chans']}"
    print(f"prepared {meta['source']}: {counts} images of {shape}, {meta['num_classes']} classes")
    if report.skipped:
        print(f"skipped {len(report.skipped)} files that are no readable image: {OUT / 'skipped.csv'}")
    if report.shared:
        print(f"warning: {report.shared} images of test are in train or validation too, pixel for pixel")


if __name__ == "__main__":
    command(main)
