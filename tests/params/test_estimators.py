"""Groups with estimators of scikit-learn: what is valid, and what contradicts them."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.errors import ParamsError
from pipeline.estimators.check import check_estimators
from pipeline.params.load import validated

ROOT = Path(__file__).parents[2]
KINDS = {
    "forest": {"arch": "sklearn/RandomForestClassifier", "options": {"n_estimators": 200}, "copies": 2},
    "extra": {"arch": "sklearn/ExtraTreesClassifier", "options": {"max_features": 0.5}},
    "boosted": {"arch": "sklearn/HistGradientBoostingClassifier", "options": {"learning_rate": 0.05}},
    "svm": {"arch": "sklearn/SVC", "options": {"probability": True, "kernel": "rbf"}},
    "near": {"arch": "sklearn/KNeighborsClassifier", "options": {}},
    "linear": {"arch": "sklearn/LogisticRegression"},
    "bayes": {"arch": "sklearn/GaussianNB"},
    "net": {"arch": "tiny_plain2_16"},
}


def with_members(monkeypatch, members, **section):
    """The parsed params.yaml with these members and keys of cooperative."""
    monkeypatch.chdir(ROOT)
    document = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    members = {name: {"lacks": "auto", "keeps": 1.0, **member} for name, member in members.items()}
    document["cooperative"] |= {"members": members, **section}
    return validated(document)["cooperative"]


def test_a_group_of_all_kinds_is_valid(monkeypatch):
    section = with_members(monkeypatch, KINDS)
    check_estimators(section.members)
    assert section.members["forest"].options == {"n_estimators": 200}


def test_a_search_by_gradient_requires_networks(monkeypatch):
    with pytest.raises(ParamsError, match=r"cooperative\.search: gradient requires networks, but the member forest is"):
        with_members(monkeypatch, KINDS, search="gradient")


def test_a_value_that_scikit_learn_refuses_names_the_member(monkeypatch):
    section = with_members(monkeypatch, {**KINDS, "near": {**KINDS["near"], "options": {"n_neighbors": 0}}})
    with pytest.raises(ParamsError, match=r"cooperative\.members\.near\.options: The 'n_neighbors' parameter"):
        check_estimators(section.members)


def on_a_table(monkeypatch, **train):
    """params.yaml with breast_cancer and MLPs throughout."""
    monkeypatch.chdir(ROOT)
    document = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    document["data"]["source"] = "breast_cancer"
    for network in (document["teacher"], document["student"], *document["assistants"].values()):
        network["arch"] = "mlp_64_64"
    document["cooperative"]["members"] = {"auto": 2}
    document["train"] |= train
    return validated(document)


def test_a_table_requires_mlps_and_no_augmentation(monkeypatch):
    assert on_a_table(monkeypatch)["data"].source == "breast_cancer"
    for key, value in {"augment": "trivial", "flip": True, "pad": 2, "random_erasing": 0.5}.items():
        with pytest.raises(ParamsError, match=rf"train\.{key}: is for images, but data\.source is breast_cancer"):
            on_a_table(monkeypatch, **{key: value})


def test_a_network_of_images_is_refused_on_a_table(monkeypatch):
    monkeypatch.chdir(ROOT)
    document = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    document["data"]["source"] = "wine"
    with pytest.raises(ParamsError, match=r"teacher\.arch: 'tiny_plain4_32' is for images, but data\.source is wine"):
        validated(document)
