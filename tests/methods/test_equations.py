"""The losses of each method equal the paper's equations, computed here from the networks' logits."""

import math
from copy import deepcopy
from dataclasses import replace

import pytest
import torch
from cases import DGKD_
from torch.nn.functional import cross_entropy, kl_div, log_softmax

from pipeline.core.interface import Leg
from pipeline.methods.dml import DML
from pipeline.methods.kd import KD
from pipeline.methods.orc import ORC, draw_in_proportion
from pipeline.methods.scratch import Scratch
from pipeline.methods.takd import TAKD

TAU = 4.0


def ce(z, y):
    """Mean cross-entropy, as a float."""
    return float(cross_entropy(z, y))


def kd(z_s, z_t, tau=TAU, standardise=False):
    """tau^2 KL(teacher || student), averaged over the batch, as a float."""
    if standardise:
        z_s, z_t = ((z - z.mean(1, keepdim=True)) / (z.std(1, keepdim=True) + 1e-7) for z in (z_s, z_t))
    term = kl_div(log_softmax(z_s / tau, 1), log_softmax(z_t / tau, 1), log_target=True, reduction="sum")
    return float(tau**2 * term / len(z_s))


def train_mode(net, x):
    """Logits in training mode, without changing the running statistics."""
    state = {k: v.clone() for k, v in net.module.state_dict().items()}
    z = net(x).detach()
    net.module.load_state_dict(state)
    return z


def as_teacher(net, x, mode):
    """Logits of a learner that teaches in this mode; in training mode those of a copy, so that nothing changes."""
    return deepcopy(net.module).train()(x).detach() if mode == "train" else net.teach(x)


def orc(**changed):
    """ORC with every teaching on, except for the given parameters."""
    teachings = {"intensive": True, "private": True, "group": True} | changed.pop("teachings", {})
    fields = {
        "beta": 0.6,
        "temperature": TAU,
        "standardise": False,
        "normalise": "sum",
        "mixup_alpha": 1.0,
        "feedback_only": False,
        "pivot_lr_scale": 0.01,
        "pivot_statistics": "mixtures",
        "promoted": 1,
        "elect": "batch",
        "elect_momentum": 0.9,
        "feedback": "loss",
        "guidance": "individual",
        "teaching_mode": "train",
        "init": "scratch",
        "group": None,
    }
    return ORC(teachings=teachings, **(fields | changed))


@pytest.mark.parametrize("weight", [1.0, 2.5])
def test_scratch_weights_cross_entropy(toy_step, weight):
    s = toy_step(["student"])
    z = train_mode(s.nets["student"], s.batch.x)
    (update,) = s.run(Scratch(ce_weight=weight, label_smoothing=0.0), Leg(("student",)))
    assert update == {"student": {"ce": pytest.approx(weight * ce(z, s.batch.y))}}


@pytest.mark.parametrize("standardise", [False, True])
def test_kd_weights_cross_entropy_and_the_teacher(toy_step, standardise):
    s = toy_step(["student"], ["teacher"])
    x, y = s.batch.x, s.batch.y
    z, z_t = train_mode(s.nets["student"], x), s.nets["teacher"].teach(x)
    (update,) = s.run(
        KD(temperature=TAU, standardise=standardise, ce_weight=0.6, kd_weight=1.4, label_smoothing=0.0),
        Leg(("student",), ("teacher",)),
    )
    assert update["student"]["ce"] == pytest.approx(0.6 * ce(z, y))
    assert update["student"]["kd/teacher"] == pytest.approx(1.4 * kd(z, z_t, standardise=standardise))


