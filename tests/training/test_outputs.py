"""The outputs of a run: its costs, and sheets of images before and after pixel descent."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from cases import COOPERATIVE, METHODS, start_of
from toy_run import SHAPE, ToyRuns

from pipeline.storage.store import Store
from pipeline.training.latency import Latency
from pipeline.training.run_outputs import RunOutputs

META = SimpleNamespace(in_chans=1, image_size=(8, 8), num_classes=3)


def cost_of(folder, run, student="student") -> dict:
    latency = Latency(Store(folder.parent / "store", grouped=True, log=print), {"threads": 1}, META)
    before = {name: {} for name in run.networks}
    outputs = RunOutputs(META, {"threads": 1}, latency, name="toy/seed-0", before=before, student_arch="tiny_plain2_12")
    outputs.write(folder, run, run.train(), {"student": student, "seed": 0})
    return json.loads((folder / "cost.json").read_text())


@pytest.fixture
def toy(tmp_path):
    return ToyRuns(tmp_path)


def folder(tmp_path, name):
    (tmp_path / name / "networks").mkdir(parents=True)
    return tmp_path / name


def macs(cost, name, kind="macs"):
    return cost["networks"][name][kind]


def test_kd_step_costs_three_student_forwards_and_one_teacher_forward(toy, tmp_path):
    run = toy.run(METHODS["kd"], toy.start)
    cost = cost_of(folder(tmp_path, "kd"), run)
    from pipeline.models.count import macs as count

    teacher = count(run.nets["teacher"].module, 1, (8, 8))
    assert cost["forward_equivalents_per_step"] == pytest.approx(3 + teacher / macs(cost, "student"), abs=1e-3)
    assert set(cost["networks"]["student"]["latency_ms"]) == {"1", "64"}
    assert all(v > 0 for v in cost["networks"]["student"]["latency_ms"].values())
    assert cost["environment"] == {"threads": 1}


def test_scratch_step_costs_one_forward_and_one_backward(toy, tmp_path):
    assert cost_of(folder(tmp_path, "s"), toy.run(METHODS["scratch"], {}))["forward_equivalents_per_step"] == 3.0


def test_sheets_hold_images_before_and_after_pixel_descent(toy, tmp_path):
    out = folder(tmp_path, "c")
    cost_of(out, toy.run(COOPERATIVE, start_of("cooperative", toy)), student=None)
    with np.load(out / "sheets.npz") as sheets:
        assert set(sheets) <= {"a", "b", "c"} and len(sheets) > 0
        for name in sheets:
            before, after = sheets[name]
            assert before.shape[1:] == SHAPE and before.dtype == np.uint8 and len(before) <= 8
            assert (before != after).any()


def test_a_network_is_measured_once_and_has_one_latency_in_all_runs(toy, tmp_path):
    one, other = (cost_of(folder(tmp_path, name), toy.run(METHODS[name], toy.start)) for name in ("kd", "takd"))
    assert macs(one, "student", "latency_ms") == macs(other, "student", "latency_ms")
    architectures = {"tiny_plain2_12", "tiny_plain2_32"}
    assert len(list((tmp_path / "store/latency").glob("*/finished"))) == len(architectures)
