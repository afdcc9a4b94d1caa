"""The loss weights that a control gets are those of the method's own step."""

from dataclasses import asdict, replace

import pytest
from cases import AVERAGE, DGKD_, KD_, ORC_, TAKD_
from torch.nn.functional import cross_entropy

from pipeline.core.interface import Leg
from pipeline.core.losses import distill
from pipeline.evaluation.loss_weights import differing, loss_weights, matching
from pipeline.methods.orc import ORC

GUIDES = ("teacher", "ta1", "ta2")
LAM = {"teacher": 0.7, "ta1": 0.2, "ta2": 0.5}


def section(method):
    """The parameters of a method as params.yaml has them."""
    return asdict(method)


def student_weights(s, method, guides):
    """The weight of cross-entropy and the total weight of KD in one step whose guides are all the same network."""
    for guide in guides:
        s.nets[guide] = s.nets[guides[0]]
    state = {k: v.clone() for k, v in s.nets["student"].module.state_dict().items()}
    z = s.nets["student"](s.batch.x).detach()
    s.nets["student"].module.load_state_dict(state)
    z_t = s.nets[guides[0]].teach(s.batch.x)
    (update,) = s.run(method, Leg(("student",), guides))
    ce, kd = (float(v) for v in (cross_entropy(z, s.batch.y), distill(z, z_t, method.temperature)))
    terms = update["student"]
    return terms["ce"] / ce, sum(v for name, v in terms.items() if name != "ce") / kd


@pytest.mark.parametrize(
    ("kind", "method", "guides"),
    [
        ("kd", replace(KD_, ce_weight=0.6, kd_weight=1.4), ("teacher",)),
        ("takd", replace(TAKD_, lam=0.7), ("ta2",)),
        ("multiteacher", replace(AVERAGE, ce_weight=0.6, kd_weight=1.4), GUIDES),
        ("dgkd", replace(DGKD_, lam=0.7), GUIDES),
        ("dgkd", replace(DGKD_, lam=0.7, normalise="mean"), GUIDES),
        ("dgkd", replace(DGKD_, lam=LAM), GUIDES),
        ("dgkd", replace(DGKD_, lam=LAM, normalise="mean"), GUIDES),
        ("dgkd", replace(DGKD_, lam=0.7, drop="one"), GUIDES),
        ("dgkd", replace(DGKD_, lam=0.7, drop="one", drop_teacher=True), GUIDES),
        ("dgkd", replace(DGKD_, lam=0.7, survival=0.0), GUIDES),
    ],
)
def test_they_are_the_weights_of_a_step(toy_step, kind, method, guides):
    measured = student_weights(toy_step(["student"], guides), method, guides)
    assert loss_weights(kind, section(method), guides) == pytest.approx(measured)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"normalise": "mean"},
        {"guidance": "ensemble"},
        {"promoted": 2},
        {"promoted": 2, "normalise": "mean"},
        {"teachings": {"intensive": True, "private": True, "group": False}},
    ],
)
def test_they_are_those_of_a_student_of_orc_that_is_not_promoted(toy_step, changed):
    class KDOfOne(ORC):
        """ORC whose KD terms are one, so that a loss is its weight."""

        def kd(self, z_s, z_t):
            return 0 * z_s.sum() + 1

    method = KDOfOne(**vars(replace(ORC_, beta=0.6, **changed)))
    students = ("student", "ta1", "ta2")
    s = toy_step([*students, "pivot"])
    ce = {}
    for name in students:
        state = {k: v.clone() for k, v in s.nets[name].module.state_dict().items()}
        ce[name] = float(cross_entropy(s.nets[name](s.batch.x).detach(), s.batch.y))
        s.nets[name].module.load_state_dict(state)
    updates = s.run(method, Leg((*students, "pivot")))
    name, terms = next((name, terms) for name, terms in updates[-1].items() if s.notes[name, "promoted"] == 0)
    measured = terms.pop("ce") / ce[name], sum(terms.values())
    assert loss_weights("orc", section(replace(ORC_, beta=0.6, **changed)), ()) == pytest.approx(measured)


def test_dgkd_that_drops_guides_has_the_mean_weights(toy_step):
    method = replace(DGKD_, lam=LAM, survival=0.3)
    batch, n = toy_step(["student"], GUIDES).batch, 4000
    kept = [method.surviving(GUIDES, batch) for _ in range(n)]
    kd = sum(LAM[guide] for guides in kept for guide in guides) / n
    assert loss_weights("dgkd", section(method), GUIDES)[1] == pytest.approx(kd, abs=0.03)


def test_kd_with_matching_weights_needs_no_other():
    wanted = matching("kd", "orc", section(replace(ORC_, beta=0.7)), ())
    assert wanted == {"ce_weight": 0.3, "kd_weight": 1.4}
    own = section(replace(KD_, ce_weight=0.2999, kd_weight=1.4))
    assert differing(own, wanted) == {} and differing(own | {"kd_weight": 1.42}, wanted) == {"kd_weight": 1.4}


def test_a_control_of_the_same_kind_has_the_weights_themselves():
    orc = section(replace(ORC_, beta=0.7, normalise="mean"))
    assert matching("orc", "orc", orc, ()) == {"beta": 0.7, "normalise": "mean"}
    assert matching("dgkd", "dgkd", section(DGKD_), GUIDES) == {"lam": DGKD_.lam, "normalise": "sum"}


def test_no_kd_has_the_weights_of_the_published_code_of_dgkd():
    assert matching("kd", "dgkd", section(replace(DGKD_, normalise="released")), GUIDES) == {}