@pytest.mark.parametrize("standardise", [False, True])
def test_takd_learns_only_from_its_predecessor(toy_step, standardise):
    s = toy_step(["student"], ["ta2"])
    x, y = s.batch.x, s.batch.y
    z, z_t = train_mode(s.nets["student"], x), s.nets["ta2"].teach(x)
    (update,) = s.run(TAKD(temperature=TAU, standardise=standardise, lam=0.7), Leg(("student",), ("ta2",)))
    assert update["student"] == {
        "ce": pytest.approx(0.3 * ce(z, y)),
        "kd/ta2": pytest.approx(0.7 * kd(z, z_t, standardise=standardise)),
    }


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("normalise", ["sum", "mean"])
@pytest.mark.parametrize("lam", [0.7, {"teacher": 0.7, "ta1": 0.2, "ta2": 0.5}])
def test_dgkd_sums_one_kd_loss_per_guide(toy_step, normalise, lam, standardise):
    guides = ("teacher", "ta1", "ta2")
    s = toy_step(["student"], guides)
    x, y = s.batch.x, s.batch.y
    z, z_g = train_mode(s.nets["student"], x), {g: s.nets[g].teach(x) for g in guides}
    method = replace(DGKD_, temperature=TAU, standardise=standardise, lam=lam, normalise=normalise)
    (update,) = s.run(method, Leg(("student",), guides))
    weight = lam if isinstance(lam, dict) else dict.fromkeys(guides, lam)
    factor = 1 if normalise == "sum" else 1 / 3
    expected = {"ce": factor * sum(1 - w for w in weight.values()) * ce(z, y)}
    expected |= {f"kd/{g}": factor * weight[g] * kd(z, z_g[g], standardise=standardise) for g in guides}
    assert update["student"] == pytest.approx(expected)


def test_one_lam_gives_the_weight_of_cross_entropy_in_the_paper(toy_step):
    s = toy_step(["student"], ["teacher", "ta1", "ta2"])
    z = train_mode(s.nets["student"], s.batch.x)
    method = replace(DGKD_, temperature=TAU, lam=0.75)
    (update,) = s.run(method, Leg(("student",), ("teacher", "ta1", "ta2")))
    n = 2
    assert update["student"]["ce"] == pytest.approx((n + 1) * (1 - 0.75) * ce(z, s.batch.y))


@pytest.mark.parametrize("drop_teacher", [False, True])
def test_a_dropped_guide_is_not_run_and_the_teacher_is_kept(toy_step, drop_teacher):
    guides = ("teacher", "ta1", "ta2")
    method = replace(DGKD_, temperature=TAU, lam=0.7, survival=0.0, drop_teacher=drop_teacher)
    s = toy_step(["student"], guides)
    ran = []
    for g in guides:
        s.nets[g].eval_module.register_forward_hook(lambda *_, g=g: ran.append(g))
    (update,) = s.run(method, Leg(("student",), guides))
    assert ran == ([] if drop_teacher else ["teacher"])
    assert [term for term in update["student"] if term != "ce"] == [f"kd/{g}" for g in ran]


def test_guides_survive_with_the_given_probability(toy_step):
    s = toy_step(["student"], ["teacher", "ta1", "ta2"])
    method = replace(DGKD_, temperature=TAU, lam=0.7, survival=0.75)
    kept = [method.surviving(("teacher", "ta1", "ta2"), s.batch) for _ in range(4000)]
    assert all("teacher" in k for k in kept)
    for ta in ("ta1", "ta2"):
        assert sum(ta in k for k in kept) / 4000 == pytest.approx(0.75, abs=4 * (0.75 * 0.25 / 4000) ** 0.5)


@pytest.mark.parametrize("lam", [0.7, 1.0, {"teacher": 0.7, "ta1": 0.2, "ta2": 0.5}])
def test_released_dgkd_is_the_loss_of_the_published_code(toy_step, lam):
    guides = ("teacher", "ta1", "ta2")
    s = toy_step(["student"], guides)
    x, y = s.batch.x, s.batch.y
    z, z_g = train_mode(s.nets["student"], x), {g: s.nets[g].teach(x) for g in guides}
    method = replace(DGKD_, temperature=TAU, lam=lam, normalise="released", drop_teacher=True)
    (update,) = s.run(method, Leg(("student",), guides))
    weight = lam if isinstance(lam, dict) else dict.fromkeys(guides, lam)
    expected = {"ce": (1 - sum(weight.values()) / 3) * ce(z, y)}
    for g in guides:  # the reduction "mean" of KLDivLoss, in a loop
        log_p, log_q = log_softmax(z / TAU, 1), log_softmax(z_g[g] / TAU, 1)
        terms = [float(q.exp() * (q - p)) for b_p, b_q in zip(log_p, log_q) for p, q in zip(b_p, b_q)]
        expected[f"kd/{g}"] = weight[g] * TAU**2 * sum(terms) / len(terms)
    assert update["student"] == pytest.approx(expected)


