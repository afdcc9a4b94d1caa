"""A change of a parameter, a file or an entry of methods reruns exactly the stages that depend on it."""

from contextlib import chdir, contextmanager
from pathlib import Path

import pytest
from dvc.repo import Repo
from project import ROOT, Project

CHAIN_METHODS = {"takd", "dgkd", "sdgkd", "average"}
METHODS = ["scratch", "kd", "dkd", "dist", "dml", "takd", "dgkd", "sdgkd", "orc", "cooperative"]
METHODS += ["kd_scaled", "average", "orc_single", "orc_matched", "cooperative_raw", "cooperative_random"]
EVERY_DISTILL = {f"distill@{m}" for m in METHODS}
EVERY_EVALUATE = {f"evaluate@{m}" for m in METHODS}
LINKS = {f"assist-{c}@{ta}" for c in ("takd", "dgkd") for ta in ("ta1", "ta2")}
TRAINING = {"pretrain", "members", *LINKS, *EVERY_DISTILL}

# The stages that DVC reruns first (report depends on data, train and the networks). Stages that depend on a changed
# output follow after it and are not listed.
PARAMETERS = {
    "orc.beta": (0.7, {"distill@orc"}),
    "orc.teachings.group": (False, {"distill@orc"}),
    "orc.elect": ("ema", {"distill@orc"}),
    "orc.feedback_only": (True, {"distill@orc"}),
    "orc.pivot_statistics": ("teacher", {"distill@orc"}),
    "orc_single.beta": (0.7, {"distill@orc_single"}),
    "kd.temperature": (2.0, {"distill@kd"}),
    "kd_scaled.kd_weight": (2.0, {"distill@kd_scaled"}),
    "dkd.beta": (2.0, {"distill@dkd"}),
    "wttm.beta": (2.0, set()),  # no entry of methods uses it
    "scratch.ce_weight": (2.0, {"distill@scratch"}),
    "scratch.label_smoothing": (0.1, {"distill@scratch"}),
    "dml.weight": (0.5, {"distill@dml"}),
    "takd.lam": (0.5, {"distill@takd", "assist-takd@ta1", "assist-takd@ta2"}),
    "dgkd.lam": (0.5, {"distill@dgkd", "assist-dgkd@ta1", "assist-dgkd@ta2"}),
    "dgkd.normalise": ("released", {"distill@dgkd", "assist-dgkd@ta1", "assist-dgkd@ta2"}),
    "sdgkd.drop": ("one", {"distill@sdgkd"}),
    "sdgkd.survival": (0.5, {"distill@sdgkd"}),
    "average.kd_weight": (0.5, {"distill@average"}),
    "cooperative.alpha": (0.7, {"distill@cooperative"}),
    "cooperative.teachers": ("all", {"distill@cooperative"}),
    "cooperative_raw.pool": ("noise", {"distill@cooperative_raw"}),
    "cooperative.members.a.keeps": (0.5, {"members", "distill@cooperative"}),
    "teacher.arch": ("tiny_plain2_32", {"pretrain", "report", "export"}),
    "student.arch": ("tiny_plain2_16", {"members", "report", "export", *EVERY_DISTILL}),
    "student.after": ("ta1", {"chain@takd", "chain@dgkd", "report", "export"}),
    "assistants.ta2.arch": ("tiny_plain2_32", {"assist-takd@ta2", "assist-dgkd@ta2", "group", "report", "export"}),
    "train.lr": (0.05, {*TRAINING, "report"}),
    "data.seed": (1, {"prepare", "pretrain", "report", "export"}),
    "data.label_noise": (0.2, {"prepare", "report", "export"}),
    "data.teacher_share": (0.5, {"prepare", "pretrain", "report", "export"}),  # prepare writes the same again
    "teacher.per_seed": (False, {"pretrain", *LINKS, "report", "export"}),
    "seeds": ([0, 1], {*TRAINING, "report"}),
    "methods.kd.control": (True, {"report", "members"}),  # members trains only if a method uses them
    "methods.average.control": (False, {"report", "members"}),
    "report.reference": ("scratch", {"report"}),
    "train.optimizer": ("adamw", {*TRAINING, "report"}),
    "runtime.tracker": ("tensorboard", set()),
    "export.method": ("orc", {"export"}),
    "export.weights": ("last", {"export"}),
    "runtime.threads": (2, set()),
    "tune.trials": (4, set()),
    "tune.seeds": ([7], set()),
    "runtime.workers": (2, set()),
}
FILES = {
    "pipeline/methods/orc.py": {"distill@orc", "distill@orc_single"},
    "pipeline/methods/kd.py": {"distill@kd", "distill@kd_scaled", "distill@orc_matched"},
    "pipeline/methods/dgkd.py": {"distill@dgkd", "distill@sdgkd", "assist-dgkd@ta1", "assist-dgkd@ta2"},
    "pipeline/training/loop.py": TRAINING,
    "pipeline/runtime/processes.py": TRAINING,
    "pipeline/storage/logit_cache.py": TRAINING,
    "pipeline/core/losses.py": TRAINING,
    "pipeline/storage/bundle.py": {*TRAINING, *EVERY_EVALUATE, "group", "export"},
    "pipeline/progress.py": set(),  # the progress display
    "pipeline/tracking.py": set(),
    "pipeline/errors.py": set(),
    "pipeline/evaluation/table.py": {"report"},
    "stages/complete.py": {"complete"},
    "pipeline/evaluation/page/page.html.j2": {"report"},  # the page
    "pipeline/evaluation/metrics.py": {*EVERY_EVALUATE, "report"},
    "pipeline/evaluation/false_knowledge.py": {*EVERY_EVALUATE, "report"},
    "pipeline/export/card.md.j2": {"export"},
    "data/digits/README.md": {"prepare"},
    "README.md": set(),
    "pipeline/tuning/search.py": set(),
    "stages/tune.py": set(),
    "pipeline/evaluation/trials.py": {"report"},
    "results/tune/README.md": {"check", "report"},  # a table of trials is beside it
}


