"""The errors of a method's teachers that a student of plain cross-entropy repeats by coincidence, on training images.

Their share is measured on results/predictions. A study keeps no predictions, but the shares: each with a digest of the
two seeds that it was measured on, so that it counts for no other. All functions take the seeds of a method, and those
of plain cross-entropy, as results/eval holds them. The module imports no torch.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.errors import DataError
from pipeline.evaluation.false_knowledge import passed_on
from pipeline.evaluation.predictions import read_training
from pipeline.evaluation.records import Fraction
from pipeline.storage.documents import Document, checksum, read_json, write_json
from pipeline.storage.records import SeedName

FILE = "coincidence.json"  # in the folder results/ of a study
Seeds = Mapping[int, dict[str, Any]]


class Share(Document):
    """share: of the teachers' errors.  of: the digest of the two seeds."""

    share: Fraction
    of: str


def answers_file(results: Path, name: str) -> Path:
    """The answers of a method on training images."""
    return results / "predictions" / f"{name}.training.parquet"


def comparable(seeds: Seeds, scratch: Seeds) -> list[int]:
    """The seeds of a method that have a share: its teachers err, and plain cross-entropy has the seed too."""
    with_scratch = [seed for seed in seeds if (scratch.get(seed) or {}).get("training")]
    return [seed for seed in with_scratch if (seeds[seed].get("training") or {}).get("passed_on") is not None]


def measured(name: str, seeds: Seeds, scratch_name: str, scratch: Seeds, results: Path) -> dict[int, float]:
    """Return the share of each seed, from the predictions.

    Args:
        name: The method's key in `methods` of params.yaml.
        seeds: Its seeds.
        scratch_name: The key of plain cross-entropy.
        scratch: Its seeds.
        results: The folder results/.

    Raises:
        DataError: If a file is missing or damaged, or if the two were measured on different images.
    """
    shares = {}
    for seed in comparable(seeds, scratch):
        files = [answers_file(results, method) for method in (name, scratch_name)]
        own, other = (read_training(f, seed, s[seed]["training"]) for f, s in zip(files, (seeds, scratch)))
        if not np.array_equal(own["index"], other["index"]) or not np.array_equal(own["true"], other["true"]):
            raise DataError(f"{files[0]} and {files[1]} are of different training images: run `dvc repro`")
        share = passed_on(other["student"], own["teachers"], own["true"])
        if share is not None:
            shares[seed] = share
    return shares


def read_shares(file: Path) -> dict[str, dict[str, dict[str, Any]]]:
    """The shares of a study, by method and seed; none without the file. Raises DataError if it is damaged."""
    schema = dict[str, dict[SeedName, Share]]
    return read_json(file, schema, rerun=f"git checkout -- {file}") if file.exists() else {}


def kept(shares: Mapping[str, Any], seeds: Seeds, scratch: Seeds) -> dict[int, float]:
    """Return the share of each seed that a study keeps. It is empty unless every seed has one, as means need.

    Args:
        shares: Those of the method, by seed.
        seeds: The seeds of the method in the study.
        scratch: The seeds of plain cross-entropy in the study.
    """
    wanted = comparable(seeds, scratch)
    found = {seed: shares.get(str(seed), {}) for seed in wanted}
    if any(found[seed].get("of") != digest(seeds[seed], scratch[seed]) for seed in wanted):
        return {}
    return {seed: found[seed]["share"] for seed in wanted}


def write_shares(file: Path, added: Mapping[str, Mapping[str, dict[str, Any]]]) -> None:
    """Add shares to those of a study, by method and seed. Raises DataError if the file is damaged."""
    old = read_shares(file)
    both = {name: {**old.get(name, {}), **added.get(name, {})} for name in sorted({*old, *added})}
    new = {name: {seed: both[name][seed] for seed in sorted(both[name], key=int)} for name in both}
    if new != old:
        write_json(file, new, indent=1)


def digest(seed: dict[str, Any], scratch: dict[str, Any]) -> str:
    """The digest of a seed of a method and that of plain cross-entropy."""
    return checksum({"seed": seed, "scratch": scratch})
