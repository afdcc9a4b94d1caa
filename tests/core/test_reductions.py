"""If one method is a special case of another, their students are bitwise equal."""

from dataclasses import replace

import pytest
import torch
from cases import (
    AVERAGE,
    COOPERATIVE,
    DGKD_,
    DIST_,
    DKD_,
    DML_,
    KD_,
    ORC_,
    SCRATCH,
    SDGKD,
    SWITOKD,
    TAKD_,
    WTTM_,
    members,
)
from safetensors.torch import load_file, save_file
from toy_run import same

from pipeline.core.interface import Leg, Network
from pipeline.core.losses import cross_entropy, distill
from pipeline.methods.orc import ORC

STATISTICS = ("running_mean", "running_var", "num_batches_tracked")


def student(toy, method, start, **recipe):
    """The last weights of the student that a run trains."""
    return toy.run(method, start, **recipe).train().networks["student"].last


def test_takd_without_assistants_is_kd(toy):
    teacher = {"teacher": toy.start["teacher"]}
    assert same(student(toy, TAKD_, teacher), student(toy, KD_, teacher))


def test_dgkd_with_one_guide_is_kd(toy):
    teacher = {"teacher": toy.start["teacher"]}
    assert same(student(toy, DGKD_, teacher), student(toy, KD_, teacher))


def test_normalised_dgkd_with_one_guide_is_kd(toy):
    teacher = {"teacher": toy.start["teacher"]}
    mean = replace(DGKD_, normalise="mean")
    assert same(student(toy, mean, teacher), student(toy, KD_, teacher))


def test_sdgkd_with_survival_1_is_dgkd(toy):
    certain = replace(SDGKD, survival=1.0)
    assert same(student(toy, certain, toy.start), student(toy, DGKD_, toy.start))
    assert not same(student(toy, SDGKD, toy.start), student(toy, DGKD_, toy.start))


def test_dgkd_that_drops_one_of_one_guide_is_kd(toy):
    teacher = {"teacher": toy.start["teacher"]}
    one = replace(DGKD_, drop="one", drop_teacher=True)
    assert same(student(toy, one, teacher), student(toy, KD_, teacher))


def test_dropping_one_of_one_droppable_guide_is_survival_0(toy):
    two = {name: toy.start[name] for name in ("teacher", "ta1")}
    one, never = replace(DGKD_, drop="one"), replace(DGKD_, survival=0.0)
    assert same(student(toy, one, two), student(toy, never, two))
    assert not same(student(toy, one, two), student(toy, DGKD_, two))


def test_released_dgkd_of_one_guide_without_its_kl_is_dgkd(toy):
    teacher = {"teacher": toy.start["teacher"]}
    ce_alone = replace(DGKD_, lam=0.0)
    assert same(student(toy, replace(ce_alone, normalise="released"), teacher), student(toy, ce_alone, teacher))


def test_dgkd_with_the_same_lam_for_every_guide_is_dgkd_with_one_lam(toy):
    by_guide = replace(DGKD_, lam={"teacher": 0.9, "ta1": 0.9, "ta2": 0.9})
    assert same(student(toy, by_guide, toy.start), student(toy, DGKD_, toy.start))


def test_dml_with_one_peer_is_scratch(toy):
    alone = replace(DML_, peers={})
    assert same(student(toy, alone, {}), student(toy, SCRATCH, {}))


def test_orc_with_every_teaching_off_is_scratch(toy):
    off = replace(ORC_, teachings={"intensive": False, "private": False, "group": False})
    assert same(student(toy, off, toy.group), student(toy, SCRATCH, {}))


def test_orc_with_one_student_and_a_frozen_pivot_is_kd(toy):
    alone = replace(ORC_, group={}, teachings={"intensive": False, "private": True, "group": True})
    teacher = {"teacher": toy.start["teacher"]}
    assert same(student(toy, alone, teacher), student(toy, KD_, teacher))


def test_orc_with_an_average_without_momentum_promotes_by_batch(toy):
    one, other = (replace(ORC_, elect="ema", elect_momentum=m) for m in (0.0, 0.95))
    assert same(student(toy, one, toy.group), student(toy, ORC_, toy.group))
    assert not same(student(toy, other, toy.group), student(toy, ORC_, toy.group))


def test_orc_with_the_mean_of_one_kd_term_is_the_sum(toy):
    ensemble = replace(ORC_, guidance="ensemble")
    mean = replace(ensemble, normalise="mean")
    assert same(student(toy, mean, toy.group), student(toy, ensemble, toy.group))
    individual = replace(ORC_, normalise="mean")
    assert not same(student(toy, individual, toy.group), student(toy, ORC_, toy.group))


