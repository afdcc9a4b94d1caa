"""The engineer's path: a folder of photographs, a teacher with weights, a small student, and what is taken away."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from project import Project, ran

from pipeline.models.create import create

pytestmark = pytest.mark.slow


@pytest.fixture
def photographs(tmp_path):
    """Two classes of photographs of many sizes, in train/ and test/."""
    draw = np.random.default_rng(0)
    for split, n in (("train", 40), ("test", 8)):
        for label, name in enumerate(("cat", "dog")):
            folder = tmp_path / "photographs" / split / name
            folder.mkdir(parents=True)
            for k in range(n):
                height, width = draw.integers(30, 90, 2)
                pixels = draw.integers(0, 120, (height, width, 3)).astype(np.uint8)
                pixels[: height // 2, :, 2 * label] = 250
                Image.fromarray(pixels).save(folder / f"{k}.jpg")
    return tmp_path / "photographs"


def test_the_export_of_a_student_runs_what_it_needs_and_nothing_else(tmp_path, photographs):
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")
    torch.manual_seed(0)
    teacher = create("resnet10t", num_classes=2, in_chans=3, image_size=(32, 32))
    torch.save({"state_dict": teacher.state_dict()}, tmp_path / "teacher.pth")
    for key, value in {
        "data.source": "folder",
        "data.root": str(photographs),
        "data.image_size": 32,
        "seeds": [0],
        "teacher.arch": "resnet10t",
        "teacher.checkpoint": str(tmp_path / "teacher.pth"),
        "student.arch": "mobilenetv3_small_050",
        "train.epochs": 2,
        "train.optimizer": "adamw",
        "train.augment": "trivial",
        "train.random_erasing": 0.25,
        "train.clip_grad_norm": 1.0,
    }.items():
        project.set(key, value)
    output = project.dvc("repro", "export").stdout
    assert ran(output) == ["check", "prepare", "pretrain", "distill@kd", "evaluate@kd", "export"]
    assert "model.onnx: test top-1" in output and "model.int8.onnx: test top-1" in output
    export = project.folder / "models/export"
    image = photographs / "test/dog/0.jpg"
    done = subprocess.run(
        [sys.executable, "-I", str(export / "predict.py"), str(image)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
        check=False,
    )
    assert done.returncode == 0 and "dog" in done.stdout, done.stderr


def test_two_classes_need_nothing_but_source_and_root(tmp_path, photographs):
    """Not even the default members, of which there are four, stop a data set of two classes."""
    (tmp_path / "project").mkdir()
    project = Project(tmp_path / "project")

    def change(document):
        document["data"] |= {"source": "folder", "root": str(photographs)}
        document["seeds"] = [0]
        document["train"] |= {"epochs": 1}
        document["cooperative"] |= {"steps": 2}
        document["methods"] = {name: document["methods"][name] for name in ("kd", "cooperative")}

    project.edit(change)
    output = project.dvc("repro", "complete").stdout
    assert ran(output)[-1] == "complete" and "members" in ran(output)
    assert "warning: the test split has only 16 images" in output
    assert "the images differ in size: all are resized and cropped to " in output
