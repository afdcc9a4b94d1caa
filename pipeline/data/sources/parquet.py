"""Parquet files in the Hugging Face layout, ROOT/**/SPLIT-00000-of-0000N.parquet, with encoded images and labels."""

import os
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.data.class_names import read_class_names, shown
from pipeline.data.decode import decode, is_grey, map_in_order
from pipeline.data.source import Defaults, Manifest, Split
from pipeline.data.sources.listing import below, check_file_name
from pipeline.data.sources.shards import columns, common_names, is_image, read_encoded, read_labels, schema_of
from pipeline.errors import DataError

PREFIXES = {"train": ("train",), "validation": ("validation", "valid", "val"), "test": ("test",)}
NUMBER = re.compile(r"-([0-9]+)-of-([0-9]+)(?=[-.])")  # of a shard, from 0, and the number of shards of its split
CHUNK = 2048  # maximum number of encoded images in memory
MAX_CLASSES = 100_000  # if the classes have no names


class Parquet:
    """A data set in Parquet shards, which are read one after the other in chunks of rows.

    Class names are the lines of ROOT/classes.txt; without that file, those in the shards' metadata; else the labels
    themselves. An image is called FILE:ROW. All images have one channel if the first one of every shard is grey, else
    three.

    on_error: "skip" decodes every image once beforehand and leaves out those that fail; "fail" does not.
    workers: decoding threads; 0: none.
    image_column: a struct with a field `bytes`, or binary.  label_column: integers.  None selects the only column of
    that type.
    Raises DataError, which names the file and, if a label is at fault, the row.
    """

    manifest: Manifest | None = None
    defaults = Defaults()

    def __init__(
        self,
        root: Path,
        *,
        on_error: str,
        workers: int,
        image_column: str | None,
        label_column: str | None,
    ):
        self.root, self.workers = root, workers
        if not os.path.isdir(root):
            raise DataError(f"data.root: there is no folder {shown(root)}")
        self.shards = find_shards(root)
        if "train" not in self.shards:
            raise DataError(f"{shown(root)} has no file train-*.parquet: expected the Hugging Face layout")
        first = self.shards["train"][0]
        schemas = {shard: schema_of(shard) for shards in self.shards.values() for shard in shards}
        self.image, self.label = columns(first, schemas[first], image_column, label_column)
        self.types = {shard: self.image_type(shard, schema) for shard, schema in schemas.items()}
        labels = {split: [read_labels(s, self.label) for s in shards] for split, shards in self.shards.items()}
        self.classes = self.class_names(labels)
        self.starts = {split: np.cumsum([0, *map(len, parts)]) for split, parts in labels.items()}
        self.skipped: list[tuple[str, str]] = []
        self.kept = {split: np.arange(self.starts[split][-1]) for split in self.shards}
        self.channels = 3
        if on_error == "skip":
            self.kept = {split: self.readable(split) for split in self.shards}
        self.splits = {}
        for split, parts in labels.items():
            if not len(self.kept[split]):
                raise DataError(f"{shown(self.shards[split][0])}: split {split} has no images")
            names = [self.name(split, row) for row in self.kept[split]]
            self.splits[split] = Split(names, np.concatenate(parts)[self.kept[split]])
        self.channels = 1 if all(self.is_grey(split) for split in self.shards) else 3

    def image_type(self, shard: Path, schema: dict[str, Any]) -> Any:
        """The type of a shard's column of images. Raises DataError if it lacks the columns of the first shard."""
        for column, fits, kind in (
            (self.image, is_image, "images"),
            (self.label, lambda dtype: dtype.is_integer(), "integer labels"),
        ):
            if column not in schema:
                raise DataError(f"{shown(shard)} has no column {shown(column)}, but the first shard has one")
            if not fits(schema[column]):
                dtype = shown(schema[column])
                raise DataError(f"{shown(shard)}: column {shown(column)} has no {kind}, but the type {dtype}")
        return schema[self.image]

    def class_names(self, labels: dict[str, list[np.ndarray]]) -> list[str]:
        """Class names by label: from classes.txt, else from the metadata that Hugging Face writes, else the numbers.

        labels: of each shard of each split.
        Raises DataError, which names the row, for a label that is not one of a class, and for shards whose metadata
        name the classes differently.
        """
        file = self.root / "classes.txt"
        if os.path.lexists(file):
            names = read_class_names(file)
        else:
            names = common_names([shard for shards in self.shards.values() for shard in shards], self.label)
        more = ""
        if names is None:
            largest = max(int(part.max(initial=0)) for part in labels["train"])
            names = [str(label) for label in range(min(largest + 1, MAX_CLASSES))]
            more = f": more than {MAX_CLASSES:,} classes need names in classes.txt" if largest >= MAX_CLASSES else ""
        for split, shards in self.shards.items():
            for shard, values in zip(shards, labels[split]):
                invalid = np.flatnonzero((values < 0) | (values >= len(names)))
                if len(invalid):
                    row, last = invalid[0], len(names) - 1
                    raise DataError(f"{shown(shard)}, row {row}: label {values[row]} is not in 0..{last}{more}")
        return names

    def is_grey(self, split: str) -> bool:
        """Whether the first image of every shard of a split is grey; an empty shard counts as grey."""
        rows = self.kept[split]
        firsts = np.searchsorted(rows, self.starts[split][:-1])
        first = [int(rows[k]) for k, end in zip(firsts, self.starts[split][1:]) if k < len(rows) and rows[k] < end]
        return all(is_grey(self.content(split, row), self.name(split, row)) for row in first)

    def content(self, split: str, row: int) -> bytes:
        """The encoded image of a row of a split. Raises DataError if it is null."""
        shard, within = self.place(split, row)
        return content_of(self.name(split, row), read_encoded(shard, self.image, self.types[shard], within, 1)[0])

    def place(self, split: str, row: int) -> tuple[Path, int]:
        """The shard that holds a row of a split, and the row's number within that shard."""
        k = int(np.searchsorted(self.starts[split], row, side="right")) - 1
        return self.shards[split][k], int(row - self.starts[split][k])

    def name(self, split: str, row: int) -> str:
        """FILE:ROW, which names an image in tables and messages."""
        shard, within = self.place(split, row)
        return f"{shard.relative_to(self.root).as_posix()}:{within}"

    def items(self, split: str, rows: np.ndarray) -> Iterator[tuple[str, bytes | None]]:
        """Yield name and encoded image of each of `rows` (ascending), reading one chunk of a shard at a time."""
        for k, shard in enumerate(self.shards[split]):
            start, end = self.starts[split][k : k + 2]
            for low in range(start, end, CHUNK):
                high = min(low + CHUNK, end)
                wanted = rows[(rows >= low) & (rows < high)]
                if len(wanted):
                    content = read_encoded(shard, self.image, self.types[shard], low - start, high - low)
                    yield from ((self.name(split, row), content[row - low]) for row in wanted)

    def readable(self, split: str) -> np.ndarray:
        """The rows whose images can be decoded. The others are added to `skipped` with the reason."""
        kept = []
        for row, (name, content) in enumerate(self.items(split, self.kept[split])):
            try:
                decode(content_of(name, content), name, channels=self.channels)
                kept.append(row)
            except DataError as error:
                self.skipped.append((name, str(error)))
        return np.array(kept, dtype=np.int64)

    def images(self, split: str, rows: np.ndarray) -> Iterator[np.ndarray]:
        """Yield the images at `rows` of a split: [H, W, C_in] uint8. Raises DataError if one cannot be decoded."""

        def read(item: tuple[str, bytes | None]) -> np.ndarray:
            """Decode an image."""
            name, content = item
            return decode(content_of(name, content), name, channels=self.channels)

        yield from map_in_order(read, self.items(split, self.kept[split][rows]), self.workers)