def test_orc_with_feedback_only_is_intensive_teaching_with_mu_0(toy):
    class Unmixed(ORC):
        def mixing(self, batch):
            super().mixing(batch)
            return 0.0

    alone, unmixed = replace(ORC_, feedback_only=True), Unmixed(**vars(ORC_))
    a, b = (toy.run(method, toy.group).train().networks for method in (alone, unmixed))
    assert all(same(a[name].last, b[name].last) for name in a)
    assert not same(a["pivot"].last, toy.run(ORC_, toy.group).train().networks["pivot"].last)


def test_a_pivot_that_keeps_the_teachers_statistics_and_has_no_learning_rate_is_the_teacher(toy):
    still = replace(ORC_, pivot_lr_scale=0.0, pivot_statistics="teacher")
    teacher = load_file(toy.group["teacher"].weights)
    assert same(toy.run(still, toy.group).train().networks["pivot"].last, teacher)
    mixtures = toy.run(replace(still, pivot_statistics="mixtures"), toy.group).train().networks["pivot"].last
    assert changed(mixtures, teacher) == {k for k in teacher if k.endswith(STATISTICS)}


def test_a_pivot_that_learns_changes_its_weights_and_keeps_the_teachers_statistics(toy):
    teacher = load_file(toy.group["teacher"].weights)
    pivot = toy.run(replace(ORC_, pivot_statistics="teacher"), toy.group).train().networks["pivot"].last
    assert changed(pivot, teacher) == {k for k in teacher if not k.endswith(STATISTICS)}


def changed(a, b):
    """Names of the tensors that differ."""
    return {k for k in a if not torch.equal(a[k], b[k])}


def test_orc_whose_assistants_have_their_initial_weights_is_orc_from_scratch(toy):
    scratch = toy.run(ORC_, toy.start)
    start = {"teacher": toy.start["teacher"]}
    for name in ("ta1", "ta2"):
        file = toy.folder / f"initial-{name}.safetensors"
        save_file(scratch.nets[name].weights(), file)
        start[name] = replace(toy.start[name], weights=file)
    a, b = scratch.train().networks, toy.run(replace(ORC_, init="assistants"), start).train().networks
    assert a.keys() == b.keys() and all(same(a[name].last, b[name].last) for name in a)


def test_students_of_orc_begin_with_the_weights_of_the_trained_assistants(toy):
    run = toy.run(replace(ORC_, init="assistants"), toy.start)
    for name in ("ta1", "ta2"):
        assert same(run.nets[name].weights(), load_file(toy.start[name].weights))
    assert same(run.nets["student"].weights(), toy.run(SCRATCH, {}).nets["student"].weights())
    assert not same(run.train().networks["ta1"].last, load_file(toy.start["ta1"].weights))


@pytest.mark.parametrize("group", [None, {"ta1": "tiny_plain2_12"}, {"ta3": "tiny_plain2_16"}])
def test_orc_refuses_to_start_from_assistants_without_weights(toy, group):
    method = replace(ORC_, init="assistants", group=group)
    start = toy.group if group is None else toy.start
    with pytest.raises(ValueError, match=r"^init: assistants requires the weights of a trained tiny_plain2_1. named"):
        method.networks("tiny_plain2_12", start)


@pytest.mark.parametrize("weights", ["average", "entropy", "confidence"])
def test_multiteacher_with_one_teacher_is_kd(toy, weights):
    teacher = {"teacher": toy.start["teacher"]}
    assert same(student(toy, replace(AVERAGE, weights=weights), teacher), student(toy, KD_, teacher))


def test_rules_of_multiteacher_differ_if_there_are_several_teachers(toy):
    rules = ("average", "entropy", "confidence", "filter")
    trained = [student(toy, replace(AVERAGE, weights=weights), toy.start) for weights in rules]
    assert not any(same(one, other) for k, one in enumerate(trained) for other in trained[:k])


def test_kd_whose_kd_term_has_no_weight_is_scratch_with_its_weight_of_cross_entropy(toy):
    nothing = replace(KD_, ce_weight=2.5, kd_weight=0.0)
    assert same(student(toy, nothing, toy.start), student(toy, replace(SCRATCH, ce_weight=2.5), {}))


def test_dist_with_both_weights_zero_is_scratch(toy):
    nothing = replace(DIST_, beta=0.0, gamma=0.0)
    assert same(student(toy, nothing, toy.start), student(toy, SCRATCH, {}))


def test_dkd_with_both_weights_zero_is_scratch(toy):
    nothing = replace(DKD_, alpha=0.0, beta=0.0)
    assert same(student(toy, nothing, toy.start), student(toy, SCRATCH, {}))