@pytest.mark.parametrize("drop_teacher", [False, True])
def test_dropping_one_drops_each_guide_equally_often(toy_step, drop_teacher):
    guides = ("teacher", "ta1", "ta2")
    s = toy_step(["student"], guides)
    method = replace(DGKD_, temperature=TAU, lam=0.7, drop="one", drop_teacher=drop_teacher)
    kept = [method.surviving(guides, s.batch) for _ in range(4000)]
    assert all(len(k) == 2 for k in kept)
    droppable = guides if drop_teacher else guides[1:]
    for g in guides:
        share = 1 / len(droppable) if g in droppable else 0.0
        dropped = sum(g not in k for k in kept) / 4000
        assert dropped == pytest.approx(share, abs=4 * (share * (1 - share) / 4000) ** 0.5)


@pytest.mark.parametrize("drop_teacher", [False, True])
def test_dropping_one_keeps_the_only_guide(toy_step, drop_teacher):
    s = toy_step(["student"], ["teacher"])
    method = replace(DGKD_, temperature=TAU, lam=0.7, drop="one", survival=0.0, drop_teacher=drop_teacher)
    assert all(method.surviving(("teacher",), s.batch) == ["teacher"] for _ in range(20))


@pytest.mark.parametrize("mode", ["train", "eval"])
@pytest.mark.parametrize("standardise", [False, True])
def test_dml_peers_learn_in_turn_from_the_current_predictions_of_the_others(toy_step, standardise, mode):
    peers = ("student", "ta1", "ta2")
    s = toy_step(peers)
    x, y = s.batch.x, s.batch.y
    checked = []
    method = DML(temperature=1.0, standardise=standardise, weight=0.5, teaching_mode=mode, peers=None)
    generator = method.step(s.nets, Leg(peers), s.batch)
    for peer in peers:
        expected = {"ce": ce(train_mode(s.nets[peer], x), y)}
        z = train_mode(s.nets[peer], x)
        for other in peers:
            if other != peer:
                expected[f"kl/{other}"] = 0.5 / 2 * kd(z, as_teacher(s.nets[other], x, mode), 1.0, standardise)
        losses = next(generator)
        assert {t: float(v) for t, v in losses[peer].items()} == pytest.approx(expected)
        s.nets[peer].zero_grad()
        sum(losses[peer].values()).backward()
        s.nets[peer].step(1.0)
        checked.append(peer)
    assert checked == list(peers)


def first_step_of_orc(s, method, leg):
    """Run one step of ORC and record the logits that its losses depend on.

    Returns before: each student's logits in training mode before the step; seen: all networks' logits as teachers just
    before each update, the pivot's in evaluation mode; updates: the yielded losses as numbers.
    """
    x = s.batch.x
    students = [n for n in leg.learners if n != "pivot"]
    before = {n: train_mode(s.nets[n], x) for n in students}
    seen, updates = [], []
    for losses in method.step(s.nets, leg, s.batch):
        seen.append({n: as_teacher(s.nets[n], x, "eval" if n == "pivot" else method.teaching_mode) for n in s.nets})
        updates.append({n: {t: float(v) for t, v in terms.items()} for n, terms in losses.items()})
        for n in losses:
            s.nets[n].zero_grad()
        sum(v for terms in losses.values() for v in terms.values()).backward()
        for n in losses:
            s.nets[n].step(1.0)
    return before, seen, updates