FEW = 4  # stages of a change that may be made together with others


def together(changes: dict[str, set[str]]) -> list[list[str]]:
    """The changes in groups that are made at once, because asking DVC takes seconds.

    The changes of a group have few stages each and none in common, so the union shows which one is wrong; changes that
    rerun nothing are a group of their own.
    """
    groups: list[list[str]] = []
    for name, stages in changes.items():
        for group in groups if len(stages) <= FEW else []:
            others = [changes[other] for other in group]
            if all(len(s) <= FEW and bool(s) == bool(stages) and not s & stages for s in others):
                group.append(name)
                break
        else:
            groups.append([name])
    return groups


@pytest.fixture(scope="module")
def project(tmp_path_factory):
    """The real graph with placeholder outputs: these tests only ask DVC what it would run."""
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
    """Open the project's DVC repository with the project as working directory."""
    with chdir(project.folder), Repo() as repo:
        yield repo


def planned(project) -> set[str]:
    """The stages that `dvc repro --dry` lists."""
    with inside(project) as repo:
        return {stage.addressing for stage in repo.reproduce(dry=True)}


@pytest.fixture
def restored_project(project):
    """The project. Its text files are restored after the test."""
    names = ["params.yaml", *FILES]
    before = {name: (project.folder / name).read_bytes() for name in names}
    yield project
    for name, content in before.items():
        (project.folder / name).write_bytes(content)


@pytest.mark.slow
def test_unchanged_project_reruns_no_stage(project):
    assert planned(project) == set()


@pytest.mark.slow
@pytest.mark.parametrize("keys", together({key: stages for key, (_, stages) in PARAMETERS.items()}), ids=" ".join)
def test_changing_a_parameter_reruns_the_stages_that_read_it(restored_project, keys):
    for key in keys:
        restored_project.set(key, PARAMETERS[key][0])
    assert planned(restored_project) == {"check"}.union(*(PARAMETERS[key][1] for key in keys))


@pytest.mark.slow
@pytest.mark.parametrize("names", together(FILES), ids=" ".join)
def test_changing_a_file_reruns_the_stages_that_import_it(restored_project, names):
    for name in names:
        with (restored_project.folder / name).open("a") as file:
            file.write("\n# changed\n")
    assert planned(restored_project) == set().union(*(FILES[name] for name in names))


@pytest.mark.slow
def test_removing_a_method_reruns_no_training(restored_project):
    restored_project.edit(lambda document: document["methods"].pop("dml"))
    assert planned(restored_project) == {"check", "members", "report"}  # members trains only if a method uses them


@pytest.mark.slow
def test_new_entry_of_methods_adds_its_distill_and_evaluate_stages(restored_project):
    def change(document):
        document["methods"]["kd_cold"] = {"is": "kd", "after": "models/teacher"}
        document["kd_cold"] = {
            "temperature": 1.0,
            "standardise": False,
            "ce_weight": 0.1,
            "kd_weight": 0.9,
            "label_smoothing": 0.0,
        }

    with inside(restored_project) as repo:
        before = {stage.addressing for stage in repo.index.stages}
    restored_project.edit(change)
    with inside(restored_project) as repo:
        after = {stage.addressing for stage in repo.index.stages}
    assert after - before == {"distill@kd_cold", "evaluate@kd_cold"}


def test_methods_of_this_module_are_those_of_params_yaml():
    from ruamel.yaml import YAML

    assert METHODS == list(YAML(typ="safe").load((ROOT / "params.yaml").read_text())["methods"])
