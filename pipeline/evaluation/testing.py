"""The networks of a run on the test split."""

from pathlib import Path
from typing import Any

import numpy as np
import torch

from pipeline.core.bundle import Bundle
from pipeline.data.prepared import Prepared
from pipeline.evaluation import metrics

CHUNK = 512
DIGITS = 6  # decimals that are written: more would be noise of the processor


class Tester:
    """The test split, read once for all networks of a method."""

    def __init__(self, data: Prepared):
        self.device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self.views = data.views("test", device=self.device)
        self.labels = data.labels("test")
        self.said: dict[tuple[Path, str, str], np.ndarray] = {}

    def logits(self, bundle: Bundle, name: str, which: str) -> np.ndarray:
        """[N, C] float32; every network of a bundle is asked once."""
        key = (bundle.folder, name, which)
        if key not in self.said:
            network = bundle.load(name, which).to(self.device)
            parts = torch.arange(len(self.labels), device=self.device).split(CHUNK)
            with torch.inference_mode():
                z = torch.cat([network(self.views.plain(part)) for part in parts])
            self.said[key] = z.float().cpu().numpy()
        return self.said[key]

    def run(self, folder: Path, about: dict[str, Any]) -> tuple[dict[str, Any], dict[str, np.ndarray]]:
        """The results of one seed, and the logits of the networks that the method ends in."""
        bundle = Bundle.read(folder)
        networks = {name: self.network(bundle, name) for name in bundle.networks}
        finals = [about["student"]] if about["student"] else about["members"]
        final = {name: self.logits(bundle, name, "last") for name in finals}
        result: dict[str, Any] = {"networks": networks}
        guides = Bundle.read(Path(about["after"])) if about["after"] else None
        trained = [name for name, record in guides.networks.items() if record.weights] if guides else []
        if guides and about["student"]:
            result["guides"] = {name: self.network(guides, name, ("last",)) for name in trained}  # as they taught
        if about["student"]:
            z = final[about["student"]]
            result["per_class"] = rounded(metrics.per_class(z, self.labels))
            if guides and "teacher" in trained:
                said = {name: self.logits(guides, name, "last") for name in trained}
                result["agreement"] = round(metrics.agreement(z, said["teacher"]), DIGITS)
                result["false_knowledge"] = round(metrics.false_knowledge(z, list(said.values()), self.labels), DIGITS)
            result["right"] = pack(z.argmax(1) == self.labels)
        elif guides:
            base = {name: self.network(guides, name) for name in trained}
            result["before"] = {name: base[name] for name in about["members"]}
            result["all_data"] = {name: base[f"all/{guides.networks[name].arch}"] for name in about["members"]}
            right = np.concatenate([final[name].argmax(1) == self.labels for name in about["members"]])
            result["right"] = pack(right)
        return result, final

    def network(self, bundle: Bundle, name: str, weights: tuple[str, ...] = ("last", "best")) -> dict[str, Any]:
        """A network on the test split, with each of those weights, beside what validation said."""
        record = bundle.networks[name]
        tested = {which: metrics.summary(self.logits(bundle, name, which), self.labels) for which in weights}
        return {
            "arch": record.arch,
            "parameters": record.parameters,
            **{which: {k: round(v, DIGITS) for k, v in values.items()} for which, values in tested.items()},
            "validation": record.validation,
        }


def rounded(values: list[float | None]) -> list[float | None]:
    return [None if v is None else round(v, DIGITS) for v in values]


def pack(right: np.ndarray) -> str:
    """Booleans as hexadecimal digits, so that paired tests need no predictions."""
    return np.packbits(right).tobytes().hex()


def predictions(seed: int, name: str, z: np.ndarray, labels: np.ndarray) -> Any:
    """seed, network, index, label, prediction, logits: one row an image."""
    import polars as pl

    n = len(labels)
    return pl.DataFrame(
        {
            "seed": [seed] * n,
            "network": [name] * n,
            "index": np.arange(n),
            "label": labels,
            "prediction": z.argmax(1),
            "logits": pl.Series(z.astype(np.float32), dtype=pl.Array(pl.Float32, z.shape[1])),
        }
    )
