"""What is drawn at random: the same for methods, which are compared, and other draws for the networks that teach."""

import torch
from safetensors.torch import load_file

from pipeline.core.interface import Network
from pipeline.methods.scratch import Scratch
from pipeline.params.load import load, runtime
from pipeline.training.legs import plan
from pipeline.training.session import Session
from pipeline.training.stage import Participants, Stage


def first_order(project, monkeypatch, *command: str) -> torch.Tensor:
    """The order of the images in the first epoch of seed 0 of a stage."""
    monkeypatch.chdir(project.folder)
    stage = Stage(*command, recipe=load("train")["train"], parameters={}, code=(), runtime=runtime())
    participants = Participants(
        Scratch(ce_weight=1.0, label_smoothing=0.0), {"student": Network("tiny_plain2_12")}, {}, "tiny_plain2_12"
    )
    run = Session(stage).create_run(participants, 0, stage.checkpoint(0), "")
    (leg,) = run.method.legs(run.nets, run.train_set)
    return run.batches.order(plan(0, leg, run.train_set, epochs=2, batch_size=32), 1)


def test_methods_see_the_same_batches_and_their_teacher_has_seen_others(project, monkeypatch):
    kd, orc = (first_order(project, monkeypatch, "stages.distill", method) for method in ("kd", "orc"))
    assert torch.equal(kd, orc)
    for stage in ("stages.pretrain", "stages.members"):
        assert not torch.equal(kd, first_order(project, monkeypatch, stage))


def test_both_chains_train_their_first_assistant_to_the_same_weights(project):
    """With one guide and equal parameters DGKD is TAKD, so equal draws give equal bits."""
    takd, dgkd = (
        load_file(project.folder / f"models/{chain}/ta1/seed-0/ta1.last.safetensors") for chain in ("takd", "dgkd")
    )
    assert takd.keys() == dgkd.keys() and all(torch.equal(takd[key], dgkd[key]) for key in takd)
