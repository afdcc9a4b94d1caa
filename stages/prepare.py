"""Split a source of images into train, validation and test, and write the images as arrays."""

from pathlib import Path

from stages.command import command

OUT = Path("data/prepared")


def main() -> None:
    """Prepare the images of data.source for training.

    Writes data/prepared: train.npy, validation.npy and test.npy (uint8; not for streamed images), split.parquet (one
    row per image), classes.txt and meta.json. With data.label_noise, training labels are replaced by wrong ones, and
    split.parquet has the true ones too.
    """
    from pipeline.data.prepare import prepare
    from pipeline.data.sources.open import open_source
    from pipeline.params.load import load, runtime

    p = load("data")
    source = open_source(p["data"], runtime().workers)
    report = prepare(source, p["data"], OUT)
    meta = report.meta
    height, width = meta["image_size"]
    counts = ", ".join(f"{n} {split}" for split, n in meta["counts"].items())
    shape = f"{width}x{height}x{meta['in_chans']}"
    units = f"images of {shape}" if min(width, height) > 1 else f"rows of {meta['in_chans']} features"
    print(f"prepared {meta['source']}: {counts} {units}, {meta['num_classes']} classes")
    if report.wrong is not None:
        print(f"label noise: {report.wrong} of {meta['counts']['train']} training labels are wrong")
    if report.resized:
        print(f"the images differ in size: all are resized and cropped to {width}x{height} (data.image_size)")
    if report.skipped:
        print(f"skipped {len(report.skipped)} unreadable images, listed in {OUT / 'skipped.csv'}")
    if report.shared:
        print(f"warning: {report.shared} test images are also in train or validation, pixel for pixel")


if __name__ == "__main__":
    command(main)
