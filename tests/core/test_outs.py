"""What a run leaves says what it cost."""

import json
from types import SimpleNamespace

import numpy as np
import pytest
from cases import COOPERATIVE, METHODS, start_of
from workshop import SHAPE, Workshop

from pipeline.core.logits import LogitStore
from pipeline.core.outs import write_run

META = SimpleNamespace(in_chans=1, image_size=(8, 8), num_classes=3)


def cost_of(folder, run, student="student") -> dict:
    write_run(folder, run, run.train(), META, {"threads": 1}, {"student": student, "seed": 0})
    return json.loads((folder / "cost.json").read_text())


@pytest.fixture
def shop(tmp_path):
    return Workshop(tmp_path)


def folder(tmp_path, name):
    (tmp_path / name / "networks").mkdir(parents=True)
    return tmp_path / name


def macs(cost, name, kind="macs"):
    return cost["networks"][name][kind]


def test_a_step_of_kd_costs_three_students_and_a_teacher(shop, tmp_path):
    run = shop.run(METHODS["kd"], shop.start)
    cost = cost_of(folder(tmp_path, "kd"), run)
    from pipeline.models.count import macs as count

    teacher = count(run.nets["teacher"].bare, 1, (8, 8))
    assert cost["forward_equivalents_per_step"] == pytest.approx(3 + teacher / macs(cost, "student"), abs=1e-3)
    assert set(cost["networks"]["student"]["latency_ms"]) == {"1", "64"}
    assert all(v > 0 for v in cost["networks"]["student"]["latency_ms"].values())
    assert cost["environment"] == {"threads": 1}


def test_what_a_method_asks_for_does_not_depend_on_the_store(shop, tmp_path):
    def store():
        return LogitStore(tmp_path / "logits", kind="fp32", gib=1.0, about={})

    runs = [shop.run(METHODS["kd"], shop.start, store=kind) for kind in (None, store(), store())]
    costs = [cost_of(folder(tmp_path, str(k)), run)["forward_equivalents_per_step"] for k, run in enumerate(runs)]
    assert costs[0] == costs[1] == costs[2] > 3


def test_scratch_costs_its_own_forward_and_backward(shop, tmp_path):
    assert cost_of(folder(tmp_path, "s"), shop.run(METHODS["scratch"], {}))["forward_equivalents_per_step"] == 3.0


def test_a_sheet_shows_images_before_and_after(shop, tmp_path):
    out = folder(tmp_path, "c")
    cost_of(out, shop.run(COOPERATIVE, start_of("cooperative", shop)), student=None)
    with np.load(out / "sheets.npz") as sheets:
        assert set(sheets) <= {"a", "b", "c"} and len(sheets) > 0
        for name in sheets:
            before, after = sheets[name]
            assert before.shape[1:] == SHAPE and before.dtype == np.uint8 and len(before) <= 8
            assert (before != after).any()
