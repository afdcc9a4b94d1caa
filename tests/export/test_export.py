"""What is taken away says what the student said: to timm, to onnxruntime, and to whoever has a picture."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from pictures import make_folder, picture, section

from pipeline.core.bundle import write_network
from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.open import open_source
from pipeline.errors import DataError, ParamsError, UserError
from pipeline.export import choice
from pipeline.export.card import card
from pipeline.export.choice import Chosen, choose
from pipeline.export.folder import write_folder
from pipeline.export.onnx import check, write_onnx
from pipeline.export.prediction import Predictor, files_of
from pipeline.models.create import create

ROOT = Path(__file__).parents[2]
ARCHS = ("cifar_resnet8", "test_resnet", "test_vit")
COST = {
    "networks": {"student": {"parameters": 1, "macs": 2, "latency_ms": {"1": 0.1, "64": 1.0}}},
    "seeds": {"0": {"seconds": 1.0, "forward_equivalents_per_step": 3.0}},
    "environment": {"device": "x", "threads": 1},
    "parameters": {"kd": {"alpha": 0.9}},
}


@pytest.fixture(scope="module")
def data(tmp_path_factory) -> Prepared:
    place = tmp_path_factory.mktemp("data")
    asked = section("folder", make_folder(place / "set", sizes=((50, 40), (33, 64))), image_size=32)
    prepare(open_source(asked), asked, place / "prepared")
    return Prepared.read(place / "prepared")


def students(folder: Path, data: Prepared, arch: str, validation=(50.0,)) -> Path:
    """As `distill` leaves them: one seed for each validation accuracy."""
    for seed, top1 in enumerate(validation):
        torch.manual_seed(seed)
        network = create(arch, num_classes=2, in_chans=3, image_size=(32, 32))
        record = {"arch": arch, "num_classes": 2, "in_chans": 3, "image_size": [32, 32], "parameters": 1}
        record["validation"] = {"last": top1, "best": top1, "best_epoch": 1}
        state = {k: v.contiguous() for k, v in network.state_dict().items()}
        write_network(folder / f"seed-{seed}", "student", record, last=state, best=state)
        about = {"seed": seed, "student": "student", "members": []}
        (folder / f"seed-{seed}" / "run.json").write_text(json.dumps(about))
    return folder


def exported(folder: Path, data: Prepared, arch: str) -> tuple[Path, Chosen, np.ndarray]:
    chosen = choose(students(folder / "students", data, arch), "kd", "best")
    images, logits = choice.tested(chosen.module, data)
    out = folder / "export"
    out.mkdir()
    write_folder(out, chosen.module, chosen.record, data.meta, data.classes)
    write_onnx(out / "model.onnx", chosen.module, data.meta.mean, data.meta.std, data.meta.image_size)
    assert check(out / "model.onnx", images, logits) < 1e-4
    return out, chosen, logits


LOAD = """
import timm, torch{zoo}
network = timm.create_model("local-dir:{folder}", pretrained=True).eval()
torch.manual_seed(0)
with torch.no_grad():
    print(network(torch.rand(2, 3, 32, 32)).flatten().tolist())
