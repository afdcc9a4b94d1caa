"""What happened while a method trained: results/train/METHOD/history.csv."""

from pathlib import Path

import polars as pl

SCHEMA = {"seed": pl.Int64, "leg": pl.Int64, "epoch": pl.Int64, "network": pl.String, "term": pl.String}


class History:
    """The history of one seed of one method."""

    def __init__(self, file: Path, seed: int):
        rows = pl.read_csv(file, schema_overrides=SCHEMA | {"value": pl.Float64})
        self.rows = rows.filter(pl.col("seed") == seed)

    def of(self, network: str, term: str) -> tuple[list[int], list[float]]:
        """Epochs and values of one network's term."""
        found = self.rows.filter((pl.col("network") == network) & (pl.col("term") == term)).sort("leg", "epoch")
        return found["epoch"].to_list(), found["value"].to_list()

    def networks(self, term: str) -> list[str]:
        """Who has a term, in order of appearance."""
        return self.rows.filter(pl.col("term") == term)["network"].unique(maintain_order=True).to_list()

    def terms(self, prefix: str) -> dict[tuple[str, str], float]:
        """(network, what follows the prefix) -> mean over epochs."""
        found = self.rows.filter(pl.col("term").str.starts_with(prefix))
        means = found.group_by("network", "term", maintain_order=True).agg(pl.col("value").mean())
        return {(n, t.removeprefix(prefix)): v for n, t, v in means.iter_rows()}

    def curve(self, network: str) -> pl.DataFrame:
        """epoch and top1 on validation of one network."""
        epochs, top1 = self.of(network, "validation/top1")
        return pl.DataFrame({"epoch": epochs, "top1": top1}, schema={"epoch": pl.Int64, "top1": pl.Float64})
