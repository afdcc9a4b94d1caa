"""The learning rate factor of every step, compared with values computed by hand."""

from types import SimpleNamespace

import pytest

from pipeline.training.schedule import lr_factor

LEG = SimpleNamespace(epochs=4, n_steps=2)  # eight steps


def factors(**changed) -> list[float]:
    recipe = SimpleNamespace(
        **{"schedule": "constant", "milestones": [0.5, 0.75], "gamma": 0.1, "warmup_epochs": 0} | changed
    )
    return [lr_factor(recipe, LEG, epoch, step) for epoch in range(1, 5) for step in range(2)]


def test_cosine_falls_from_one_and_is_one_half_in_the_middle():
    # (1 + cos(pi k / 8)) / 2 for k = 0..7
    expected = [1.0, 0.9619397662556434, 0.8535533905932737, 0.6913417161825449]
    expected += [0.5, 0.3086582838174551, 0.14644660940672627, 0.03806023374435663]
    assert factors(schedule="cosine") == pytest.approx(expected, abs=1e-15)


def test_step_schedule_multiplies_by_gamma_at_every_milestone():
    assert factors(schedule="step") == pytest.approx([1, 1, 1, 1, 0.1, 0.1, 0.01, 0.01], abs=1e-15)


def test_constant_schedule_is_one():
    assert factors() == [1.0] * 8


def test_warmup_rises_linearly_to_one_and_multiplies_the_schedule():
    assert factors(warmup_epochs=2) == [0.25, 0.5, 0.75, 1.0, 1.0, 1.0, 1.0, 1.0]
    plain, warm = factors(schedule="cosine"), factors(schedule="cosine", warmup_epochs=1)
    assert warm == pytest.approx([0.5 * plain[0], *plain[1:]], abs=1e-15)


def test_schedule_spans_the_leg_for_any_number_of_steps():
    recipe = SimpleNamespace(schedule="cosine", milestones=[], gamma=0.1, warmup_epochs=0)
    halves = [
        lr_factor(recipe, SimpleNamespace(epochs=epochs, n_steps=steps), epochs // 2 + 1, 0)
        for epochs, steps in ((2, 5), (4, 1), (40, 12))
    ]
    assert halves == pytest.approx([0.5, 0.5, 0.5], abs=1e-15)
