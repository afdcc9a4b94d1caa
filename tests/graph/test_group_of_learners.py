"""A group of a forest, an SVM and a network through the whole graph, on rows of features."""

import json

import pytest
from project import ran

pytestmark = pytest.mark.slow
MEMBERS = {
    "forest": {"arch": "sklearn/RandomForestClassifier", "options": {"n_estimators": 5}, "lacks": [], "keeps": "1/3"},
    "svm": {"arch": "sklearn/SVC", "options": {"probability": True}, "lacks": [], "keeps": "2/3"},
    "mlp": {"arch": "mlp_64_64", "lacks": [], "keeps": "3/3"},
}


def test_estimators_and_networks_are_trained_evaluated_and_reported_as_one_group(project):
    def change(document):
        document["data"].update(source="breast_cancer", limit="auto")
        for network in (document["teacher"], document["student"], *document["assistants"].values()):
            network["arch"] = "mlp_64_64"
        del document["methods"]["orc"]
        document["methods"]["cooperative"] = {"is": "cooperative", "after": "models/members"}
        document["cooperative"].update(members=MEMBERS, expertise="instance", steps=3)

    project.edit(change)
    done = ran(project.dvc("repro", "complete", "export").stdout)
    assert {"members", "distill@cooperative", "evaluate@cooperative", "report"} <= set(done)
    evaluated = json.loads((project.folder / "results/eval/cooperative.json").read_text())["seeds"]["0"]
    for part in ("before", "networks", "all_data"):
        assert all(evaluated[part][name]["last"]["top1"] > 50 for name in ("forest", "svm"))
    cost = json.loads((project.folder / "results/cost/cooperative.json").read_text())["networks"]
    assert cost["forest"]["macs"] is None and cost["forest"]["bytes"] > 0 and cost["mlp"]["macs"] > 0
    files = {file.name for file in (project.folder / "models/members/seed-0").iterdir()}
    assert {"forest.skops", "svm.skops"} <= files and not any(name.endswith((".pkl", ".joblib")) for name in files)
    page = (project.folder / "results/report.html").read_text()
    assert all(name in page for name in MEMBERS) and "cooperative" in (project.folder / "results/table.md").read_text()
    assert "has rows, not images" in (project.folder / "models/export/none.txt").read_text()
    project.reset()
