"""Damaged and foreign Parquet files: a source yields images of the promised shape, or raises a DataError of one line.

FUZZ=N in the environment mutates N files instead of 150.
"""

import os
import time
import warnings
from io import BytesIO
from pathlib import Path

import numpy as np
import polars as pl
import pytest
from pictures import encoded, picture

from pipeline.data.decode import silence_pillow
from pipeline.data.sources.parquet import Parquet
from pipeline.errors import DataError

N = int(os.environ.get("FUZZ", "150"))
LONGEST = 10  # seconds for one file
ROWS = 6


def written(columns: dict, **options) -> bytes:
    out = BytesIO()
    pl.DataFrame(columns).write_parquet(out, **options)
    return out.getvalue()


def content() -> list[bytes]:
    return [encoded(picture(k)) for k in range(ROWS)]


def seeds() -> list[bytes]:
    """Valid shards: structs and binary, with every compression, several row groups, with metadata."""
    labels = [k % 2 for k in range(ROWS)]
    structs = [{"bytes": image, "path": None} for image in content()]
    names = '{"info": {"features": {"label": {"names": ["no", "yes"], "_type": "ClassLabel"}}}}'
    return [
        written({"image": structs, "label": labels}),
        written({"image": content(), "label": labels}, compression="snappy"),
        written({"image": content(), "label": labels}, compression="uncompressed", row_group_size=2),
        written({"image": structs, "label": labels}, metadata={"huggingface": names}),
        written({"image": structs, "label": labels}, compression="gzip", statistics=False),
    ]


def mutated(valid: bytes, draw: np.random.Generator) -> bytes:
    """Damage a file in one or two ways, in the pages, the footer or anywhere."""
    data = bytearray(valid)
    footer = 8 + int.from_bytes(valid[-8:-4], "little")
    for _ in range(draw.integers(1, 3)):
        start = len(data) - min(len(data), footer) if draw.integers(0, 2) else 0
        places = draw.integers(start, max(start + 1, len(data)), int(draw.integers(1, 8)))
        match int(draw.integers(0, 5)):
            case 0 | 1:
                for place in places:
                    if data:
                        data[place % len(data)] = int(draw.integers(0, 256))
            case 2:
                del data[places[0] :]
            case 3:
                del data[places[0] : places[0] + int(draw.integers(1, 40))]
            case _:
                data[places[0] : places[0] + 4] = int(draw.choice([0, 1, 2**31 - 1, 2**32 - 1])).to_bytes(4, "little")
    return bytes(data)


def check(root: Path, on_error: str = "fail") -> str | None:
    """The error of a source, or None if all images were read. Fails for everything else."""
    start = time.monotonic()
    try:
        source = Parquet(root, on_error=on_error, workers=0, image_column=None, label_column=None)
        rows = np.arange(len(source.splits["train"].labels))
        for image in source.images("train", rows):
            assert image.dtype == np.uint8 and image.shape[2] == source.channels
        said = None
    except DataError as error:
        said = str(error)
        assert len(said.splitlines()) == 1 and said.isprintable() and len(said) < 1000
    except BaseException as error:
        pytest.fail(f"{type(error).__name__}: {error}")
    assert time.monotonic() - start < LONGEST
    return said


@pytest.fixture
def strict(capfd):
    """Every warning is an error, and nothing may be printed."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        silence_pillow()
        yield
    printed = capfd.readouterr()
    assert printed.out == "" and printed.err == ""


@pytest.mark.parametrize("part", range(3))
def test_damaged_shards_are_read_or_refused(strict, tmp_path, part):
    valid, draw = seeds(), np.random.default_rng(part)
    (tmp_path / "train-00000-of-00002.parquet").write_bytes(valid[0])
    shard = tmp_path / "train-00001-of-00002.parquet"
    refused = 0
    for k in range(part, N, 3):
        shard.write_bytes(mutated(valid[k % len(valid)], draw))
        said = check(tmp_path, on_error=("fail", "skip")[k % 2])
        assert said is None or "train-0000" in said
        refused += said is not None
    assert refused > N // 6


def test_every_seed_is_read(strict, tmp_path):
    for valid in seeds():
        (tmp_path / "train-00000-of-00001.parquet").write_bytes(valid)
        assert check(tmp_path) is None
