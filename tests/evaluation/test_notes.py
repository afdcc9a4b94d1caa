"""The notes below the tables warn of what makes a comparison unfair or weak."""

import pytest

from pipeline.evaluation.notes import notes, split_warnings
from pipeline.evaluation.outcomes import outcomes
from pipeline.evaluation.records import read_cost
from pipeline.storage.documents import write_json
from results import LABELS, entries, write_results


@pytest.fixture
def compared(tmp_path):
    return outcomes(entries(write_results(tmp_path / "results", [0, 1])), [0, 1], tmp_path / "results")


def teacher_of(compared, name, nll, *seeds):
    """Give a method another teacher in some seeds."""
    method = next(o for o in compared if o.name == name)
    for seed in seeds:
        method.seeds[seed]["guides"]["teacher"]["last"]["nll"] = nll


def warned(compared, reference="kd"):
    return [note for note in notes(compared, reference, LABELS, True) if "another teacher" in note]


def test_a_warning_names_methods_whose_seed_has_another_teacher(compared):
    assert warned(compared) == []
    teacher_of(compared, "orc", 0.5, 0, 1)
    of_orc = (
        "warning: orc (seeds 0 and 1) has another teacher than kd, so that its differences contain those of teachers"
    )
    assert warned(compared) == [of_orc]
    teacher_of(compared, "sdgkd", 0.25, 1)
    both = "sdgkd (seed 1) and orc (seeds 0 and 1) have another teacher than kd, so that their differences contain"
    assert warned(compared) == [f"warning: {both} those of teachers"]
    teacher_of(compared, "kd", 0.5, 0, 1)
    teacher_of(compared, "sdgkd", 0.5, 0, 1)
    teacher_of(compared, "scratch", 0.5, 0, 1)
    assert warned(compared) == []


def test_methods_that_learn_from_no_teacher_are_not_warned_of(compared):
    teacher_of(compared, "orc", 0.5, 0)
    for o in compared:
        for result in o.seeds.values():
            if o.name == "scratch":
                result.pop("guides")
                result.pop("false_knowledge")
            if o.name == "orc":  # as DML, whose bundle holds a teacher that it does not use
                result["false_knowledge"] = None
    assert warned(compared) == []
    teacher_of(compared, "sdgkd", 0.5, 0)
    for reference in ("kd", "scratch"):  # a reference without a teacher: the first that has one
        assert len(warned(compared, reference)) == 1 and "sdgkd (seed 0) has" in warned(compared, reference)[0]


def test_the_same_teacher_on_another_processor_gives_no_warning(compared):
    for seed, result in next(o for o in compared if o.name == "orc").seeds.items():
        teacher_of(compared, "orc", result["guides"]["teacher"]["last"]["nll"] * (1 + 1e-5), seed)
    assert warned(compared) == []


def test_a_warning_says_which_loss_weights_a_control_lacks(tmp_path):
    named = entries(write_results(tmp_path / "results", [0, 1]), ("kd",))
    named["kd"] = named["kd"].model_copy(update={"weights_of": "orc"})
    guidance = {"normalise": "sum", "guidance": "individual", "promoted": 1, "teachings": {"group": True}}

    def said(**weights):
        for name, section in {"orc": {"beta": 0.7, **guidance}, "kd": weights}.items():
            file = tmp_path / f"results/cost/{name}.json"
            cost = {key: value for key, value in read_cost(file).items() if key != "content.sha256"}
            write_json(file, cost | {"parameters": {name: section}})
        warnings = notes(outcomes(named, [0, 1], tmp_path / "results"), "kd", LABELS, True)
        return [note for note in warnings if "loss weights" in note]

    assert said(ce_weight=0.3, kd_weight=1.4) == []
    assert said(ce_weight=0.1, kd_weight=1.4) == [
        "warning: kd does not have the loss weights of orc: ce_weight 0.1 instead of 0.3"
    ]
    guidance.pop("guidance")
    assert said(ce_weight=0.1, kd_weight=1.4) == [
        "warning: the results of orc lack its parameter guidance, so that its loss weights are not compared with those "
        "of kd"
    ]
    named["kd"] = named["kd"].model_copy(update={"weights_of": "scratch"})
    assert said(ce_weight=0.1, kd_weight=1.4) == ["warning: kd cannot have the loss weights of scratch"]


@pytest.mark.parametrize("per_seed", [True, False])
def test_the_notes_say_whether_the_spread_contains_that_of_the_teacher(compared, per_seed):
    said = [note for note in notes(compared, "kd", LABELS, per_seed) if "teacher and" in note or "same teacher" in note]
    assert len(said) == 1 and ("does not contain" in said[0]) != per_seed


def test_a_small_test_split_gives_warnings():
    labels = LABELS[:24]
    assert split_warnings(labels, 4) == [
        "warning: the test split has only 24 images: one image is 4.2 percentage points of accuracy, so that small "
        "differences between methods cannot be shown"
    ]
    assert split_warnings(labels.repeat(5), 4) == []
    assert split_warnings(labels.repeat(5), 6) == [
        "warning: the test split has fewer than 5 images of 2 of 6 classes (the smallest has 0): accuracies of these "
        "classes say little"
    ]
    assert len(split_warnings(labels[:3], 4)) == 2
