"""What is drawn at random: equal in methods, which are compared, and different in the stages that precede them."""

import torch

from pipeline.core.interface import Network
from pipeline.params.load import load, runtime
from pipeline.training.session import Session
from pipeline.training.stage import Participants, Stage

COMMANDS = {
    "pretrain": ("stages.pretrain",),
    "kd": ("stages.distill", "kd"),
    "orc": ("stages.distill", "orc"),
    "takd": ("stages.assist", "takd", "ta1"),
    "dgkd": ("stages.assist", "dgkd", "ta1"),
}


def first_order(project, monkeypatch, command: tuple[str, ...], stream: str | None = None) -> torch.Tensor:
    """The order of the images in the first epoch of seed 0 of a stage."""
    from pipeline.methods.scratch import Scratch
    from pipeline.training.legs import plan

    monkeypatch.chdir(project.folder)
    recipe = load("train")["train"]
    stage = Stage(*command, recipe=recipe, parameters={}, code=(), runtime=runtime(), stream=stream)
    participants = Participants(Scratch(0.0), {"student": Network("tiny_plain2_12")}, {})
    run = Session(stage).create_run(participants, 0, stage.checkpoint(0), "")
    (leg,) = run.method.legs(run.nets, run.train_set)
    return run.batches.order(plan(0, leg, run.train_set, epochs=2, batch_size=32), 1)


def test_methods_see_the_same_batches_and_their_teacher_has_seen_others(project, monkeypatch):
    orders = {name: first_order(project, monkeypatch, command) for name, command in COMMANDS.items()}
    assert torch.equal(orders["kd"], orders["orc"])
    assert not torch.equal(orders["kd"], orders["pretrain"])
    assert not torch.equal(orders["kd"], orders["takd"]) and not torch.equal(orders["pretrain"], orders["takd"])
