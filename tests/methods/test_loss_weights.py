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
CLASSES = 3  # of the networks of `toy_step`
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
        ("dgkd", replace(DGKD_, lam=LAM, normalise="released"), GUIDES),
    ],
)
def test_they_are_the_weights_of_a_step(toy_step, kind, method, guides):
    measured = student_weights(toy_step(["student"], guides), method, guides)
    assert loss_weights(kind, section(method), guides, CLASSES) == pytest.approx(measured)


@pytest.mark.parametrize(
    "changed",
    [
        {},
        {"normalise": "mean"},
        {"guidance": "ensemble"},
        {"promoted": 2},
        {"promoted": 2, "normalise": "mean"},
        {"promoted": 2, "guidance": "ensemble"},
        {"promoted": 3},
        {"promoted": 3, "teachings": {"intensive": True, "private": False, "group": True}},
        {"teachings": {"intensive": True, "private": True, "group": False}},
    ],
)
@pytest.mark.parametrize("students", [("student", "ta1", "ta2"), ("student",)])
def test_they_are_those_of_a_student_of_orc_that_is_not_promoted_if_not_all_are(toy_step, changed, students):
    class KDOfOne(ORC):
        """ORC whose KD terms are one, so that a loss is its weight."""

        def kd(self, z_s, z_t):
            return 0 * z_s.sum() + 1

    method = KDOfOne(**vars(replace(ORC_, beta=0.6, **changed)))
    s = toy_step([*students, "pivot"])
    ce = {}
    for name in students:
        state = {k: v.clone() for k, v in s.nets[name].module.state_dict().items()}
        ce[name] = float(cross_entropy(s.nets[name](s.batch.x).detach(), s.batch.y))
        s.nets[name].module.load_state_dict(state)
    updates = s.run(method, Leg((*students, "pivot")))
    name, terms = next(iter(updates[-1].items()))  # of those that are not promoted, if any
    measured = terms.pop("ce") / ce[name], sum(terms.values())
    found = loss_weights("orc", section(replace(ORC_, beta=0.6, **changed)), s.nets.keys() - {"student"}, CLASSES)
    assert found == pytest.approx(measured)


def test_dgkd_that_drops_guides_has_the_mean_weights(toy_step):
    method = replace(DGKD_, lam=LAM, survival=0.3)
    batch, n = toy_step(["student"], GUIDES).batch, 4000
    kept = [method.surviving(GUIDES, batch) for _ in range(n)]
    kd = sum(LAM[guide] for guides in kept for guide in guides) / n
    assert loss_weights("dgkd", section(method), GUIDES, CLASSES)[1] == pytest.approx(kd, abs=0.03)


def test_kd_with_matching_weights_needs_no_other():
    wanted = matching("kd", "orc", section(replace(ORC_, beta=0.7)), ("ta1", "pivot"), 10)
    assert wanted == {"ce_weight": 0.3, "kd_weight": 1.4}
    own = section(replace(KD_, ce_weight=0.2999, kd_weight=1.4))
    assert differing(own, wanted) == {} and differing(own | {"kd_weight": 1.42}, wanted) == {"kd_weight": 1.4}


def test_a_control_of_the_same_kind_has_the_weights_themselves():
    orc = section(replace(ORC_, beta=0.7, normalise="mean"))
    assert matching("orc", "orc", orc, ("ta1", "pivot"), 10) == {"beta": 0.7, "normalise": "mean"}
    assert matching("dgkd", "dgkd", section(DGKD_), GUIDES, 10) == {"lam": DGKD_.lam, "normalise": "sum"}


def test_no_kd_has_the_weights_of_a_filter_that_differ_from_image_to_image():
    assert matching("kd", "multiteacher", section(replace(AVERAGE, weights="filter")), GUIDES, 10) == {}


def test_weights_for_each_guide_are_compared_one_by_one():
    assert differing({"lam": LAM}, {"lam": {guide: weight * 1.0001 for guide, weight in LAM.items()}}) == {}
    assert differing({"lam": LAM}, {"lam": LAM | {"ta1": 0.3}}) == {"lam": LAM | {"ta1": 0.3}}
