"""Every method has a space within its bounds, and the next point is a function of what was tried."""

from pathlib import Path

import pytest

from pipeline.params.load import load, plain, validated
from pipeline.params.schema import KINDS, schema_of
from pipeline.params.search import Search, searches
from pipeline.params.yaml_file import read
from pipeline.tuning.space import DIGITS, Point, Space, space_of

ROOT = Path(__file__).parents[2]
METHODS = load("methods")["methods"]
WEIGHTS = {"ce_weight", "kd_weight", "beta", "lam", "weight"}  # of losses


def section_with(name: str, **values):
    section = load(name)[name]
    return type(section).model_validate(plain(section) | values, strict=True)


@pytest.mark.parametrize("kind", KINDS)
def test_every_kind_of_method_has_a_space_of_at_most_four_parameters(kind):
    assert 1 <= len(searches(KINDS[kind])) <= 4


@pytest.mark.parametrize("name", METHODS)
def test_the_ends_of_every_range_and_all_choices_are_valid_values(name):
    for key, search in searches(schema_of(name, METHODS[name].is_)).items():
        for value in search.choices or (search.low, search.high):
            assert getattr(section_with(name, **{key: value}), key) == value
        assert search.choices or (search.low < search.high and (search.low > 0 or not search.log))


@pytest.mark.parametrize("name", METHODS)
def test_every_entry_of_params_yaml_has_something_to_search(name):
    space = space_of(load(name)[name], control=METHODS[name].control)
    assert space.searched and space.given == {key: getattr(load(name)[name], key) for key in space.searched}


@pytest.mark.parametrize("name", [name for name, entry in METHODS.items() if entry.control])
def test_a_control_keeps_its_loss_weights(name):
    space = space_of(load(name)[name], control=True)
    assert not WEIGHTS & set(space.searched)
    assert all(search.control for search in space.searched.values())
    everything = searches(type(load(name)[name]))
    assert {line.split()[0] for line in space.left_out} == set(everything) - set(space.searched)


@pytest.mark.parametrize(
    ("name", "values", "absent"),
    [
        ("dgkd", {"survival": 1.0}, "survival"),
        ("orc", {"pivot_lr_scale": 0.0}, "pivot_lr_scale"),
        ("dgkd", {"survival": 0.5, "drop": "one"}, "survival"),
        ("orc", {"feedback_only": True}, "mixup_alpha"),
        ("orc", {"teachings": {"intensive": False, "private": True, "group": True}}, "mixup_alpha"),
        ("orc", {"teachings": {"intensive": False, "private": True, "group": True}}, "pivot_lr_scale"),
        ("dkd", {"alpha": 0.0}, "alpha"),
        ("dist", {"gamma": 0.0}, "gamma"),
        ("dgkd", {"lam": {"teacher": 0.9, "ta1": 0.5, "ta2": 0.5}}, "lam"),
    ],
)
def test_what_is_switched_off_or_has_no_number_is_not_searched(name, values, absent):
    space = space_of(section_with(name, **values), control=False)
    assert absent not in space.searched and any(line.startswith(f"{absent} ") for line in space.left_out)


def test_stochastic_dgkd_is_searched_along_its_survival():
    assert "survival" in space_of(load("sdgkd")["sdgkd"], control=False).searched


@pytest.mark.parametrize("name", METHODS)
def test_the_first_point_is_that_of_params_yaml(name):
    space = space_of(load(name)[name], control=METHODS[name].control)
    assert space.propose([], name, 1) == space.given


def points(space: Space, n: int, name: str = "kd") -> list[dict]:
    tried: list[Point] = []
    for number in range(1, n + 1):
        point = space.propose(tried, name, number)
        if point is None:
            break
        tried.append(Point(point, True, 90.0 - number % 3))
    return [point.parameters for point in tried]


@pytest.mark.parametrize("name", ["kd", "orc", "sdgkd", "cooperative", "dml", "scratch"])
def test_points_are_valid_short_distinct_and_the_same_again(name):
    space = space_of(load(name)[name], control=False)
    found = points(space, 8, name)
    assert found == points(space, 8, name) and len(found) == 8
    assert all(found.count(point) == 1 for point in found)
    for point in found:
        section_with(name, **point)  # raises if a value is out of bounds
        for key, value in point.items():
            search = space.searched[key]
            assert value in search.choices if search.choices else search.low <= value <= search.high
            assert not isinstance(value, float) or value == float(f"{value:.{DIGITS}g}")


def test_methods_and_trials_draw_different_points():
    space = space_of(load("kd")["kd"], control=False)
    first = [Point(space.given, True, 90.0)]
    drawn = [space.propose(first, name, number) for name in ("kd", "average") for number in (2, 3)]
    assert all(drawn.count(point) == 1 for point in drawn)


def test_a_range_is_widened_to_the_value_of_params_yaml():
    space = space_of(section_with("kd", temperature=20.0), control=False)
    distribution = space.distributions([])["temperature"]
    assert (distribution.low, distribution.high) == (1.0, 20.0)
    assert len(points(space, 6)) == 6


def test_a_space_without_ranges_is_tried_point_by_point_and_then_ends():
    space = space_of(load("cooperative_raw")["cooperative_raw"], control=True)
    found = points(space, 8)
    assert found[0] == space.given and len(found) == 4
    assert sorted(map(str, found)) == sorted(map(str, space.combinations or []))


def test_a_result_changes_the_points_that_tpe_chooses():
    space = Space({"temperature": Search(1.0, 8.0, log=True)}, {"temperature": 4.0}, [])
    values = [1.1, 1.3, 2.0, 3.0, 5.0, 6.0, 7.0]

    def mean(best: float) -> float:
        tried = [Point({"temperature": v}, True, 90.0 - abs(v - best)) for v in (4.0, *values)]
        chosen = [space.propose(tried, "kd", number) or {} for number in range(9, 29)]
        return sum(point["temperature"] for point in chosen) / len(chosen)

    assert mean(1.2) < 2.5 < 4.5 < mean(6.5)


def test_tune_of_params_yaml_is_disjoint_from_the_seeds_that_judge():
    values = validated(read(ROOT / "params.yaml"))
    assert not set(values["tune"].seeds) & set(values["seeds"])
