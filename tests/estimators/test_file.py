"""Estimators are saved without pickle: nothing in a file is executed, and equal fits are equal in every byte."""

import io
import json
import os
import pickle
import zipfile

import numpy as np
import pytest
import skops.io
import torch
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.tree import DecisionTreeClassifier

from pipeline.errors import DataError, UserError
from pipeline.estimators.file import from_bytes, to_bytes
from pipeline.estimators.module import EstimatorModule, create, fit

KINDS = {
    "RandomForestClassifier": {"n_estimators": 5},
    "HistGradientBoostingClassifier": {"max_iter": 3, "min_samples_leaf": 2},
    "ExtraTreesClassifier": {"n_estimators": 5},
    "SVC": {"probability": True},
    "KNeighborsClassifier": {},
    "LogisticRegression": {},
    "GaussianNB": {},
    "GradientBoostingClassifier": {"n_estimators": 3},
    "DecisionTreeClassifier": {},
    "LinearDiscriminantAnalysis": {},
}


def data(n: int = 60) -> tuple[np.ndarray, np.ndarray]:
    draw = np.random.default_rng(0)
    y = np.arange(n) % 3
    return (draw.normal(size=(n, 6)) + y[:, None]).astype(np.float32), y


def fitted(name: str):
    estimator = create(f"sklearn/{name}", KINDS[name], 3)
    fit(estimator, *data(), "member")
    return estimator


@pytest.mark.parametrize("name", KINDS)
def test_a_saved_estimator_answers_as_before_and_a_second_fit_has_the_same_bytes(name):
    estimator = fitted(name)
    content = to_bytes(estimator)
    assert to_bytes(fitted(name)) == content
    again = from_bytes(content, f"sklearn/{name}", "file")
    assert np.array_equal(again.predict_proba(data()[0]), estimator.predict_proba(data()[0]))


class Payload:
    """Pickle would call os.mkdir(path)."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return os.mkdir, (self.path,)


def refused(content: bytes, arch: str = "sklearn/DecisionTreeClassifier") -> str:
    with pytest.raises(DataError) as caught:
        from_bytes(content, arch, "models/a.skops")
    line = str(caught.value)
    assert line.startswith("models/a.skops") and "\n" not in line
    return line


def test_a_payload_is_never_executed(tmp_path):
    proof = str(tmp_path / "executed")
    as_pickle = pickle.dumps(Payload(proof))
    refused(as_pickle)
    estimator = DecisionTreeClassifier().fit(*data())
    estimator.payload = Payload(proof)
    content = skops.io.dumps(estimator)
    assert "not trusted" in refused(content)
    # the schema itself may name any function: here os.mkdir, to be called with the path
    with zipfile.ZipFile(io.BytesIO(to_bytes(fitted("DecisionTreeClassifier")))) as source:
        parts = {name: source.read(name) for name in source.namelist()}
    schema = json.loads(parts["schema.json"])
    function = {"__class__": "mkdir", "__module__": "os", "__loader__": "FunctionNode", "__id__": 999, "content": {}}
    schema["content"]["content"]["payload"] = {
        "__class__": "mkdir",
        "__module__": "os",
        "__loader__": "ReduceNode",
        "__id__": 998,
        "content": function,
        "reduce": {"content": [proof]},
    }
    changed = io.BytesIO()
    with zipfile.ZipFile(changed, "w") as out:
        for name, part in {**parts, "schema.json": json.dumps(schema).encode()}.items():
            out.writestr(name, part)
    refused(changed.getvalue())
    assert not os.path.exists(proof)
    pickle.loads(as_pickle)  # the payload works where it is trusted
    assert os.path.exists(proof)


def test_another_estimator_is_refused():
    content = to_bytes(fitted("GaussianNB"))
    assert "sklearn.naive_bayes.GaussianNB" in refused(content, "sklearn/RandomForestClassifier")


def test_an_estimator_that_needs_other_types_is_not_saved():
    estimator = create("sklearn/GaussianProcessClassifier", {})
    fit(estimator, *data(), "member")
    with pytest.raises(UserError, match="cannot be saved without pickle"):
        to_bytes(estimator)


def test_an_estimator_whose_trees_see_a_part_of_the_features_is_refused_when_it_is_fitted():
    estimator = create("sklearn/BaggingClassifier", {"max_features": 0.5, "n_estimators": 2})
    said = r"^member: BaggingClassifier with these options could not be read once.*a part of the features"
    with pytest.raises(UserError, match=said):
        fit(estimator, *data(), "member")


def test_an_estimator_that_cannot_answer_is_one_line():
    estimator = create("sklearn/KNeighborsClassifier", {"n_neighbors": 100})
    fit(estimator, *data(), "member")
    with pytest.raises(UserError, match=r"^KNeighborsClassifier cannot answer: Expected n_neighbors"):
        EstimatorModule(estimator, 3)(torch.zeros(2, 6, 1, 1))


@pytest.mark.parametrize("cut", [0, 10, 300])
def test_a_damaged_file_is_one_line(cut):
    refused(to_bytes(fitted("DecisionTreeClassifier"))[: -cut or None][cut:] if cut else b"")


def test_a_tree_that_leads_nowhere_is_refused():
    boosted = HistGradientBoostingClassifier(max_iter=2, min_samples_leaf=2).fit(*data())
    boosted._predictors[0][0].nodes["left"][0] = 10_000
    content = to_bytes(boosted)
    assert "a node that does not exist" in refused(content, "sklearn/HistGradientBoostingClassifier")
    boosted._predictors[0][0].nodes["left"][0] = 0
    assert "a node that does not exist" in refused(to_bytes(boosted), "sklearn/HistGradientBoostingClassifier")
    boosted._predictors[0][0].nodes["left"][0] = 1
    boosted._predictors[0][0].nodes["feature_idx"][0] = 77
    assert "a feature that does not exist" in refused(to_bytes(boosted), "sklearn/HistGradientBoostingClassifier")
    forest = RandomForestClassifier(n_estimators=2).fit(*data())
    forest.n_features_in_ = 3
    assert "a tree was fitted to a part of the features" in refused(to_bytes(forest), "sklearn/RandomForestClassifier")
