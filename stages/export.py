"""Take the chosen student away: timm's folder, ONNX, and a card that says what it is."""

import json
from pathlib import Path

from stages.command import command

OUT = Path("models/export")


def main() -> None:
    """Export the student of export.method: the seed that is best on validation, its export.weights.

    Reads models/students/METHOD, data/prepared, results/eval/METHOD.json and results/cost/METHOD.json; writes
    models/export (model.safetensors, config.json, classes.txt, model.onnx, README.md).
    The ONNX file is held against PyTorch on the test split.
    """
    from pipeline.core.launch import settle_threads
    from pipeline.params.load import load, runtime

    settle_threads(runtime().threads)
    import torch

    from pipeline.core.outs import replace_folder
    from pipeline.data.prepared import Prepared
    from pipeline.export.card import card
    from pipeline.export.choice import choose, tested
    from pipeline.export.folder import write_folder
    from pipeline.export.onnx import check, write_onnx

    torch.set_num_threads(runtime().threads)
    p = load("export", "data.source")
    method, weights = p["export"].method, p["export"].weights
    data = Prepared.read(Path("data/prepared"))
    chosen = choose(Path("models/students", method), method, weights)
    images, logits = tested(chosen.module, data)
    results = {
        "eval": json.loads(Path(f"results/eval/{method}.json").read_text()),
        "cost": json.loads(Path(f"results/cost/{method}.json").read_text()),
    }

    def fill(folder: Path) -> None:
        write_folder(folder, chosen.module, chosen.record, data.meta, data.classes)
        write_onnx(folder / "model.onnx", chosen.module, data.meta.mean, data.meta.std, data.meta.image_size)
        gap = check(folder / "model.onnx", images, logits)
        (folder / "README.md").write_text(card(OUT, chosen, data, results, gap), "utf-8")
        print(f"exported {chosen.record.arch} by {method}, seed {chosen.seed}: {OUT} (ONNX within {gap:.1e})")

    replace_folder(OUT, fill)


if __name__ == "__main__":
    command(main)
