"""If one method is a special case of another, their students are bitwise equal."""

from dataclasses import replace

import pytest
from cases import AVERAGE, COOPERATIVE, DGKD_, DML_, KD_, ORC_, SCRATCH, SDGKD, TAKD_, members
from toy_run import same

from pipeline.core.interface import Network


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


@pytest.mark.parametrize("weights", ["average", "entropy", "confidence"])
def test_multiteacher_with_one_teacher_is_kd(toy, weights):
    teacher = {"teacher": toy.start["teacher"]}
    assert same(student(toy, replace(AVERAGE, weights=weights), teacher), student(toy, KD_, teacher))


def test_rules_of_multiteacher_differ_if_there_are_several_teachers(toy):
    rules = ("average", "entropy", "confidence", "filter")
    trained = [student(toy, replace(AVERAGE, weights=weights), toy.start) for weights in rules]
    assert not any(same(one, other) for k, one in enumerate(trained) for other in trained[:k])


def test_cooperative_without_a_qualified_teacher_retrains_to_its_base(toy):
    labels = toy.train.labels.numpy()
    group = {name: Network("tiny_plain2_12", sees=(labels != k).nonzero()[0]) for k, name in enumerate(("a", "b"))}
    base = toy.run(SCRATCH, networks=group).train().networks
    nobody = replace(COOPERATIVE, pool="none")
    retrained = toy.run(nobody, networks=nobody.networks("unused", with_weights(toy, group, base))).train()
    for name in group:
        assert same(retrained.networks[name].last, base[name].last)


def with_weights(toy, group, trained):
    """The group as frozen networks that start from their trained weights."""
    from safetensors.torch import save_file

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
