"""What an engineer takes away from models/export works without this project, and its card tells the truth."""

import json
import logging
import os
import re
import stat
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest
import torch
from pictures import picture
from PIL import Image
from ruamel.yaml import YAML

from pipeline.data.prepared import Prepared
from pipeline.export import int8
from pipeline.export.int8 import write_int8
from pipeline.export.measure import Measured, verdict
from pipeline.export.onnx import write_onnx
from pipeline.export.package import SCRIPT, write_package
from pipeline.export.prediction import Predictor
from pipeline.export.reproduce import as_yaml, sections
from pipeline.export.selection import SelectedStudent, calibration_images
from pipeline.export.session import open_session
from pipeline.models.create import create
from pipeline.params.load import dig, plain, validated
from pipeline.params.yaml_file import read
from pipeline.storage.bundle import Record

ROOT = Path(__file__).parents[2]
PARAMS = validated(read(ROOT / "params.yaml"))
KEYS = ("train", "student.arch", "seeds", "methods.kd.is", "methods.kd.after", "kd")
USED = {key: plain(dig(PARAMS, key)) for key in KEYS}
BESIDE = {key: plain(PARAMS[key]) for key in ("export", "data")}
COST = {
    "networks": {"student": {"parameters": 1, "macs": 2, "latency_ms": {"1": 0.1, "64": 1.0}}},
    "seeds": {"0": {"seconds": 1.0, "forward_equivalents": {"given_teacher": 3.0, "from_nothing": 1234567.8}}},
    "environment": {"device": "x", "threads": 1},
    "parameters": USED,
}
TESTED = {"networks": {"student": {"best": {"top1": 50.0}}}, "guides": {"teacher": {"arch": "test_resnet"}}}
RESULTS = {"eval": {"student": "student", "seeds": {"0": TESTED}}, "cost": COST}


def student(arch: str = "cifar_resnet8", channels: int = 3) -> SelectedStudent:
    torch.manual_seed(0)
    network = create(arch, num_classes=2, in_chans=channels, image_size=(32, 32)).eval()
    record = Record(arch=arch, num_classes=2, in_chans=channels, image_size=(32, 32), parameters=1)
    return SelectedStudent("kd", 0, "best", record, network)


def package(folder: Path, data: Prepared) -> str:
    folder.mkdir()
    return write_package(folder, Path("models/export"), student(), data, RESULTS, BESIDE)


@pytest.fixture(scope="module")
def exported(tmp_path_factory, data) -> SimpleNamespace:
    folder = tmp_path_factory.mktemp("take") / "away"
    before = os.umask(0o077)
    try:
        lines = package(folder, data)
    finally:
        os.umask(before)
    return SimpleNamespace(folder=folder, lines=lines.splitlines(), card=(folder / "README.md").read_text("utf-8"))


def test_everyone_may_read_all_files_and_the_manifest_covers_what_runs(exported):
    modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in exported.folder.iterdir()}
    assert set(modes.values()) == {0o644} and stat.S_IMODE(exported.folder.stat().st_mode) == 0o755
    covered = json.loads((exported.folder / "manifest.json").read_text())
    assert set(covered) == {"config.json", "classes.txt", "model.onnx"}  # what `stages.predict` reads
    assert set(modes) >= {"model.safetensors", "model.int8.onnx", "predict.py", "README.md"}


def test_card_and_printed_lines_give_accuracy_size_and_latency_of_both_models(exported, data):
    images = data.images("test").transpose(0, 3, 1, 2).astype(np.float32) / 255
    for name in ("model.onnx", "model.int8.onnx"):
        (z,) = open_session(exported.folder / name).run(None, {"image": images})
        top1, size = 100 * (z.argmax(1) == data.labels("test")).mean(), (exported.folder / name).stat().st_size
        row = rf"\| `{re.escape(name)}` \| {top1:.2f} % \([\d.]+ to [\d.]+\) \| {size:,} bytes .* \| ([\d.]+) ms \|"
        (latency,) = re.findall(row, exported.card)
        assert 0 < float(latency) < 1000
        assert f"{name}: test top-1 {top1:.2f} %, {size / 1000:,.1f} kB, {latency} ms" in exported.lines[1]
    assert len(exported.lines) == 2 and "cifar_resnet8 (kd, seed 0) to models/export" in exported.lines[0]
    assert "Compared with `model.onnx`, `model.int8.onnx` classifies" in exported.card
    assert "`predict.py` and `model.onnx` need nothing of it" in exported.card


def test_a_worse_int8_model_is_called_worse():
    classes = np.zeros(200, np.int64)
    base = Measured(90.0, 0, 0, 1000, 1.0, classes)
    worse = verdict(base, Measured(88.5, 0, 0, 1200, 1.5, np.where(np.arange(200) < 5, 1, classes)))
    assert "3 fewer of the 200 test images correctly, is 1.5 times slower and its file is 1.2 times larger" in worse
    assert "the same class for 195 images" in worse
    better = verdict(base, Measured(90.5, 0, 0, 250, 0.5, classes))
    assert "1 more of the 200 test images correctly, is 2.0 times faster and its file is 4.0 times smaller" in better
    equal = verdict(base, Measured(90.0, 0, 0, 1001, 1.01, classes))
    assert "as many of the 200 test images correctly, is as fast and its file is as large" in equal


