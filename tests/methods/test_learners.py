"""Forests, kernels and networks are members of one group: the laws of Cooperative hold for all of them."""

from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import COOPERATIVE, FOREST, SCRATCH, learners
from toy_run import same

from pipeline.core.interface import Network
from pipeline.errors import UserError
from pipeline.estimators.module import NO_PROBABILITY
from pipeline.storage.checkpoints import Checkpoint

METHOD = replace(COOPERATIVE, steps=5)


@pytest.fixture
def start(toy):
    return learners(toy)


def test_a_class_that_an_estimator_lacks_has_probability_zero(toy, start):
    run = toy.run(METHOD, start)
    x = run.train_set.images(torch.arange(20))
    for name, lacked in (("forest", 0), ("svm", 1)):
        p = run.nets[f"base/{name}"].teach(x).softmax(1)
        assert bool((p[:, lacked] == 0).all())
        torch.testing.assert_close(p.sum(1), torch.ones(20))
        z = run.nets[f"base/{name}"].teach(x)
        assert bool(z.isfinite().all()) and float(z.min()) == NO_PROBABILITY


def test_an_estimator_answers_with_its_own_probabilities_on_the_images_that_networks_see(toy):
    run = toy.run(SCRATCH, networks={"forest": FOREST})
    run.train()
    x = run.train_set.images(torch.arange(20))
    net = run.nets["forest"]
    expected = torch.from_numpy(net.module.estimator.predict_proba(x.flatten(1).numpy())).float()
    torch.testing.assert_close(net.teach(x).softmax(1), expected, atol=1e-6, rtol=0)


def test_repeats_are_bit_identical_and_another_seed_is_not(toy, start):
    first, again = (toy.run(METHOD, start).train() for _ in range(2))
    assert first.history == again.history
    for name in ("net", "forest", "svm"):
        assert same(first.networks[name].last, again.networks[name].last)
    other = toy.run(METHOD, start, seed=1).train()
    assert not same(first.networks["forest"].last, other.networks["forest"].last)


def test_an_estimator_is_fitted_to_the_rows_that_it_sees_and_to_its_lessons_alone(toy, start, monkeypatch):
    from pipeline.training import estimator

    fitted = {}
    fit = estimator.fit
    monkeypatch.setattr(
        estimator, "fit", lambda e, x, y, name: (fitted.__setitem__(name, (x, y)), fit(e, x, y, name))[1]
    )
    run = toy.run(METHOD, start)
    run.train()
    pools = run.train_set.once("pools", dict)
    for name in ("forest", "svm"):
        rows = torch.as_tensor(start[name].sees)
        x, y = fitted[name]
        own = run.train_set.images(rows).flatten(1).numpy()
        assert np.array_equal(x[: len(rows)], own) and np.array_equal(y[: len(rows)], run.train_set.labels[rows])
        assert np.array_equal(y[len(rows) :], pools[name].y.numpy())


def test_members_do_not_change_each_other_or_their_bases(toy, start):
    before = {name: network.weights.read_bytes() for name, network in start.items() if name != "net"}
    run = toy.run(METHOD, start)
    bases = {name: net.weights() for name, net in run.nets.items() if name.startswith("base/")}
    run.train()
    assert all(same(run.nets[name].weights(), weights) for name, weights in bases.items())
    assert {name: start[name].weights.read_bytes() for name in before} == before


def test_sets_of_a_mixed_group_equal_a_loop(toy, start):
    run = toy.run(METHOD, start)
    names = list(start)
    train = run.train_set
    p = {n: run.nets[f"base/{n}"].teach(train.images(torch.arange(len(train.labels)))).softmax(1) for n in names}
    run_lessons = METHOD.lessons(torch.stack([p[n] for n in names]), train, names)
    notes = {(network, term): value for network, term, value in train.take_notes()}
    for j in names:
        for i in set(names) - {j}:
            count = 0
            for row, label in enumerate(train.labels.tolist()):
                count += int(p[i][row].argmax() == label and p[j][row].argmax() != label)
            assert notes[j, f"qualified/{i}"] == count
        assert not any(p[j][row].argmax() == train.labels[row] for row in run_lessons[j].rows)