def find_shards(root: Path) -> dict[str, list[Path]]:
    """The shards of each split, sorted by path: what is below a folder, not hidden, and has the name of a shard.

    Raises DataError if a split is there twice or lacks a shard, and for a name that is not UTF-8.
    """
    files = sorted(Path(entry.path) for entry in below(root) if entry.name.endswith(".parquet"))
    found = {}
    for split, prefixes in PREFIXES.items():
        starts = tuple(p + end for p in prefixes for end in "-.")
        if shards := [file for file in files if file.name.startswith(starts)]:
            found[split] = shards
    for split, shards in found.items():
        for shard in shards:
            check_file_name(shard)
        check_sharding(split, shards)
    return found


def check_sharding(split: str, shards: list[Path]) -> None:
    """Raise DataError unless the shards of a split are one copy of it, and all of them if their names are numbered.

    One copy is in one folder, has one prefix (`valid` or `validation`) and one number of shards.
    """
    numbered: dict[int, Path] = {}
    for shard in shards:
        if copy_of(shard) != copy_of(shards[0]):
            raise twice(split, shards[0], shard)
        if number := NUMBER.search(shard.name):
            k, total = int(number[1]), int(number[2])
            if k >= total:
                raise DataError(f"{shown(shard)}: shards are numbered from 0, so there is no shard {k} of {total}")
            if (other := numbered.setdefault(k, shard)) != shard:
                raise twice(split, other, shard)
    if number := NUMBER.search(shards[0].name):
        missing = next((k for k in range(int(number[2])) if k not in numbered), None)
        if missing is not None:
            start, end = shards[0].name[: number.start(1)], shards[0].name[number.end(1) : number.end()]
            name = f"{start}{missing:0{len(number[1])}}{end}"
            raise DataError(f"{shown(shards[0].parent)}: shard {shown(name)} of split {split} is missing")


def copy_of(shard: Path) -> tuple[Path, str, int | None]:
    """Which copy of its split a shard belongs to: the folder, the prefix, and the number of shards if it is named."""
    number = NUMBER.search(shard.name)
    return shard.parent, re.split("[-.]", shard.name)[0], int(number[2]) if number else None


def twice(split: str, one: Path, other: Path) -> DataError:
    """The error for a split that is there twice.  one, other: shards of the two."""
    advice = "remove one of them" if one.parent == other.parent else "set data.root to one of their folders"
    return DataError(f"{shown(one)} and {shown(other)} are shards of two copies of split {split}: {advice}")


def content_of(name: str, content: bytes | None) -> bytes:
    """The encoded image of a row. Raises DataError if it is null.  name: FILE:ROW."""
    if content is None:
        raise DataError(f"{shown(name)}: the image is null")
    return content