def test_int8_is_quantized_is_the_same_every_time_and_names_no_path(exported, data, tmp_path, capfd):
    handlers = list(logging.getLogger().handlers)
    file = tmp_path / "model.int8.onnx"
    assert write_int8(file, exported.folder / "model.onnx", calibration_images(data)) is None
    content = file.read_bytes()
    assert content == (exported.folder / "model.int8.onnx").read_bytes()
    assert re.findall(rb"[^\0\n]*(?:\.py|site-packages|/home|/root|/work|/tmp|File \")[^\0\n]*", content) == []
    model = onnx.load(file)
    onnx.checker.check_model(model)
    scales = {tuple(value.dims) for value in model.graph.initializer if value.name.endswith("_scale")}
    assert {node.op_type for node in model.graph.node} >= {"QuantizeLinear", "Conv"} and (16,) in scales
    assert [entry.domain for entry in model.opset_import] == [""] and not model.metadata_props
    assert model.graph.input[0].type.tensor_type.shape.dim[0].dim_param
    assert capfd.readouterr() == ("", "") and logging.getLogger().handlers == handlers


def test_calibration_uses_training_images_of_all_classes(data):
    images = calibration_images(data)
    assert images.shape == (24, 3, 32, 32) and images.dtype == np.float32
    expected = data.images("train").transpose(0, 3, 1, 2) / 255
    assert np.abs(images - expected).max() < 1e-6


def test_a_network_that_cannot_be_quantized_is_exported_without_int8(data, tmp_path, monkeypatch, capfd):
    def fail(file, *_):
        file.write_bytes(b"half a model")
        raise RuntimeError("unknown operator in /tmp/ort.quant.x/model.onnx\nsecond line")

    monkeypatch.setattr(int8, "quantize", fail)
    lines = package(tmp_path / "export", data).splitlines()
    reason = "unknown operator in model.onnx"
    assert len(lines) == 2 and lines[1].endswith(f"; no model.int8.onnx: {reason}")
    assert not (tmp_path / "export/model.int8.onnx").exists()
    assert "model.int8.onnx" not in json.loads((tmp_path / "export/manifest.json").read_text())
    card = (tmp_path / "export/README.md").read_text("utf-8")
    assert f"could not quantize the network: {reason}\n" in card and "--model model.int8.onnx" not in card
    assert "| `model.int8.onnx` |" not in card and "second line" not in card and capfd.readouterr() == ("", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="needs a device that is always full")
def test_a_full_disk_is_not_recorded_as_a_property_of_the_network(exported, data, tmp_path):
    (tmp_path / "model.int8.onnx").symlink_to("/dev/full")
    with pytest.raises(OSError, match="No space left on device"):
        write_int8(tmp_path / "model.int8.onnx", exported.folder / "model.onnx", calibration_images(data))
    assert list(tmp_path.iterdir()) == []


def test_a_network_without_a_layer_to_quantize_says_so(tmp_path):
    write_onnx(tmp_path / "m.onnx", torch.nn.Flatten(), [0.5], [0.5], (4, 4))
    images = np.random.default_rng(0).random((4, 1, 4, 4), dtype=np.float32)
    reason = write_int8(tmp_path / "q.onnx", tmp_path / "m.onnx", images)
    assert reason and "\n" not in reason and not (tmp_path / "q.onnx").exists()


def pictures(folder: Path) -> list[Path]:
    """RGB, grey, rotated by EXIF, odd sizes, palette, transparent and 16-bit images."""
    folder.mkdir()
    turned = Image.Exif()
    turned[0x0112] = 6
    picture(0, (50, 40)).save(folder / "rgb.png")
    picture(1, (31, 77)).save(folder / "odd.jpg")
    picture(2, (45, 33), "L").save(folder / "grey.png")
    picture(3, (64, 31)).save(folder / "turned.jpg", exif=turned)
    picture(4, (3, 1)).save(folder / "tiny.bmp")
    picture(5, (32, 32)).quantize(16).save(folder / "palette.png")
    picture(6, (40, 41), "RGBA").save(folder / "opaque.png")
    transparent = picture(7, (40, 41), "RGBA")
    transparent.putalpha(picture(8, (40, 41), "L"))
    transparent.save(folder / "transparent.png")
    values = np.random.default_rng(9).integers(0, 2**16, (20, 30)).astype(np.uint16)
    Image.fromarray(values).save(folder / "deep.png")
    return sorted(folder.iterdir())


def isolated(folder: Path, place: Path, *arguments: str) -> subprocess.CompletedProcess:
    command = [sys.executable, "-I", str(folder / "predict.py"), *arguments]
    return subprocess.run(command, cwd=place, env={"PATH": "/usr/bin"}, capture_output=True, text=True, check=False)