def test_auto_searches_by_gradient_for_networks_and_by_evolution_for_others(toy, start, monkeypatch):
    from pipeline.methods import cooperative

    used = []
    for search in ("descend", "evolve"):
        original = getattr(cooperative, search)
        monkeypatch.setattr(
            cooperative,
            search,
            lambda *a, search=search, original=original, **k: (used.append(search), original(*a, **k))[1],
        )
    run = toy.run(METHOD, start)
    for name, expected in (("net", "descend"), ("forest", "evolve"), ("svm", "evolve")):
        used.clear()
        METHOD.move(run.nets[f"base/{name}"], torch.arange(4), run.train_set)
        assert used == [expected]
    used.clear()
    replace(METHOD, search="evolution").move(run.nets["base/net"], torch.arange(4), run.train_set)
    assert used == ["evolve"]


def test_counterfactuals_of_a_forest_are_valid_images_that_come_closer_to_their_target(toy):
    run = toy.run(SCRATCH, networks={"forest": replace(FOREST, options={"n_estimators": 40})})
    run.train()
    moved = replace(METHOD, steps=40, step_size=0.05).move(run.nets["forest"], torch.arange(20), run.train_set)
    assert float(moved["x"].min()) >= 0 and float(moved["x"].max()) <= 255
    assert float((moved["p_y/after"] - moved["p_y/before"]).mean()) > 0.01
    assert float(moved["distance"].max()) > 0


def test_on_a_trained_network_both_searches_reach_the_same_objective(toy):
    """At most five times the objective of the other, for as many generations as steps of Adam."""
    run = toy.run(SCRATCH, {}, epochs=10)
    run.train()
    rows, net = torch.arange(20), run.nets["student"]
    x = run.train_set.images(rows)
    p = net.teach(x).softmax(1).detach()
    target = p + 0.5 * (torch.nn.functional.one_hot(run.train_set.labels[rows], 3) - p)
    reached = {}
    for search in ("gradient", "evolution"):
        method = replace(METHOD, search=search, steps=100, step_size=0.05)
        pixels = method.move(net, rows, run.train_set)["x"].permute(0, 3, 1, 2) / 255
        moved = (pixels - 0.3) / 0.2
        gap = (net.teach(moved).softmax(1) - target).square().sum(1).detach()
        reached[search] = float((gap + 1e-4 * (moved - x).abs().flatten(1).sum(1)).mean())
    assert reached["evolution"] < 5 * reached["gradient"] and reached["gradient"] < 5 * reached["evolution"]


def test_a_run_that_is_stopped_between_its_fits_resumes_with_the_same_bits(toy, start, tmp_path, monkeypatch):
    whole = toy.run(METHOD, start).train()
    checkpoint = Checkpoint(tmp_path / "store" / "key")
    run = toy.run(METHOD, start, checkpoint=checkpoint)
    fit = run.nets["svm"].fit
    monkeypatch.setattr(run.nets["svm"], "fit", lambda *a: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        run.train()
    resumed = toy.run(METHOD, start, checkpoint=checkpoint)
    monkeypatch.setattr(resumed.nets["forest"], "fit", fit)  # the forest must not be fitted again
    result = resumed.train()
    assert result.history == whole.history
    assert all(same(result.networks[name].last, whole.networks[name].last) for name in whole.networks)
    assert set(result.fit_seconds) == {"forest", "svm"}


def test_copies_are_the_views_that_networks_see_in_their_first_epochs(toy, monkeypatch):
    from pipeline.training import estimator

    fitted = {}
    fit = estimator.fit
    monkeypatch.setattr(
        estimator, "fit", lambda e, x, y, name: (fitted.__setitem__(name, (x, y)), fit(e, x, y, name))[1]
    )
    run = toy.run(SCRATCH, networks={"forest": replace(FOREST, copies=2)}, seed=4)
    run.train()
    x, y = fitted["forest"]
    n = len(toy.train)
    assert x.shape == (3 * n, 64) and np.array_equal(y, np.tile(toy.train.labels, 3))
    for epoch in (1, 2):
        views = toy.train(torch.arange(n), seed=4, epoch=epoch).flatten(1).numpy()
        assert np.array_equal(x[epoch * n : (epoch + 1) * n], views)


def test_an_estimator_that_cannot_be_fitted_is_one_line(toy):
    one_class = (toy.train.labels.cpu().numpy() == 1).nonzero()[0]
    run = toy.run(SCRATCH, networks={"svm": Network("sklearn/SVC", options={"probability": True}, sees=one_class)})
    with pytest.raises(UserError) as caught:
        run.train()
    assert str(caught.value).startswith("svm: SVC cannot be fitted to 15 images") and "\n" not in str(caught.value)