def test_ttm_with_gamma_1_is_kd_at_temperature_1(toy):
    ttm = replace(WTTM_, gamma=1.0, beta=2.0, u=False)
    kd = replace(KD_, temperature=1.0, ce_weight=1.0, kd_weight=2.0)
    assert same(student(toy, ttm, toy.start), student(toy, kd, toy.start))


def test_switokd_whose_kl_has_no_weight_and_no_pause_trains_both_networks_as_scratch(toy):
    apart = toy.run(replace(SWITOKD, weight=0.0, pause=False), toy.start).train().networks
    assert same(apart["student"].last, student(toy, SCRATCH, {}))


class SimultaneousDML:
    """Mutual learning of a student and a teacher: each learns from the predictions before the update of both."""

    def networks(self, student, start):
        return {"student": Network(student), "teacher": Network(start["teacher"].arch)}

    def legs(self, nets, train):
        yield Leg(learners=("student", "teacher"))

    def step(self, nets, leg, batch):
        z = {name: nets[name](batch.x) for name in leg.learners}
        yield {
            name: {"ce": cross_entropy(z[name], batch.y), "kl": distill(z[name], z[other], 1.0)}
            for name, other in (("student", "teacher"), ("teacher", "student"))
        }


def test_switokd_without_pauses_is_simultaneous_mutual_learning(toy):
    one, other = (toy.run(m, toy.start).train() for m in (replace(SWITOKD, pause=False), SimultaneousDML()))
    assert all(same(one.networks[name].last, other.networks[name].last) for name in ("student", "teacher"))


def test_a_toy_run_of_switokd_pauses_the_teacher_in_some_batches_and_not_in_others(toy):
    def paused(method):
        return [row[4] for row in toy.run(method, toy.start, epochs=24).train().history if row[3] == "paused"]

    assert 0 < sum(paused(SWITOKD)) < len(paused(SWITOKD))
    assert sum(paused(replace(SWITOKD, pause=False))) == 0


def test_cooperative_without_a_qualified_teacher_retrains_to_its_base(toy):
    labels = toy.train.labels.numpy()
    group = {name: Network("tiny_plain2_12", sees=(labels != k).nonzero()[0]) for k, name in enumerate(("a", "b"))}
    base = toy.run(SCRATCH, networks=group).train().networks
    nobody = replace(COOPERATIVE, pool="none")
    retrained = toy.run(nobody, networks=nobody.networks("unused", with_weights(toy, group, base))).train()
    for name in group:
        assert same(retrained.networks[name].last, base[name].last)


def same_groups(toy, one, other, start) -> bool:
    """Whether two methods train bitwise equal members."""
    a, b = (toy.run(method, start).train().networks for method in (one, other))
    return a.keys() == b.keys() and all(same(a[name].last, b[name].last) for name in a)


@pytest.mark.parametrize("pool", ["counterfactual", "raw", "noise", "random"])
def test_with_two_members_all_teachers_are_the_most_certain_one(toy, pool):
    two = {name: network for name, network in members(toy).items() if name != "c"}
    certain = replace(COOPERATIVE, pool=pool)
    assert same_groups(toy, replace(certain, teachers="all"), certain, two)


@pytest.mark.parametrize("changed", [{"counterfactual_of": "student"}, {"pool": "raw"}, {"pool": "none"}])
def test_all_teachers_of_images_that_do_not_depend_on_the_teacher_are_the_most_certain_one(toy, changed):
    certain = replace(COOPERATIVE, **changed)
    assert same_groups(toy, replace(certain, teachers="all"), certain, members(toy))
    assert not same_groups(toy, replace(COOPERATIVE, teachers="all"), COOPERATIVE, members(toy))


def with_weights(toy, group, trained):
    """The group as frozen networks that start from their trained weights."""
    start = {}
    for name, network in group.items():
        file = toy.folder / f"base-{name}.safetensors"
        save_file(trained[name].last, file)
        start[name] = replace(network, weights=file, learns=False)
    return start


def test_every_pool_gives_a_member_the_same_number_of_images(toy):
    sizes = {}
    for pool in ("counterfactual", "raw", "noise", "random"):
        method = replace(COOPERATIVE, pool=pool)
        run = toy.run(method, members(toy))
        pools = method.pools(run.nets, run.train_set, ["a", "b", "c"])
        sizes[pool] = [0 if p is None else len(p.y) for p in pools.values()]
    assert len(set(map(tuple, sizes.values()))) == 1 and sum(sizes["raw"]) > 0
