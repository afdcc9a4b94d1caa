"""Export a student: a folder that timm loads, an ONNX model and a model card."""

from pathlib import Path

from stages.command import command

OUT = Path("models/export")


def main() -> None:
    """Export the student of the method that export.method names.

    Selects the seed with the highest validation accuracy of the weights export.weights. Reads
    models/students/METHOD, data/prepared, results/eval/METHOD.json and results/cost/METHOD.json. Writes models/export:
    model.safetensors, config.json, classes.txt, model.onnx, the digests of these in manifest.json, and README.md. Fails
    if the ONNX model does not match PyTorch on the test split.
    """
    from pipeline.params.load import load, runtime
    from pipeline.runtime.threads import set_threads

    set_threads(runtime().threads)
    import torch

    from pipeline.data.prepared import Prepared
    from pipeline.evaluation.records import read_cost, read_evaluation
    from pipeline.export.card import card
    from pipeline.export.folder import write_folder
    from pipeline.export.onnx import verify, write_onnx
    from pipeline.export.selection import reference_outputs, select_student
    from pipeline.storage.atomic import replace_folder
    from pipeline.storage.digests import write_digests

    torch.set_num_threads(runtime().threads)
    p = load("export", "data.source")
    method, weights = p["export"].method, p["export"].weights
    data = Prepared.read(Path("data/prepared"))
    selected = select_student(Path("models/students", method), method, weights)
    images, logits = reference_outputs(selected.module, data)
    results = {
        "eval": read_evaluation(Path("results/eval", f"{method}.json")),
        "cost": read_cost(Path("results/cost", f"{method}.json")),
    }

    def fill(folder: Path) -> None:
        write_folder(folder, selected.module, selected.record, data.meta, data.classes)
        write_onnx(folder / "model.onnx", selected.module, data.meta.mean, data.meta.std, data.meta.image_size)
        gap = verify(folder / "model.onnx", images, logits)
        (folder / "README.md").write_text(card(OUT, selected, data, results, gap), "utf-8")
        write_digests(folder, ("model.safetensors", "config.json", "classes.txt", "model.onnx"))
        student = f"{selected.record.arch} ({method}, seed {selected.seed})"
        print(f"exported {student} to {OUT}; ONNX logits within {gap:.1e} of PyTorch")

    replace_folder(OUT, fill)


if __name__ == "__main__":
    command(main)