@pytest.mark.parametrize(("channels", "crop"), [(3, 1.0), (3, 0.875), (1, 1.0), (1, 0.875)])
def test_predict_py_classifies_as_the_project_does(tmp_path, channels, crop):
    folder, chosen = tmp_path / "export", student(channels=channels)
    folder.mkdir()
    (folder / "classes.txt").write_text("a cat\ndög\n", "utf-8")
    entry = {"input_size": [channels, 32, 32], "crop_pct": crop, "num_classes": 2}
    (folder / "config.json").write_text(json.dumps({"pretrained_cfg": entry}))
    (folder / "predict.py").write_bytes(SCRIPT.read_bytes())
    write_onnx(folder / "model.onnx", chosen.module, [0.4] * channels, [0.1] * channels, (32, 32))
    files, predict = pictures(tmp_path / "images"), Predictor(folder)
    done = isolated(folder, tmp_path / "images", *(file.name for file in files))
    assert done.returncode == 0 and done.stderr == "", done.stderr
    lines = done.stdout.splitlines()
    assert len(lines) == len(files) == 9
    for file, line in zip(files, lines):
        name, *pairs = line.split("  ")
        classes, probabilities = zip(*(pair.rsplit(" ", 1) for pair in pairs))
        expected = predict(file, 2)
        assert name == file.name and list(classes) == expected.classes
        assert [float(p) for p in probabilities] == pytest.approx(expected.probabilities, abs=1e-4)
    assert len({line.split("  ", 1)[1] for line in lines}) > 5  # the images are told apart


def test_predict_py_takes_the_int8_model_and_reports_a_bad_file(exported, tmp_path):
    files = pictures(tmp_path / "images")
    (tmp_path / "images/none.txt").write_text("hello")
    done = isolated(exported.folder, tmp_path / "images", "none.txt", files[0].name, "--model", "model.int8.onnx")
    assert done.returncode == 1 and done.stderr.startswith("error: none.txt: ") and len(done.stderr.splitlines()) == 1
    assert len(done.stdout.splitlines()) == 1 and "Traceback" not in done.stderr
    assert isolated(exported.folder, tmp_path, "--help").stdout.startswith("usage: predict.py")


@pytest.mark.parametrize("model", ["./other.onnx", "models/other.onnx", "ABSOLUTE"])
def test_predict_py_takes_a_path_from_the_current_folder_and_a_name_from_its_own(exported, tmp_path, model):
    image, place = pictures(tmp_path / "images")[0].name, tmp_path / "images"
    (place / "models").mkdir()
    expected = isolated(exported.folder, place, image).stdout
    (place / "model.onnx").write_text("no model")  # a name is not looked up here
    assert expected and isolated(exported.folder, place, image, "--model", "model.onnx").stdout == expected
    path = str(place / "other.onnx") if model == "ABSOLUTE" else model
    (place / path).write_bytes((exported.folder / "model.onnx").read_bytes())
    assert isolated(exported.folder, place, image, "--model", path).stdout == expected


def test_predict_py_is_short_and_needs_nothing_of_the_project():
    text = SCRIPT.read_text("utf-8")
    imported = set(re.findall(r"^(?:import|from) (\w+)", text, re.M))
    assert len(text.splitlines()) <= 40 and imported == {
        "argparse", "json", "sys", "pathlib", "numpy", "onnxruntime", "PIL",
    }  # fmt: skip


def leaves(value, key=()):
    if isinstance(value, dict) and value:
        for name, inside in value.items():
            yield from leaves(inside, (*key, name))
    else:
        yield key, value


def test_the_card_lists_all_parameters_as_params_yaml_accepts_them(exported):
    (block,) = re.findall(r"^```yaml\n(.*?)^```$", exported.card, re.M | re.S)
    shown = dict(leaves(YAML(typ="safe", pure=True).load(block)))
    params = {name: plain(value) for name, value in PARAMS.items()}
    for key, value in shown.items():
        inside = params
        for part in key:
            inside = inside[part]
        assert value == inside and type(value) is type(inside), key
    used = {(*key.split("."), *rest) for key, value in {**USED, **BESIDE}.items() for rest, _ in leaves(value)}
    assert set(shown) == used and ("methods", "kd", "is") in used and ("data", "source") in used


def test_the_block_survives_values_that_yaml_could_read_as_others():
    odd = {
        "a.b": "no",
        "a.c": "1e-3",
        "a.d": 1e-05,
        "a": {"e": [], "f": {}, "g": "auto"},
        "s": [0, 1],
        "p": "x: #" * 60,
    }
    text = as_yaml(sections(odd))
    read_back = YAML(typ="safe", pure=True).load(text)
    assert read_back["a"] == {"b": "no", "c": "1e-3", "d": 1e-05, "e": [], "f": {}, "g": "auto"}
    assert read_back["s"] == [0, 1] and read_back["p"] == "x: #" * 60 and odd["a"] == {"e": [], "f": {}, "g": "auto"}
