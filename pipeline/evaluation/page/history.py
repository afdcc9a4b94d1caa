"""Reading the training history of a method: results/train/METHOD/history.csv.

The module knows the columns of the file, but not what any term means.
"""

from pathlib import Path

import polars as pl

from pipeline.errors import first_line
from pipeline.storage.documents import damaged, read_bytes

SCHEMA = {
    "seed": pl.Int64,
    "leg": pl.Int64,
    "epoch": pl.Int64,
    "network": pl.String,
    "term": pl.String,
    "value": pl.Float64,
}


class History:
    """The training history of one seed of one method.

    Args:
        file: The method's history.csv.
        seed: The seed to keep.

    Raises:
        DataError: If the file is missing or damaged, or if it has no rows of the seed.
    """

    def __init__(self, file: Path, seed: int):
        rows = read_rows(file)
        self.rows = rows.filter(pl.col("seed") == seed)
        if not len(self.rows):
            raise damaged(file, f"it has no rows of seed {seed}")

    def of(self, network: str, term: str) -> tuple[list[int], list[float]]:
        """Return the epochs and the values of one term of one network."""
        found = self.rows.filter((pl.col("network") == network) & (pl.col("term") == term)).sort("leg", "epoch")
        return found["epoch"].to_list(), found["value"].to_list()

    def networks(self, term: str) -> list[str]:
        """Return the names of the networks that have a term, in order of appearance."""
        return self.rows.filter(pl.col("term") == term)["network"].unique(maintain_order=True).to_list()

    def means(self, prefix: str) -> dict[tuple[str, str], float]:
        """Return the mean over epochs of every term with a prefix, keyed by (network, term without the prefix)."""
        found = self.rows.filter(pl.col("term").str.starts_with(prefix))
        means = found.group_by("network", "term", maintain_order=True).agg(pl.col("value").mean())
        return {(n, t.removeprefix(prefix)): v for n, t, v in means.iter_rows()}

    def curve(self, network: str) -> pl.DataFrame:
        """Return the validation accuracy of one network, as columns epoch and top1 (percent)."""
        epochs, top1 = self.of(network, "validation/top1")
        return pl.DataFrame({"epoch": epochs, "top1": top1}, schema={"epoch": pl.Int64, "top1": pl.Float64})


def read_rows(file: Path) -> pl.DataFrame:
    """Return all rows of a history.csv. Raises DataError if it is missing or damaged."""
    content = read_bytes(file)
    header = ",".join(SCHEMA).encode() + b"\n"
    if not content.startswith(header) or not content.endswith(b"\n"):
        raise damaged(file, f"expected the columns {', '.join(SCHEMA)} and whole lines")
    try:
        rows = pl.read_csv(content, schema=SCHEMA)
    except Exception as error:  # polars raises many types
        raise damaged(file, first_line(error)) from None
    if rows.null_count().sum_horizontal()[0] or not rows["value"].is_finite().all():
        raise damaged(file, "a value is missing or not finite")
    return rows
