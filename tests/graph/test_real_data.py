"""The whole pipeline on a folder of photographs, with timm's backbones."""

import json

import polars as pl
import pytest
from pictures import make_folder, picture
from project import Project, ran

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """Two methods, one epoch, and a folder of images in several formats and three sizes."""
    project = Project(tmp_path_factory.mktemp("project"))
    make_folder(project.folder / "photos", splits=("train", "test"), n=24, sizes=((48, 40), (64, 64), (40, 90)))

    def change(document):
        document["data"] |= {"source": "folder", "root": "photos", "image_size": 32}
        document["train"] |= {"epochs": 1, "batch_size": 8}
        document["seeds"] = [0]
        document["teacher"]["arch"] = "resnet10t"
        document["student"] |= {"arch": "mobilenetv3_small_050", "after": "ta1"}
        document["assistants"] = {"ta1": {"arch": "test_resnet", "after": "teacher"}}
        document["cooperative"]["members"] = {"auto": 2}
        document["methods"] = {name: entry for name, entry in document["methods"].items() if name in ("kd", "orc")}

    project.edit(change)
    project.first = project.dvc("repro").stdout
    project.commit()
    return project


def test_image_folder_with_mixed_sizes_is_distilled_with_timm_backbones(project):
    table = project.first[project.first.index("Methods:") :]
    assert all(name in table for name in ("kd", "orc"))
    meta = json.loads((project.folder / "data/prepared/meta.json").read_text())
    assert meta["counts"] == {"train": 43, "validation": 5, "test": 48} and meta["image_size"] == [32, 32]
    predictions = pl.read_parquet(project.folder / "results/predictions/orc.parquet")
    assert predictions.height == 48 and predictions["logits"].dtype == pl.Array(pl.Float32, 2)
    networks = json.loads((project.folder / "models/students/orc/seed-0/networks.json").read_text())
    networks.pop("content.sha256")
    assert {r["arch"] for r in networks.values()} == {"resnet10t", "test_resnet", "mobilenetv3_small_050"}


def test_changing_one_image_reruns_prepare(project):
    assert ran(project.dvc("repro", "--dry").stdout) == []
    picture(99, (48, 40)).save(project.folder / "photos/train/cat/00.jpg")
    assert "prepare" in ran(project.dvc("repro", "--dry").stdout)
    project.reset()


def test_streamed_folder_trains_without_copying_the_images(project):
    project.stage("manifest", "photos", "listed")
    project.edit(lambda document: document["data"].update(root="listed", storage="stream"))
    project.dvc("repro", "-s", "check", "prepare", "pretrain")
    assert not list((project.folder / "data/prepared").glob("*.npy"))
    history = json.loads((project.folder / "models/teacher/seed-0/networks.json").read_text())
    assert history["teacher"]["arch"] == "resnet10t" and history["teacher"]["validation"]["last"] >= 0
    assert ran(project.dvc("repro", "-s", "--dry", "check", "prepare", "pretrain").stdout) == []
    picture(98, (48, 40)).save(project.folder / "photos/train/cat/00.jpg")
    project.stage("manifest", "photos", "listed")
    assert "prepare" in ran(project.dvc("repro", "--dry").stdout)
    project.reset()
