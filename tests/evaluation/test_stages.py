"""`evaluate` and `report` go on with the seeds that ended if others diverged, and warn of a small test split."""

import os
import subprocess
import sys
from pathlib import Path

import polars as pl
import pytest
import torch
from pictures import make_folder, section
from ruamel.yaml import YAML

from pipeline.data.prepare import prepare
from pipeline.data.sources.open import open_source
from pipeline.evaluation.records import read_evaluation
from pipeline.models.create import create
from pipeline.storage.bundle import write_network
from pipeline.storage.documents import write_json
from pipeline.storage.folders import file_digest
from results import WHERE

ROOT = Path(__file__).parents[2]
SEEDS = [0, 1]


def stage(folder: Path, name: str, *arguments: str) -> subprocess.CompletedProcess:
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    command = [sys.executable, "-m", f"stages.{name}", *arguments]
    return subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)


def write_students(folder: Path, method: str, diverged: list[int]) -> None:
    """What `distill` writes for a method that trains a student."""
    about = {"method": method, "is": method, "student": "student", "members": []}
    shape = {"num_classes": 2, "in_chans": 3, "image_size": (32, 32)}
    rows = ["seed,leg,epoch,network,term,value\n"]
    for seed in SEEDS:
        place = folder / "models/students" / method / f"seed-{seed}"
        if seed in diverged:
            place.mkdir(parents=True)
            write_json(place / "diverged.json", {**about, **WHERE, "seed": seed})
            continue
        torch.manual_seed(seed)
        state = {k: v.contiguous() for k, v in create("cifar_resnet8", **shape).state_dict().items()}
        record = {"arch": "cifar_resnet8", **shape, "image_size": [32, 32], "parameters": 1}
        record["validation"] = {"last": 50.0, "best": 50.0, "best_epoch": 1}
        write_network(place, "student", record, last=state, best=state)
        write_json(place / "run.json", {**about, "guides": [], "after": None, "seed": seed})
        rows.append(f"{seed},0,1,student,validation/top1,50.0\n")
    history = folder / "results/train" / method / "history.csv"
    history.parent.mkdir(parents=True)
    history.write_text("".join(rows))
    (folder / "results/cost").mkdir(exist_ok=True)
    one = {"seconds": 1.0, "steps": 1, "images_per_second": 1.0, "forward_equivalents_per_step": 3.0}
    one["forward_equivalents"] = {"given_teacher": 3.0, "from_nothing": 4.0}
    environment = {"world_size": 1, "threads": 1, "device": "x", "precision": "fp32", "versions": {}}
    cost = {"seeds": {str(seed): one for seed in SEEDS if seed not in diverged}, "networks": {}, "parameters": {}}
    write_json(
        folder / "results/cost" / f"{method}.json",
        {**cost, "environment": environment, "sha256": {"history.csv": file_digest(history)}},
    )


@pytest.fixture(scope="module")
def folder(tmp_path_factory) -> Path:
    """scratch diverged in all seeds, kd in seed 0."""
    folder = tmp_path_factory.mktemp("project")
    for code in ("pipeline", "stages"):
        (folder / code).symlink_to(ROOT / code)
    asked = section("folder", make_folder(folder / "set", sizes=((50, 40), (33, 64))), image_size=32)
    prepare(open_source(asked), asked, folder / "data/prepared")
    yaml = YAML()
    document = yaml.load((ROOT / "params.yaml").read_text())
    document["seeds"] = SEEDS
    document["methods"] = {name: document["methods"][name] for name in ("scratch", "kd")}
    yaml.dump(document, folder / "params.yaml")
    write_students(folder, "scratch", SEEDS)
    write_students(folder, "kd", [0])
    for method in ("scratch", "kd"):
        done = stage(folder, "evaluate", method)
        assert done.returncode == 0, done.stderr
    return folder


def test_evaluate_tests_the_seeds_that_ended_and_records_where_others_diverged(folder):
    content = read_evaluation(folder / "results/eval/kd.json")
    assert list(content["seeds"]) == ["1"] and content["diverged"] == {"0": WHERE}
    assert (content["n_images"], content["classes"]) == (24, ["cat", "dog"])
    assert pl.read_parquet(folder / "results/predictions/kd.parquet")["seed"].unique().to_list() == [1]


def test_evaluate_describes_a_method_that_diverged_in_all_seeds(folder):
    content = read_evaluation(folder / "results/eval/scratch.json")
    assert content["seeds"] == {} and content["diverged"] == {"0": WHERE, "1": WHERE}
    assert (content["is"], content["student"], content["members"]) == ("scratch", "student", [])
    empty, other = (pl.read_parquet(folder / f"results/predictions/{name}.parquet") for name in ("scratch", "kd"))
    assert empty.height == 0 and empty.schema == other.schema


def test_report_compares_what_ended_and_warns_of_the_small_test_split(folder):
    done = stage(folder, "report")
    assert done.returncode == 0, done.stderr
    for line in (
        "diverged: 2 of 2 seeds of scratch (seed 0: ce of network student, epoch 3, step 17)",
        "diverged: seed 0 of kd (ce of network student, epoch 3, step 17)",
        "warning: the test split has only 24 images: one image is 4.2 percentage points",
    ):
        assert line in done.stdout and f"- {line}" in (folder / "results/table.md").read_text()
        assert line in (folder / "results/report.html").read_text()
    table = (folder / "results/table.md").read_text()
    assert "| reference; 1 of 2 seeds diverged |" in table and "| network student, epoch 3, step 17 |" in table
    assert {*pl.read_csv(folder / "results/curves.csv")["method"]} == {"kd"}
    assert '<img src="data:image/png' in (folder / "results/report.html").read_text()
