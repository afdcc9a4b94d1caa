"""A device that runs out of memory ends training and evaluation with one line, wherever that happens."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from pictures import section

from pipeline.core.interface import Network
from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.open import open_source
from pipeline.errors import UserError
from pipeline.evaluation import testing
from pipeline.methods.scratch import Scratch
from pipeline.models.create import create
from pipeline.params.load import load, runtime
from pipeline.storage.bundle import Bundle, write_network
from pipeline.training import run
from pipeline.training.session import Session
from pipeline.training.stage import Participants, Stage

ROOT = Path(__file__).parents[2]


def full(*_, **__):
    """What the allocator of a GPU does."""
    raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2 GiB\nGPU 0 has a total capacity of 8 GiB")


class Searching(Scratch):
    """Runs out of memory before its first leg, as a search for images may."""

    def legs(self, nets, train):
        full()
        yield from super().legs(nets, train)


class Stepping(Scratch):
    """Runs out of memory in a step."""

    def step(self, nets, leg, batch):
        full()
        yield from super().step(nets, leg, batch)


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A folder with few images, prepared."""
    folder = tmp_path_factory.mktemp("digits") / "prepared"
    asked = section("digits", folder, limit=100)
    prepare(open_source(asked), asked, folder)
    return folder


@pytest.mark.parametrize(
    ("method", "where"),
    [
        pytest.param(Scratch, (Prepared, "views"), id="data"),
        pytest.param(Scratch, (run, "initialise"), id="networks"),
        pytest.param(Searching, None, id="search"),
        pytest.param(Stepping, None, id="step"),
    ],
)
def test_out_of_memory_anywhere_in_a_session_is_one_line_that_names_batch_size_and_networks(
    tmp_path, monkeypatch, prepared, method: Callable[..., Scratch], where
):
    recipe, runs = load("train")["train"], runtime()
    for package in ("pipeline", "stages"):  # whose code is part of a seed's key
        (tmp_path / package).symlink_to(ROOT / package)
    monkeypatch.chdir(tmp_path)  # which gets the checkpoint store
    stage = Stage("stages.distill", "scratch", recipe=recipe, parameters={}, code=(), runtime=runs, data=prepared)
    scratch = method(ce_weight=1.0, label_smoothing=0.0)
    participants = Participants(scratch, {"student": Network("tiny_plain2_12")}, {}, "tiny_plain2_12")
    session = Session(stage)
    if where:
        monkeypatch.setattr(*where, full)
    with pytest.raises(UserError) as caught:
        session.train(0, participants)
    assert str(caught.value).startswith(f"out of memory on cpu: train.batch_size is {recipe.batch_size}, and ")
    assert "the networks student are resident" in str(caught.value) and "\n" not in str(caught.value)


def test_out_of_memory_in_an_evaluation_is_one_line_that_names_the_network(tmp_path, monkeypatch, prepared):
    tester = testing.Tester(Prepared.read(prepared))
    shape = {"num_classes": 10, "in_chans": 1, "image_size": (8, 8)}
    state = {k: v.contiguous() for k, v in create("tiny_plain2_12", **shape).state_dict().items()}
    write_network(tmp_path, "student", {"arch": "tiny_plain2_12", **shape}, last=state, best=state)
    monkeypatch.setattr(tester.views, "plain", full)
    with pytest.raises(UserError) as caught:
        tester.logits(Bundle.read(tmp_path), "student", "last")
    assert str(caught.value).startswith("out of memory on cpu: student does not evaluate 512 images at a time; ")
    assert "\n" not in str(caught.value)
