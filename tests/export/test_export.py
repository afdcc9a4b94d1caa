"""An exported student computes the same logits in timm, in ONNX Runtime and from image files."""

import json
import os
import subprocess
import sys
import weakref
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from pictures import make_folder, picture

from pipeline.data.prepared import Prepared
from pipeline.errors import DataError, ParamsError, UserError
from pipeline.export.card import OnnxModels, card
from pipeline.export.folder import write_folder
from pipeline.export.measure import Measured, measure
from pipeline.export.onnx import verify, write_onnx
from pipeline.export.prediction import Predictor, find_images
from pipeline.export.selection import SelectedStudent, pixel_batches, reference_outputs, select_student
from pipeline.models.create import create
from pipeline.storage.bundle import write_network
from pipeline.storage.documents import write_json

ROOT = Path(__file__).parents[2]
ARCHS = ("cifar_resnet8", "test_resnet", "test_vit")
EXPECTED = "expected PNG, JPEG, WEBP, BMP, GIF, TIFF, PPM"
COST = {
    "networks": {"student": {"parameters": 1, "macs": 2, "latency_ms": {"1": 0.1, "64": 1.0}}},
    "seeds": {"0": {"seconds": 1.0, "forward_equivalents": {"given_teacher": 3.0, "from_nothing": 1234567.8}}},
    "environment": {"device": "x", "threads": 1},
    "parameters": {"kd": {"alpha": 0.9}},
}


def about(seed: int, student: str | None = "student", members: tuple[str, ...] = ()) -> dict:
    """The content of run.json."""
    shared = {"method": "kd", "is": "kd", "guides": ["teacher"], "after": "models/teacher"}
    return {**shared, "student": student, "members": list(members), "seed": seed}


def students(folder: Path, data: Prepared, arch: str, validation=(50.0,)) -> Path:
    """The output of `distill`: one seed for each validation accuracy."""
    for seed, top1 in enumerate(validation):
        torch.manual_seed(seed)
        network = create(arch, num_classes=2, in_chans=3, image_size=(32, 32))
        record = {"arch": arch, "num_classes": 2, "in_chans": 3, "image_size": [32, 32], "parameters": 1}
        record["validation"] = {"last": top1, "best": top1, "best_epoch": 1}
        state = {k: v.contiguous() for k, v in network.state_dict().items()}
        write_network(folder / f"seed-{seed}", "student", record, last=state, best=state)
        write_json(folder / f"seed-{seed}" / "run.json", about(seed))
    return folder


def exported(folder: Path, data: Prepared, arch: str) -> tuple[Path, SelectedStudent, np.ndarray]:
    selected = select_student(students(folder / "students", data, arch), "kd", "best")
    batches = list(reference_outputs(selected.module, data))
    out = folder / "export"
    out.mkdir()
    write_folder(out, selected.module, selected.record, data.meta, data.classes)
    write_onnx(out / "model.onnx", selected.module, data.meta.mean, data.meta.std, data.meta.image_size)
    assert verify(out / "model.onnx", batches) < 1e-4
    return out, selected, np.concatenate([logits for _, logits in batches])


LOAD = """
import timm, torch{zoo}
network = timm.create_model("local-dir:{folder}", pretrained=True).eval()
torch.manual_seed(0)
with torch.no_grad():
    print(network(torch.rand(2, 3, 32, 32)).flatten().tolist())
"""