"""


@pytest.mark.parametrize("arch", ARCHS)
def test_timm_loads_the_folder_in_a_process_of_its_own(tmp_path, data, arch):
    out, chosen, _ = exported(tmp_path, data, arch)
    zoo = arch.startswith("cifar_")
    code = LOAD.format(folder=out, zoo=", pipeline.models.zoo" if zoo else "")
    place = ROOT if zoo else tmp_path  # a timm backbone is loaded where none of our code is
    environment = {**os.environ, "PYTHONPATH": str(ROOT) if zoo else "", "OMP_NUM_THREADS": "1"}
    done = subprocess.run([sys.executable, "-c", code], cwd=place, env=environment, capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    torch.manual_seed(0)
    with torch.no_grad():
        expected = chosen.module(torch.rand(2, 3, 32, 32)).flatten().tolist()
    assert json.loads(done.stdout) == pytest.approx(expected, abs=1e-5)


def test_the_batch_is_free_and_the_rest_is_not(tmp_path, data):
    out, _, _ = exported(tmp_path, data, "cifar_resnet8")
    (image,) = onnx.load(out / "model.onnx").graph.input
    batch, *rest = image.type.tensor_type.shape.dim
    assert image.name == "image" and batch.dim_param and [d.dim_value for d in rest] == [3, 32, 32]
    onnx.checker.check_model(str(out / "model.onnx"))


def test_a_model_that_says_something_else_is_refused(tmp_path, data):
    out, _, logits = exported(tmp_path, data, "cifar_resnet8")
    images = np.random.default_rng(0).random((len(logits), 3, 32, 32), dtype=np.float32)
    with pytest.raises(UserError, match=r"model\.onnx differs from PyTorch: logits by .* \(allowed 1e-04\)"):
        check(out / "model.onnx", images, logits)


def test_a_file_is_predicted_as_the_pipeline_tested_it(tmp_path, data):
    out, _, logits = exported(tmp_path, data, "cifar_resnet8")
    root = data.folder.parent / "set"
    test = data.table.filter(data.table["split"] == "test")["source"].to_list()
    predict = Predictor(out)
    for k in (0, 5, 20):
        said = predict(root / test[k], 2)
        p = torch.tensor(logits[k]).double().softmax(0)
        assert said.classes[0] == data.classes[int(p.argmax())]
        assert said.probabilities == pytest.approx(sorted(p.tolist(), reverse=True), abs=1e-4)


def test_the_seed_is_chosen_on_validation(tmp_path, data):
    assert choose(students(tmp_path / "s", data, "cifar_resnet8", (50.0, 70.0, 70.0)), "kd", "last").seed == 1


def test_a_group_or_nothing_cannot_be_chosen(tmp_path):
    with pytest.raises(DataError, match=r"none is missing: run `python -m stages\.distill kd`"):
        choose(tmp_path / "none", "kd", "last")
    (tmp_path / "group/seed-0").mkdir(parents=True)
    (tmp_path / "group/seed-0/networks.json").write_text("{}")
    about = {"seed": 0, "student": None, "members": ["a", "b"]}
    (tmp_path / "group/seed-0/run.json").write_text(json.dumps(about))
    with pytest.raises(ParamsError, match=r"export\.method: cooperative ends in a group \(a, b\), not a student"):
        choose(tmp_path / "group", "cooperative", "last")


def test_the_card_tells_accuracy_cost_and_how_to_reproduce(tmp_path, data):
    chosen = choose(students(tmp_path / "students", data, "cifar_resnet8"), "kd", "best")
    tests = {"networks": {"student": {"best": {"top1": 50.0}}}, "guides": {"teacher": {}}}
    results = {"eval": {"student": "student", "seeds": {"0": tests}}, "cost": COST}
    text = card(Path("models/export"), chosen, data, results, 3e-6)
    assert "# cifar_resnet8 by kd" in text and "50.00 % (95 % interval 31.4 to 68.6, 24 images)" in text
    assert "import pipeline.models.zoo" in text and '"alpha": 0.9' in text and "n=1 seed" in text


def predict(*arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "stages.predict", *arguments]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)


def test_the_command_answers_files_and_folders(tmp_path, data):
    out, _, _ = exported(tmp_path, data, "cifar_resnet8")
    make_folder(tmp_path / "set", splits=("train",), n=2)
    done = predict(str(tmp_path / "set"), "--model", str(out), "--top", "1", "--json")
    lines = [json.loads(line) for line in done.stdout.splitlines()]
    assert done.returncode == 0 and len(lines) == 4
    assert all(line["classes"][0] in ("cat", "dog") and 0.5 <= line["probabilities"][0] <= 1 for line in lines)
    picture(1).save(tmp_path / "one.jpg")
    shown = predict(str(tmp_path / "one.jpg"), "--model", str(out)).stdout
    assert shown.startswith(str(tmp_path / "one.jpg")) and "cat 0." in shown and "dog 0." in shown


def test_what_is_no_image_is_one_line_and_the_rest_is_answered(tmp_path, data):
    out, _, _ = exported(tmp_path, data, "cifar_resnet8")
    (tmp_path / "a.txt").write_text("hello")
    picture(1).save(tmp_path / "b.png")
    done = predict(str(tmp_path / "a.txt"), str(tmp_path / "b.png"), "--model", str(out))
    assert done.returncode == 1 and len(done.stdout.splitlines()) == 1
    assert done.stderr.strip() == f"error: {tmp_path / 'a.txt'} is no image"


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["x.png", "--model", "nowhere"], "nowhere holds no exported student (No such file or directory)"),
        (["x.png", "--top", "0"], "--top"),
    ],
)
def test_a_mistake_is_one_line(arguments, said):
    done = predict(*arguments)
    assert done.returncode != 0 and said in done.stderr and "Traceback" not in done.stderr


def test_a_missing_file_or_an_empty_folder_is_named(tmp_path):
    with pytest.raises(DataError, match="there is no file"):
        list(files_of([tmp_path / "no.png"]))
    (tmp_path / "empty").mkdir()
    with pytest.raises(DataError, match="empty has no file in it"):
        list(files_of([tmp_path / "empty"]))