@pytest.mark.parametrize("standardise", [False, True])
@pytest.mark.parametrize("guidance", ["individual", "ensemble"])
@pytest.mark.parametrize("promoted", [1, 2])
@pytest.mark.parametrize("normalise", ["sum", "mean"])
@pytest.mark.parametrize("mode", ["train", "eval"])
def test_orc_teaches_in_the_order_of_the_paper(toy_step, guidance, promoted, standardise, normalise, mode):
    students = ("student", "ta1", "ta2")
    s = toy_step((*students, "pivot"))
    y, beta = s.batch.y, 0.6
    method = orc(guidance=guidance, promoted=promoted, standardise=standardise, normalise=normalise, teaching_mode=mode)
    n_terms = 1 if guidance == "ensemble" else promoted + 1
    weight = beta / n_terms if normalise == "mean" else beta
    before, seen, updates = first_step_of_orc(s, method, Leg((*students, "pivot")))
    ranked = sorted(students, key=lambda n: ce(before[n], y))
    temporary, others = ranked[:promoted], ranked[promoted:]

    intensive, private, group = updates
    assert list(intensive) == ["pivot"]
    assert set(private) == set(temporary)
    pivot = seen[1]["pivot"]  # after the pivot's own update
    for t in temporary:
        expected = {
            "ce": (1 - beta) * ce(before[t], y),
            "private": beta * kd(before[t], pivot, standardise=standardise),
        }
        assert private[t] == pytest.approx(expected)
    assert set(group) == set(others)
    taught = [seen[2][t] for t in temporary]  # after the temporary teachers' own update
    for n in others:
        expected = {"ce": (1 - beta) * ce(before[n], y)}
        if guidance == "individual":
            expected["group/temporary"] = weight * sum(kd(before[n], z, standardise=standardise) for z in taught)
            expected["group/pivot"] = weight * kd(before[n], pivot, standardise=standardise)
        else:
            expected["group/ensemble"] = weight * kd(
                before[n], torch.stack([*taught, pivot]).mean(0), standardise=standardise
            )
        assert group[n] == pytest.approx(expected)


def test_orc_intensive_teaching_is_mixup_with_feedback(toy_step):
    s = toy_step(("student", "pivot"))
    method = orc(group={})
    x, y = s.batch.x, s.batch.y
    z = train_mode(s.nets["student"], x)
    loss = cross_entropy(z, y, reduction="none")
    replay = torch.Generator().manual_seed(7)
    mu = method.mixing(s.batch._replace(draw=replay))
    f = draw_in_proportion(loss, replay)
    z_mix = train_mode(s.nets["pivot"], mu * x + (1 - mu) * x[f])
    updates = s.run(method, Leg(("student", "pivot")))
    assert updates[0]["pivot"]["intensive"] == pytest.approx(mu * ce(z_mix, y) + (1 - mu) * ce(z_mix, y[f]))
    assert s.notes["pivot", "feedback"].sum() == len(y)


def test_orc_with_feedback_only_teaches_the_pivot_the_feedback_alone(toy_step):
    s = toy_step(("student", "pivot"))
    method = orc(group={}, feedback_only=True)
    x, y = s.batch.x, s.batch.y
    loss = cross_entropy(train_mode(s.nets["student"], x), y, reduction="none")
    replay = torch.Generator().manual_seed(7)
    orc(group={}).mixing(s.batch._replace(draw=replay))
    f = draw_in_proportion(loss, replay)
    z_f = train_mode(s.nets["pivot"], x[f])
    updates = s.run(method, Leg(("student", "pivot")))
    assert updates[0]["pivot"]["intensive"] == pytest.approx(ce(z_f, y[f]))


