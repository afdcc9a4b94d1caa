"""Which passes are captured as CUDA graphs. The graphs themselves need a GPU: tests/training/test_gpu.py."""

import subprocess
import sys

import pytest
from cases import METHODS, RECIPES, case, start_of
from run_endings import ends_alike
from toy_run import ToyRuns

from pipeline.training import network, run
from pipeline.training.network import TrainingNetwork


@pytest.mark.parametrize("name", [*METHODS, *RECIPES])
def test_a_graph_gets_batches_of_one_size_and_at_most_one_before_an_update(tmp_path, name, monkeypatch):
    method, augmentation, recipe = case(name)
    toy = ToyRuns(tmp_path, **augmentation)
    start = start_of(method, toy)
    eager = toy.run(METHODS[method], start, **recipe).train()
    counts = dict.fromkeys(("training", "forward", "pixels"), 0)
    awaiting = set()

    def stand_in(kind):
        def capture(net, x, precision):
            size, replayed = len(x), iter(range(10**6))

            def replay(x):
                assert len(x) == size and net not in awaiting
                if kind == "training":
                    awaiting.add(net)
                counts[kind] += next(replayed) >= 0
                return net(x)

            return replay

        return capture

    update = TrainingNetwork.step
    monkeypatch.setattr(run, "can_be_captured", lambda *arguments, **named: True)
    monkeypatch.setattr(network, "capture_training", stand_in("training"))
    monkeypatch.setattr(network, "CapturedForward", stand_in("forward"))
    monkeypatch.setattr(network, "capture_pixels", stand_in("pixels"))
    monkeypatch.setattr(
        TrainingNetwork, "step", lambda net, factor: awaiting.discard(net.module) or update(net, factor)
    )
    ends_alike(toy.run(METHODS[method], start, **recipe).train(), eager)
    assert counts["training"] and bool(counts["pixels"]) == method.startswith("cooperative")


def test_a_training_session_does_not_import_timm():
    code = "import sys, pipeline.training.session; print(sorted({'timm', 'torchvision'} & sys.modules.keys()))"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"
