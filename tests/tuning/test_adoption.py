"""The line that adopts the best trial also gives the controls of a method its loss weights."""

import pytest
from dvc.utils.hydra import apply_overrides

from pipeline.params.load import FILE, validated
from pipeline.params.yaml_file import read, write_values
from pipeline.tuning.search import adoption, after_their_methods, as_yaml, summary
from pipeline.tuning.space import space_of
from pipeline.tuning.study import Study

CLASSES = 10


@pytest.fixture
def values():
    return validated(read(FILE))


def searched(name, values, folder, best):
    """A study whose trial number `best` is the best of three."""
    study = Study(name, "key", space_of(values[name], control=False), folder)
    for number in range(1, 4):
        (trial,) = study.next_batch(3, 1)
        study.finish(trial, {100: 90.0 + (number == best)})
    return study


def as_settings(lines):
    """Settings by key, the numbers as numbers."""
    pairs = (line.split("=") for line in lines)
    return {key: float(value) if value.replace(".", "").isdigit() else value for key, value in pairs}


def test_controls_of_orc_get_its_weights(values, tmp_path):
    study = searched("orc", values, tmp_path, best=2)
    assert study.best
    beta = study.best.parameters["beta"]
    settings = as_settings(adoption(study, values, CLASSES))
    assert settings["orc.beta"] == settings["orc_single.beta"] == beta != values["orc"].beta
    assert settings["orc_matched.ce_weight"] == pytest.approx(1 - beta)
    assert settings["orc_matched.kd_weight"] == pytest.approx(2 * beta)
    assert not any(key.endswith("temperature") for key in settings if not key.startswith("orc."))
    text = "\n".join(summary(study, adoption(study, values, CLASSES)))
    assert all(f"-S {setting}" in text for setting in adoption(study, values, CLASSES))
    assert "controls that get its loss weights, and are to be tuned after it: orc_single, orc_matched" in text


def test_controls_of_orc_without_a_group_get_the_weights_of_its_one_student(values, tmp_path):
    values["orc"] = values["orc"].model_copy(update={"group": {}})
    study = searched("orc", values, tmp_path, best=2)
    assert study.best
    settings = as_settings(adoption(study, values, CLASSES))
    assert settings["orc_matched.kd_weight"] == pytest.approx(study.best.parameters["beta"])


def test_controls_of_dgkd_get_the_weights_of_all_guides_of_the_chain(values, tmp_path):
    study = searched("dgkd", values, tmp_path, best=3)
    assert study.best
    lam, guides = study.best.parameters["lam"], 1 + len(values["assistants"])
    share = guides if study.best.parameters.get("normalise") == "mean" else 1
    settings = as_settings(adoption(study, values, CLASSES))
    assert settings["kd_scaled.ce_weight"] == pytest.approx(guides * (1 - lam) / share)
    assert settings["kd_scaled.kd_weight"] == pytest.approx(guides * lam / share)


def test_adopted_parameters_need_no_adoption(values, tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text(FILE.read_text())
    study = searched("orc", values, tmp_path, best=2)
    write_values(file, adoption(study, values, CLASSES))
    adopted = validated(read(file))
    again = Study("orc", "key", space_of(adopted["orc"], control=False), tmp_path)
    assert adoption(again, adopted, CLASSES) == []
    assert summary(again, [])[-1].endswith("params.yaml has the best parameters (91.00 % on validation)")


def test_controls_that_lack_the_weights_of_adopted_parameters_are_named(values, tmp_path):
    study = searched("orc", values, tmp_path, best=1)
    assert adoption(study, values, CLASSES) == [] and len(summary(study, adoption(study, values, CLASSES))) == 1
    values["orc_matched"] = values["orc_matched"].model_copy(update={"kd_weight": 0.5})
    weight = 2 * values["orc"].beta
    assert adoption(study, values, CLASSES) == [f"orc_matched.kd_weight={weight:g}"]
    said = f"  its controls lack its loss weights: dvc exp run -S orc_matched.kd_weight={weight:g}"
    assert summary(study, adoption(study, values, CLASSES))[-1] == said


def test_controls_of_a_method_that_keeps_its_weights_are_not_named(values, tmp_path):
    study = searched("orc", values, tmp_path, best=2)
    line = next(line for line in summary(study, ["orc.temperature=2.0"]) if "adopt it" in line)
    assert line == "  adopt it: dvc exp run -S orc.temperature=2.0"
    assert not any("controls" in line for line in summary(study, ["orc.temperature=2.0"]))


def test_each_control_is_searched_after_its_method(values):
    entries = values["methods"]
    assert after_their_methods(list(entries), entries) == list(entries)  # the default has this order
    assert after_their_methods(["orc_matched", "kd", "orc"], entries) == ["kd", "orc", "orc_matched"]
    assert after_their_methods(["orc_matched", "kd"], entries) == ["orc_matched", "kd"]
    of_each_other = {"one": "other", "other": "one"}
    circle = {name: entries["orc_matched"].model_copy(update={"weights_of": of}) for name, of in of_each_other.items()}
    assert after_their_methods(["one", "other"], circle) == ["one", "other"]


def test_a_weight_for_each_guide_is_set_as_dvc_reads_it(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("dgkd:\n  lam: 0.5\n")
    lam = {"teacher": 0.7, "ta1": 0.2}
    apply_overrides(file, [f"dgkd.lam={as_yaml(lam)}"])
    assert read(file) == {"dgkd": {"lam": lam}}