@pytest.mark.parametrize("feedback", ["loss", "errors", "softmax"])
def test_feedback_is_drawn_from_its_distribution_over_the_batch(toy_step, feedback):
    students = ("student", "ta1", "ta2")
    s = toy_step((*students, "pivot"), size=8)
    y, rows = s.batch.y.tolist(), range(8)
    z = {n: train_mode(s.nets[n], s.batch.x) for n in students}
    loss = {n: cross_entropy(z[n], s.batch.y, reduction="none") for n in students}
    mean = [sum(float(loss[n][b]) for n in students) / 3 for b in rows]
    errors = [sum(float(z[n][b].argmax() != y[b]) for n in students) for b in rows]
    weight = {"loss": mean, "errors": errors, "softmax": [math.exp(m) for m in mean]}[feedback]

    u = torch.rand(8, generator=torch.Generator().manual_seed(7), dtype=torch.float64).tolist()
    drawn = []
    for number in u:  # the first image at which the cumulative distribution exceeds the number
        cumulative = [sum(weight[: b + 1]) / sum(weight) for b in rows]
        drawn.append(next(b for b in rows if cumulative[b] > number))
    x_f, y_f = orc(feedback=feedback).draw_feedback(z, loss, s.batch)
    assert torch.equal(x_f, s.batch.x[drawn]) and y_f.tolist() == [y[b] for b in drawn]


def test_students_are_promoted_by_the_moving_average_of_their_losses(toy_step):
    students = ("student", "ta1", "ta2")
    s = toy_step(students)
    method = orc(elect="ema", elect_momentum=0.7)
    draw = torch.Generator().manual_seed(3)
    average, differs = None, 0
    for _ in range(200):
        loss = {n: torch.rand(6, generator=draw, dtype=torch.float64) for n in students}
        means = [float(loss[n].sum()) / 6 for n in students]
        average = means if average is None else [0.7 * a + (1 - 0.7) * m for a, m in zip(average, means)]
        temporary, others = method.promote(loss, s.batch)
        assert [*temporary, *others] == [n for _, n in sorted(zip(average, students))]
        differs += temporary != orc().promote(loss, s.batch)[0]
    assert s.batch.memory["loss"].tolist() == pytest.approx(average)
    assert differs > 20


def test_promotion_by_batch_leaves_no_memory(toy_step):
    s = toy_step(("student", "ta1", "ta2", "pivot"))
    s.run(orc(), Leg(("student", "ta1", "ta2", "pivot")))
    assert s.batch.memory == {}


@pytest.mark.parametrize("off", ["intensive", "private", "group"])
def test_without_a_teaching_students_learn_by_cross_entropy_or_the_pivot_is_frozen(toy_step, off):
    students = ("student", "ta1", "ta2")
    learners, guides = ((*students, "pivot"), ()) if off != "intensive" else (students, ("pivot",))
    s = toy_step(learners, guides)
    _, _, updates = first_step_of_orc(s, orc(teachings={off: False}), Leg(learners, guides))
    terms = {term for yielded in updates for losses in yielded.values() for term in losses}
    assert not any(term.startswith(off) for term in terms)
    on = {"intensive", "private", "group"} - {off}
    assert all(any(term.startswith(name) for term in terms) for name in on)
    if off == "private":
        assert all(list(losses) == ["ce"] for losses in updates[1].values())
    if off == "group":
        assert all(list(losses) == ["ce"] for losses in updates[2].values())


def test_feedback_is_drawn_in_proportion_to_the_loss():
    weight = torch.tensor([1.0, 0.0, 3.0, 4.0] * 50)
    g = torch.Generator().manual_seed(0)
    counts = torch.zeros(200)
    for _ in range(500):
        counts += torch.bincount(draw_in_proportion(weight, g), minlength=200)
    share = counts.reshape(50, 4).sum(0) / counts.sum()
    torch.testing.assert_close(share, torch.tensor([1.0, 0.0, 3.0, 4.0]) / 8, atol=0.01, rtol=0)


def test_feedback_of_a_batch_without_errors_is_uniform():
    g = torch.Generator().manual_seed(0)
    drawn = torch.cat([draw_in_proportion(torch.zeros(4), g) for _ in range(2000)])
    torch.testing.assert_close(torch.bincount(drawn) / 8000, torch.full((4,), 0.25), atol=0.02, rtol=0)
