"""`predict` with damaged exports and unusual files: one line each, and the other images are still classified."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from pictures import picture

from pipeline.errors import DataError
from pipeline.export.onnx import write_onnx
from pipeline.export.prediction import Predictor
from pipeline.models.create import create
from pipeline.storage.digests import write_digests

ROOT = Path(__file__).parents[2]
CONFIG = {"num_classes": 2, "pretrained_cfg": {"num_classes": 2, "input_size": [3, 8, 8], "crop_pct": 1.0}}


def write_model(file: Path, classes=2, size=(3, 8, 8), factor=1.0) -> None:
    """A model whose logits are multiples of the mean of the red values."""
    weight = numpy_helper.from_array(np.full((size[0], classes), factor, dtype=np.float32), "weight")
    nodes = [
        helper.make_node("GlobalAveragePool", ["image"], ["mean"]),
        helper.make_node("Flatten", ["mean"], ["flat"]),
        helper.make_node("MatMul", ["flat", "weight"], ["logits"]),
    ]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["batch", *size])
    logits = helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["batch", classes])
    graph = helper.make_graph(nodes, "g", [image], [logits], [weight])
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), file)


@pytest.fixture
def export(tmp_path) -> Path:
    folder = tmp_path / "export"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    (folder / "classes.txt").write_text("cat\ndog\n")
    write_model(folder / "model.onnx")
    return folder


def config(**changed):
    text = json.dumps({**CONFIG, "pretrained_cfg": {**CONFIG["pretrained_cfg"], **changed}})
    return lambda folder: (folder / "config.json").write_text(text)


def put(name: str, content: bytes):
    return lambda folder: (folder / name).write_bytes(content)


def remove(name: str):
    return lambda folder: (folder / name).unlink()


def pipe(name: str):
    def change(folder: Path):
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return change


DAMAGE = {
    "no config": (remove("config.json"), r"export holds no exported student"),
    "empty config": (put("config.json", b""), r"config\.json is damaged"),
    "list": (put("config.json", b"[]"), r"config\.json is damaged"),
    "NaN": (config(crop_pct=float("nan")), r"config\.json is damaged \(NaN is no number\)"),
    "encoding": (put("config.json", '{"é": 1}'.encode("latin1")), r"config\.json is damaged"),
    "nested": (put("config.json", b"[" * 99999), r"config\.json is damaged"),
    "no key": (put("config.json", b'{"pretrained_cfg": {}}'), r"config\.json is damaged \(it has no key 'input_size'"),
    "pipe": (pipe("config.json"), r"config\.json is damaged \(it cannot be read: it is not a regular file"),
    "two sides": (config(input_size=[8, 8]), r"config\.json is damaged \(input_size"),
    "channels": (config(input_size=[2, 8, 8]), r"config\.json is damaged \(input_size"),
    "huge": (config(input_size=[3, 8, 4097]), r"config\.json is damaged \(input_size"),
    "text": (config(input_size=[3, "8", 8]), r"config\.json is damaged \(input_size"),
    "truth": (config(input_size=[True, 8, 8]), r"config\.json is damaged \(input_size"),
    "crop 0": (config(crop_pct=0), r"config\.json is damaged \(crop_pct"),
    "crop 2": (config(crop_pct=2), r"config\.json is damaged \(crop_pct"),
    "crop text": (config(crop_pct="1"), r"config\.json is damaged \(crop_pct"),
    "no classes": (remove("classes.txt"), r"classes\.txt is damaged \(cannot be read: No such file"),
    "encoded classes": (put("classes.txt", b"\xff\n"), r"classes\.txt is damaged \(is not UTF-8"),
    "class names": (put("classes.txt", b"a\n"), r"classes\.txt is damaged \(it names 1 classes, but config\.json 2\)"),
    "no model": (remove("model.onnx"), r"model\.onnx is damaged \(it cannot be read: No such file"),
    "empty model": (put("model.onnx", b""), r"model\.onnx is damaged"),
    "no onnx": (put("model.onnx", b"hello"), r"model\.onnx is damaged \(is not a valid ONNX model"),
    "model is a pipe": (pipe("model.onnx"), r"model\.onnx is damaged \(it cannot be read: it is not a regular file"),
    "outputs": (lambda f: write_model(f / "model.onnx", classes=3), r"model\.onnx is damaged \(its input is not"),
    "inputs": (lambda f: write_model(f / "model.onnx", size=(1, 8, 8)), r"model\.onnx is damaged \(its input is not"),
}


@pytest.mark.timeout(20)
@pytest.mark.parametrize("case", DAMAGE)
def test_a_damaged_export_is_one_line(export, capfd, case):
    change, said = DAMAGE[case]
    change(export)
    with pytest.raises(DataError, match=rf"{said}.*: run `dvc repro export`") as caught:
        Predictor(export)
    assert str(caught.value).isprintable() and capfd.readouterr().err == ""


def test_a_model_without_finite_logits_is_damaged(export, tmp_path):
    write_model(export / "model.onnx", factor=np.nan)
    picture(0).save(tmp_path / "a.png")
    with pytest.raises(DataError, match=r"model\.onnx is damaged \(it returns no logits"):
        Predictor(export)(tmp_path / "a.png", 1)


def predict(export: Path, *arguments, env=None, **options) -> subprocess.CompletedProcess:
    command = [sys.executable, "-m", "stages.predict", *arguments, "--model", str(export), "--top", "1"]
    environment = os.environ | (env or {})
    return subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, check=False, timeout=60, **options)


EPS = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 20 20\n%%EndComments\nshowpage\n"


def test_unusual_files_are_one_line_each_and_the_others_are_classified(export, tmp_path):
    folder = tmp_path / "images"
    folder.mkdir()
    picture(0).save(folder / "a.png")
    name = os.fsencode(folder) + b"/\xff.png"
    picture(1).save(folder / "b.png")
    os.rename(folder / "b.png", name)
    os.mkfifo(folder / "pipe.png")
    (folder / "link.png").symlink_to("link.png")
    (folder / "eps.png").write_bytes(EPS)
    long = "x" * 5000
    fake = tmp_path / "bin" / "gs"
    fake.parent.mkdir()
    fake.write_text(f"#!/bin/sh\ntouch {tmp_path}/trace\nexit 1\n")
    fake.chmod(0o755)
    names = [folder / n for n in ("pipe.png", "link.png", "eps.png", "none.png")]
    path = {"PATH": f"{fake.parent}{os.pathsep}{os.environ['PATH']}"}
    for as_json in ([], ["--json"]):
        done = predict(export, *map(str, names), long, name, str(folder / "a.png"), *as_json, env=path)
        lines = done.stderr.decode().splitlines()
        assert done.returncode == 1 and len(lines) == 5 and all(line.startswith("error: ") for line in lines)
        assert "it is not a regular file" in lines[0] and "Too many levels" in lines[1]
        assert "is not an image" in lines[2] and "none.png does not exist" in lines[3] and "too long" in lines[4]
        assert len(done.stdout.splitlines()) == 2
        assert (b"\\udcff.png" if as_json else b"\\xff.png") in done.stdout.splitlines()[0]
    assert not (tmp_path / "trace").exists()


def test_a_folder_skips_files_that_are_no_images_by_name(export, tmp_path):
    folder = tmp_path / "images"
    (folder / "more").mkdir(parents=True)
    picture(0).save(folder / "more/a.PNG", "PNG")
    picture(0).save(folder / "b.jpeg")
    (folder / "notes.txt").write_text("hello")
    (folder / "more/list.csv").write_text("hello")
    (folder / ".hidden").write_text("hello")
    done = predict(export, str(folder))
    assert done.returncode == 0 and done.stderr == b"skipped 2 files that are no images by name\n"
    assert [line.split()[0] for line in done.stdout.decode().splitlines()] == [
        f"{folder}/b.jpeg",
        f"{folder}/more/a.PNG",
    ]
    (folder / "b.jpeg").unlink()
    (folder / "more/a.PNG").unlink()
    done = predict(export, str(folder))
    assert done.returncode == 1 and done.stderr.decode() == f"error: {folder} contains no images, but 2 other files\n"


def test_a_name_that_the_terminal_cannot_show_is_escaped(export, tmp_path):
    picture(0).save(tmp_path / "é.png")
    done = predict(export, str(tmp_path / "é.png"), env={"PYTHONIOENCODING": "ascii"})
    assert done.returncode == 0 and rb"\xe9.png" in done.stdout


def test_the_onnx_model_names_no_path_and_no_line_of_code(tmp_path):
    torch.manual_seed(0)
    network = create("cifar_resnet8", num_classes=5, in_chans=3, image_size=(32, 32)).eval()
    write_onnx(tmp_path / "model.onnx", network, [0.5] * 3, [0.5] * 3, (32, 32))
    content = (tmp_path / "model.onnx").read_bytes()
    assert re.findall(rb"[^\0\n]*(?:\.py|site-packages|/home|/root|/work|File \")[^\0\n]*", content) == []
    write_onnx(tmp_path / "again.onnx", network, [0.5] * 3, [0.5] * 3, (32, 32))
    assert (tmp_path / "again.onnx").read_bytes() == content


def test_one_flipped_bit_of_an_export_is_noticed(export):
    write_digests(export, ("config.json", "classes.txt", "model.onnx"))
    Predictor(export)
    (export / "README.md").write_text("a user's own notes")
    Predictor(export)
    for name in ("config.json", "classes.txt", "model.onnx"):
        before = (export / name).read_bytes()
        content = bytearray(before)
        content[content.index(b"o" if name != "config.json" else b"8")] ^= 1
        (export / name).write_bytes(content)
        with pytest.raises(DataError, match="is damaged"):
            Predictor(export)
        (export / name).write_bytes(before)
