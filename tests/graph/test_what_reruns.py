"""A parameter, a file or an entry changes exactly the stages that read it."""

from contextlib import chdir, contextmanager
from pathlib import Path

import pytest
from dvc.repo import Repo
from project import ROOT, Project

CHAIN_METHODS = {"takd", "dgkd", "sdgkd", "average"}
METHODS = ["scratch", "kd", "dml", "takd", "dgkd", "sdgkd", "orc", "cooperative"]
METHODS += ["kd_scaled", "average", "orc_single", "cooperative_raw", "cooperative_random"]
EVERY_DISTILL = {f"distill@{m}" for m in METHODS}
LINKS = {f"assist-{c}@{ta}" for c in ("takd", "dgkd") for ta in ("ta1", "ta2")}
TRAINING = {"pretrain", "members", *LINKS, *EVERY_DISTILL}

# What runs at once (the report shows data, train and networks); whatever follows an out that has changed runs after it.
PARAMETERS = {
    "orc.beta": (0.7, {"distill@orc"}),
    "orc.teachings.group": (False, {"distill@orc"}),
    "orc_single.beta": (0.7, {"distill@orc_single"}),
    "kd.temperature": (2.0, {"distill@kd"}),
    "kd_scaled.scale": (2.0, {"distill@kd_scaled"}),
    "scratch.label_smoothing": (0.1, {"distill@scratch"}),
    "dml.weight": (0.5, {"distill@dml"}),
    "takd.lam": (0.5, {"distill@takd", "assist-takd@ta1", "assist-takd@ta2"}),
    "dgkd.lam": (0.5, {"distill@dgkd", "assist-dgkd@ta1", "assist-dgkd@ta2"}),
    "sdgkd.survival": (0.5, {"distill@sdgkd"}),
    "average.alpha": (0.5, {"distill@average"}),
    "cooperative.alpha": (0.7, {"distill@cooperative"}),
    "cooperative_raw.pool": ("noise", {"distill@cooperative_raw"}),
    "cooperative.members.a.keeps": (0.5, {"prepare", "members", "distill@cooperative"}),
    "teacher.arch": ("tiny_plain2_32", {"pretrain", "report"}),
    "student.arch": ("tiny_plain2_16", {"members", "report", *EVERY_DISTILL}),
    "student.after": ("ta1", {"cast-chain@takd", "cast-chain@dgkd", "report"}),
    "assistants.ta2.arch": ("tiny_plain2_32", {"assist-takd@ta2", "assist-dgkd@ta2", "cast-group", "report"}),
    "train.lr": (0.05, {*TRAINING, "report"}),
    "data.seed": (1, {"prepare", "report"}),
    "seeds": ([0, 1], {"members", "report", *EVERY_DISTILL}),
    "export.method": ("orc", {"export"}),
    "export.weights": ("last", {"export"}),
    "runtime.threads": (2, set()),
    "runtime.workers": (2, set()),
}
FILES = {
    "pipeline/methods/orc.py": {"distill@orc", "distill@orc_single"},
    "pipeline/methods/kd.py": {"distill@kd", "distill@kd_scaled"},
    "pipeline/methods/dgkd.py": {"distill@dgkd", "distill@sdgkd", "assist-dgkd@ta1", "assist-dgkd@ta2"},
    "pipeline/core/engine.py": {*TRAINING, *(f"evaluate@{m}" for m in METHODS), "export"},
    "pipeline/evaluation/table.py": {"report"},
    "data/digits/README.md": {"prepare"},
    "README.md": set(),
}


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The real graph, every out of which is a stand-in: only what DVC plans is of interest here."""
    project = Project(tmp_path_factory.mktemp("project"))
    with inside(project) as repo:
        outs = [(Path(out.fs_path), stage.addressing) for stage in repo.index.stages for out in stage.outs]
    for out, stage in outs:
        file = out if out.suffix else out / "content"
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(stage)
    (project.folder / "data/prepared/classes.txt").write_text("0\n")
    project.dvc("commit", "-f")
    return project


@contextmanager
def inside(project):
    """The project's DVC repository, as DVC's own commands open it."""
    with chdir(project.folder), Repo() as repo:
        yield repo


def planned(project) -> set[str]:
    """What `dvc repro --dry` would run."""
    with inside(project) as repo:
        return {stage.addressing for stage in repo.reproduce(dry=True)}


@pytest.fixture
def kept(project):
    """The project's text files, put back after a test."""
    names = ["params.yaml", *FILES]
    before = {name: (project.folder / name).read_bytes() for name in names}
    yield project
    for name, content in before.items():
        (project.folder / name).write_bytes(content)


@pytest.mark.slow
def test_nothing_runs_without_a_change(project):
    assert planned(project) == set()


@pytest.mark.slow
@pytest.mark.parametrize("key", PARAMETERS)
def test_a_parameter_changes_the_stages_that_read_it(kept, key):
    value, stages = PARAMETERS[key]
    kept.set(key, value)
    assert planned(kept) == {"check", *stages}


@pytest.mark.slow
@pytest.mark.parametrize("name", FILES)
def test_a_file_changes_the_stages_that_import_it(kept, name):
    with (kept.folder / name).open("a") as file:
        file.write("\n# changed\n")
    assert planned(kept) == FILES[name]


@pytest.mark.slow
def test_a_method_taken_out_is_missed_by_the_report_alone(kept):
    kept.edit(lambda document: document["methods"].pop("dml"))
    assert planned(kept) == {"check", "report"}


@pytest.mark.slow
def test_a_new_entry_is_one_more_distillation(kept):
    def change(document):
        document["methods"]["kd_cold"] = {"is": "kd", "after": "models/teacher"}
        document["kd_cold"] = {"temperature": 1.0, "alpha": 0.9, "scale": 1.0}

    with inside(kept) as repo:
        before = {stage.addressing for stage in repo.index.stages}
    kept.edit(change)
    with inside(kept) as repo:
        after = {stage.addressing for stage in repo.index.stages}
    assert after - before == {"distill@kd_cold", "evaluate@kd_cold"}


def test_the_table_above_names_every_method():
    from ruamel.yaml import YAML

    assert METHODS == list(YAML(typ="safe").load((ROOT / "params.yaml").read_text())["methods"])
