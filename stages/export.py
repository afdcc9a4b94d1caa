"""Export a student: a folder that timm loads, ONNX models, a script that classifies images, and a model card."""

from pathlib import Path

from stages.command import command

OUT = Path("models/export")


def main() -> None:
    """Export the student of the method that export.method names.

    Selects the seed with the highest validation accuracy of the weights export.weights. Reads
    models/students/METHOD, data/prepared, results/eval/METHOD.json and results/cost/METHOD.json. Writes models/export:
    model.safetensors, config.json, classes.txt, model.onnx, model.int8.onnx (if ONNX Runtime can quantize the network),
    predict.py, the digests of these in manifest.json, and README.md. Fails if model.onnx does not match PyTorch on the
    test split. Of a table, whose rows are no images, nothing is exported: models/export/none.txt says so.
    """
    from pipeline.params.load import load, runtime
    from pipeline.runtime.threads import set_threads

    set_threads(runtime().threads)
    import torch

    from pipeline.data.prepared import TABLES, Prepared
    from pipeline.errors import DataError
    from pipeline.evaluation.records import read_cost, read_evaluation
    from pipeline.export.package import write_package
    from pipeline.export.selection import select_student
    from pipeline.storage.atomic import replace_folder

    torch.set_num_threads(runtime().threads)
    p = load("export", "data", "teacher", "assistants", "student")
    method, weights = p["export"].method, p["export"].weights
    data = Prepared.read(Path("data/prepared"))
    if data.meta.source in TABLES:
        line = f"data.source: {data.meta.source} has rows, not images, and only networks on images are exported"
        print(line)
        replace_folder(OUT, lambda folder: (folder / "none.txt").write_text(f"{line}\n"))
        return
    selected = select_student(Path("models/students", method), method, weights)
    results = {
        "eval": read_evaluation(Path("results/eval", f"{method}.json")),
        "cost": read_cost(Path("results/cost", f"{method}.json")),
    }

    if str(selected.seed) not in results["eval"]["seeds"]:
        file = f"results/eval/{method}.json"
        raise DataError(f"{file} has no seed {selected.seed}: run `python -m stages.evaluate {method}`")
    lines = []
    replace_folder(OUT, lambda folder: lines.append(write_package(folder, OUT, selected, data, results, p.plain())))
    print(*lines)


if __name__ == "__main__":
    command(main)
