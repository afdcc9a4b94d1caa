"""Names and options of estimators are checked without importing scikit-learn, and agree with scikit-learn itself."""

import inspect
import re
import subprocess
import sys

import numpy as np
import pytest
import torch
from sklearn.utils import all_estimators

from pipeline.errors import ParamsError, UserError
from pipeline.estimators.catalog import complaint, module_of, signature, sources
from pipeline.estimators.module import EstimatorModule, create, fit

CLASSIFIERS = dict(all_estimators("classifier"))


@pytest.mark.parametrize("name", CLASSIFIERS)
def test_the_catalog_says_what_scikit_learn_says(name):
    cls = CLASSIFIERS[name]
    parameters = {k: p for k, p in inspect.signature(cls.__init__).parameters.items() if k != "self"}
    accepted, required = signature(name)
    assert module_of(name) == cls.__module__
    if any(p.kind is p.VAR_KEYWORD for p in parameters.values()):
        pytest.skip("a signature without names")
    assert accepted == list(parameters)
    assert required == [k for k, p in parameters.items() if p.default is p.empty]
    assert (complaint(f"sklearn/{name}", {}) is None) == ("predict_proba" in dir(cls) and not required)


@pytest.mark.parametrize(
    ("arch", "options", "key", "words"),
    [
        ("sklearn/RandomForestClasifier", {}, "arch", "nearest: sklearn/RandomForestClassifier"),
        ("sklearn/LinearSVC", {}, "arch", "does not answer with probabilities"),
        ("sklearn/StandardScaler", {}, "arch", "is not a classifier"),
        ("sklearn/RandomForestRegressor", {}, "arch", "is not a classifier"),
        ("sklearn/GaussianMixture", {}, "arch", "is not a classifier"),
        ("sklearn/CheckingClassifier", {}, "arch", "has no classifier CheckingClassifier"),
        ("sklearn/MinimalClassifier", {}, "arch", "has no classifier MinimalClassifier"),
        ("sklearn/VotingClassifier", {}, "arch", "requires other estimators"),
        ("sklearn/_BaseNB", {}, "arch", "has no classifier _BaseNB"),
        ("sklearn/../os", {}, "arch", "has no classifier ../os"),
        ("sklearn/SVC", {"probabilty": True}, "options.probabilty", "nearest: probability"),
        ("sklearn/SVC", {"random_state": 1}, "options.random_state", "a function of the seed and the member"),
        ("sklearn/KNeighborsClassifier", {"n_jobs": 2}, "options.n_jobs", "one thread"),
    ],
)
def test_a_mistake_names_its_key(arch, options, key, words):
    found = complaint(arch, options)
    assert found is not None and found[0] == key and words in found[1] and "\n" not in found[1]


@pytest.mark.parametrize(
    ("arch", "options", "words"),
    [
        ("sklearn/RandomForestClassifier", {"n_estimators": -1}, "'n_estimators' parameter"),
        ("sklearn/RandomForestClassifier", {"criterion": "ginni"}, "'criterion' parameter"),
        ("sklearn/SVC", {}, "set options.probability to true"),
        ("sklearn/SGDClassifier", {"loss": "hinge"}, "does not answer with probabilities"),
    ],
)
def test_a_value_that_scikit_learn_refuses_is_one_line(arch, options, words):
    with pytest.raises(ParamsError) as caught:
        create(arch, options)
    assert words in str(caught.value) and "\n" not in str(caught.value)


def test_the_catalog_imports_neither_numpy_nor_scikit_learn():
    code = (
        "import sys; from pipeline.estimators.catalog import complaint\n"
        "assert complaint('sklearn/HistGradientBoostingClassifier', {'max_iter': 3}) is None\n"
        "assert not {'numpy', 'sklearn', 'torch'} & set(sys.modules)"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", ["RandomForestClasifier", "SVM", "KNeighborClassifier", "BaggingClasifier"])
def test_a_suggested_classifier_can_be_a_member(name):
    _, reason = complaint(f"sklearn/{name}", {})
    for suggested in re.findall(r"sklearn/\w+", reason):
        assert complaint(suggested, {}) is None


@pytest.mark.parametrize("name", [name for name in sources() if complaint(f"sklearn/{name}", {}) is None])
def test_whatever_the_catalog_accepts_can_be_created_and_answers_or_is_one_line(name):
    y = np.arange(30) % 3
    x = (np.random.default_rng(0).normal(size=(30, 4)) + y[:, None]).astype(np.float32)
    try:
        estimator = create(f"sklearn/{name}", {"n_estimators": 2} if "n_estimators" in signature(name)[0] else {})
        fit(estimator, x, y, "member")
        z = EstimatorModule(estimator, 3)(torch.from_numpy(x)[:, :, None, None])
        assert z.shape == (30, 3) and bool(z.isfinite().all())
    except UserError as error:
        assert "\n" not in str(error)
