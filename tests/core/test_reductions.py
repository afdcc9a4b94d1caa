"""Where one method is a special case of another, their students are equal bit for bit."""

from dataclasses import replace

import numpy as np
from cases import COOPERATIVE, DGKD_, DML_, KD_, ORC_, SCRATCH, SDGKD, TAKD_, members
from workshop import same

from pipeline.core.vocabulary import Network
from pipeline.methods.average import Average


def student(workshop, method, start, **recipe):
    return workshop.run(method, start, **recipe).train().networks["student"].last


def test_takd_without_assistants_is_kd(workshop):
    teacher = {"teacher": workshop.start["teacher"]}
    assert same(student(workshop, TAKD_, teacher), student(workshop, KD_, teacher))


def test_dgkd_with_one_guide_is_kd(workshop):
    teacher = {"teacher": workshop.start["teacher"]}
    assert same(student(workshop, DGKD_, teacher), student(workshop, KD_, teacher))


def test_dgkd_normalised_with_one_guide_is_kd(workshop):
    teacher = {"teacher": workshop.start["teacher"]}
    mean = replace(DGKD_, normalise="mean")
    assert same(student(workshop, mean, teacher), student(workshop, KD_, teacher))


def test_certain_survival_is_dgkd(workshop):
    certain = replace(SDGKD, survival=1.0)
    assert same(student(workshop, certain, workshop.start), student(workshop, DGKD_, workshop.start))
    assert not same(student(workshop, SDGKD, workshop.start), student(workshop, DGKD_, workshop.start))


def test_one_lam_for_every_guide_is_that_lam(workshop):
    by_guide = replace(DGKD_, lam={"teacher": 0.9, "ta1": 0.9, "ta2": 0.9})
    assert same(student(workshop, by_guide, workshop.start), student(workshop, DGKD_, workshop.start))


def test_dml_with_one_peer_is_scratch(workshop):
    alone = replace(DML_, peers={})
    assert same(student(workshop, alone, {}), student(workshop, SCRATCH, {}))


def test_orc_with_every_teaching_off_is_scratch(workshop):
    off = replace(ORC_, teachings={"intensive": False, "private": False, "group": False})
    assert same(student(workshop, off, workshop.group), student(workshop, SCRATCH, {}))


def test_orc_with_one_student_and_a_frozen_pivot_is_kd(workshop):
    alone = replace(ORC_, group={}, teachings={"intensive": False, "private": True, "group": True})
    teacher = {"teacher": workshop.start["teacher"]}
    assert same(student(workshop, alone, teacher), student(workshop, KD_, teacher))


def test_average_of_one_guide_is_kd_up_to_rounding(workshop):
    teacher = {"teacher": workshop.start["teacher"]}
    one = Average(temperature=4.0, alpha=0.9, scale=1.0)
    a, b = student(workshop, one, teacher), student(workshop, KD_, teacher)
    assert all(np.allclose(a[k], b[k], atol=1e-4) for k in a)


def test_cooperative_without_a_qualified_teacher_is_its_base(workshop):
    labels = workshop.train.labels.numpy()
    group = {name: Network("tiny_plain2_12", sees=(labels != k).nonzero()[0]) for k, name in enumerate(("a", "b"))}
    base = workshop.run(SCRATCH, networks=group).train().networks
    nobody = replace(COOPERATIVE, pool="none")
    retrained = workshop.run(nobody, networks=nobody.networks("unused", with_weights(workshop, group, base))).train()
    for name in group:
        assert same(retrained.networks[name].last, base[name].last)


def with_weights(workshop, group, trained):
    from safetensors.torch import save_file

    start = {}
    for name, network in group.items():
        file = workshop.folder / f"base-{name}.safetensors"
        save_file(trained[name].last, file)
        start[name] = replace(network, weights=file, learns=False)
    return start


def test_every_pool_gives_a_member_as_many_images(workshop):
    sizes = {}
    for pool in ("counterfactual", "raw", "noise", "random"):
        method = replace(COOPERATIVE, pool=pool)
        run = workshop.run(method, members(workshop))
        pools = method.pools(run.nets, run.train_set, ["a", "b", "c"])
        sizes[pool] = [0 if p is None else len(p.y) for p in pools.values()]
    assert len(set(map(tuple, sizes.values()))) == 1 and sum(sizes["raw"]) > 0