@pytest.mark.parametrize("arch", ARCHS)
def test_timm_loads_the_folder_in_a_separate_process(tmp_path, data, arch):
    out, selected, _ = exported(tmp_path, data, arch)
    zoo = arch.startswith("cifar_")
    code = LOAD.format(folder=out, zoo=", pipeline.models.zoo" if zoo else "")
    place = ROOT if zoo else tmp_path  # timm's own architectures load without our code
    environment = {**os.environ, "PYTHONPATH": str(ROOT) if zoo else "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    with torch.no_grad():
        expected = selected.module(torch.rand(2, 3, 32, 32)).flatten().tolist()
    assert json.loads(done.stdout) == pytest.approx(expected, abs=1e-5)


def test_only_the_batch_size_is_dynamic(tmp_path, data):
    out, _, _ = exported(tmp_path, data, "cifar_resnet8")
    (image,) = onnx.load(out / "model.onnx").graph.input
    batch, *rest = image.type.tensor_type.shape.dim
    assert image.name == "image" and batch.dim_param and [d.dim_value for d in rest] == [3, 32, 32]
    onnx.checker.check_model(str(out / "model.onnx"))


def test_a_model_with_different_logits_is_an_error(tmp_path, data):
    out, _, logits = exported(tmp_path, data, "cifar_resnet8")
    images = np.random.default_rng(0).random((len(logits), 3, 32, 32), dtype=np.float32)
    with pytest.raises(UserError, match=r"model\.onnx differs from PyTorch: logits by up to .* \(tolerance 1e-04\)"):
        verify(out / "model.onnx", [(images, logits)])


def test_an_export_does_not_hold_the_whole_test_split(tmp_path, data, monkeypatch):
    out, selected, logits = exported(tmp_path, data, "cifar_resnet8")
    monkeypatch.setattr("pipeline.export.selection.BATCH_SIZE", 4)
    before: list[weakref.ref] = []

    def counted(batches):
        for batch in batches:
            images = batch[0] if isinstance(batch, tuple) else batch
            assert sum(earlier() is not None for earlier in before) <= 2
            before.append(weakref.ref(images))
            del images
            yield batch

    verify(out / "model.onnx", counted(reference_outputs(selected.module, data)))
    found = measure([out / "model.onnx"], counted(pixel_batches(data)), data.labels("test"))
    assert found["model.onnx"].classes.tolist() == logits.argmax(1).tolist()
    assert len(before) == 2 * -(-len(logits) // 4) > 8


def test_a_file_gets_the_prediction_of_the_test_split(tmp_path, data):
    out, _, logits = exported(tmp_path, data, "cifar_resnet8")
    root = data.folder.parent / "set"
    test = data.table.filter(data.table["split"] == "test")["source"].to_list()
    predict = Predictor(out)
    for k in (0, 5, 20):
        prediction = predict(root / test[k], 2)
        p = torch.tensor(logits[k]).double().softmax(0)
        assert prediction.classes[0] == data.classes[int(p.argmax())]
        assert prediction.probabilities == pytest.approx(sorted(p.tolist(), reverse=True), abs=1e-4)


def test_the_seed_is_selected_on_validation(tmp_path, data):
    assert select_student(students(tmp_path / "s", data, "cifar_resnet8", (50.0, 70.0, 70.0)), "kd", "last").seed == 1


def test_a_group_or_an_untrained_method_cannot_be_exported(tmp_path):
    with pytest.raises(DataError, match=r"none is missing: run `python -m stages\.distill kd`"):
        select_student(tmp_path / "none", "kd", "last")
    (tmp_path / "group/seed-0").mkdir(parents=True)
    write_json(tmp_path / "group/seed-0/networks.json", {})
    write_json(tmp_path / "group/seed-0/run.json", about(0, None, ("a", "b")))
    with pytest.raises(ParamsError, match=r"export\.method: cooperative trains a group \(a, b\), not a student"):
        select_student(tmp_path / "group", "cooperative", "last")


def test_the_card_contains_accuracy_cost_and_parameters(tmp_path, data):
    selected = select_student(students(tmp_path / "students", data, "cifar_resnet8"), "kd", "best")
    tests = {"networks": {"student": {"best": {"top1": 50.0}}}, "guides": {"teacher": {"arch": "test_resnet"}}}
    results = {"eval": {"student": "student", "seeds": {"0": tests}}, "cost": COST}
    measured = {"model.onnx": Measured(50.0, 31.4, 68.6, 5258, 0.25, np.zeros(24, np.int64))}
    models = OnnxModels(3e-6, measured, "no such operator")
    text = card(Path("models/export"), selected, data, results, models, {"data": {"source": "folder"}})
    assert (
        "# cifar_resnet8, trained with kd" in text
        and "50.00 % (95 % confidence interval 31.4 to 68.6, 24 images)" in text
    )
    assert "import pipeline.models.zoo" in text and "kd:\n  alpha: 0.9\n" in text and "n=1 seed" in text
    assert "| `model.onnx` | 50.00 % (31.4 to 68.6) | 5,258 bytes (5.3 kB) | 0.250 ms |" in text
    assert "could not quantize the network: no such operator" in text and "teacher (test_resnet)" in text


def predict(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "stages.predict", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_classifies_files_and_folders(tmp_path, data):
    out, _, _ = exported(tmp_path, data, "cifar_resnet8")
    make_folder(tmp_path / "set", splits=("train",), n=2)
    done = predict(str(tmp_path / "set"), "--model", str(out), "--top", "1", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(lines) == 4
    assert all(line["classes"][0] in ("cat", "dog") and 0.5 <= line["probabilities"][0] <= 1 for line in lines)
    picture(1).save(tmp_path / "one.jpg")
    line = predict(str(tmp_path / "one.jpg"), "--model", str(out)).stdout
    assert line.startswith(str(tmp_path / "one.jpg")) and "cat 0." in line and "dog 0." in line


def test_a_file_that_is_not_an_image_is_reported_and_the_others_are_classified(tmp_path, data):
    out, _, _ = exported(tmp_path, data, "cifar_resnet8")
    (tmp_path / "a.txt").write_text("hello")
    picture(1).save(tmp_path / "b.png")
    done = predict(str(tmp_path / "a.txt"), str(tmp_path / "b.png"), "--model", str(out))
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
    assert done.stderr.strip() == f"error: {tmp_path / 'a.txt'} is not an image, or its format is unknown: {EXPECTED}"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["x.png", "--model", "nowhere"], "nowhere holds no exported student (No such file or directory)"),
        (["x.png", "--top", "0"], "--top"),
    ],
)
def test_a_wrong_argument_is_reported_without_a_traceback(arguments, message):
    done = predict(*arguments)
    assert done.returncode != 0 and message in done.stderr and "Traceback" not in done.stderr


def test_a_missing_file_and_an_empty_folder_are_named(tmp_path):
    with pytest.raises(DataError, match=r"no\.png does not exist"):
        find_images(tmp_path / "no.png")
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty contains no files"):
        find_images(tmp_path / "empty")
