"""Every mistake in params.yaml is a one-line error that names the key."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.errors import ParamsError
from pipeline.params import load as params

ROOT = Path(__file__).parents[2]


class Deleted:
    def __repr__(self) -> str:
        return "deleted"


DELETED = Deleted()
MEMBER = {"arch": "tiny_plain2_12", "lacks": "auto", "keeps": 1.0}

# dotted key, its new value, a part of the message
MISTAKES = [
    ("train.lr", -1.0, "train.lr: must be greater than 0 or auto, got -1.0"),
    ("train.lr", "0.1", "train.lr: must be a valid number or auto, got '0.1'"),
    ("train.lr", DELETED, "train.lr: is missing"),
    ("train.lrr", 0.1, "train.lrr: unknown key; nearest: lr"),
    ("train.epochs", 1.5, "train.epochs: must be a valid integer, got 1.5"),
    ("train.epochs", True, "train.epochs: must be a valid integer, got True"),
    ("train.epochs", 0, "train.epochs: must be greater than or equal to 1, got 0"),
    ("train.schedule", "cosin", "train.schedule: must be 'cosine', 'step' or 'constant', got 'cosin'"),
    ("train.milestones", [0.9, 0.5], "train.milestones: must increase, got [0.9, 0.5]"),
    ("train.warmup_epochs", 40, "train.warmup_epochs: must be less than train.epochs (40), got 40"),
    ("train.momentum", 0.0, "train.nesterov: true requires train.momentum > 0"),
    ("train", DELETED, "train: is missing"),
    ("train", [], "train: must be a valid dictionary"),
    ("data.source", "mnist", "data.source: must be"),
    ("data.validation", 1.5, "data.validation: must be"),
    ("data.limit", 0, "data.limit: must be greater than or equal to 1 or auto, got 0"),
    ("data.label_noise", 1.0, "data.label_noise: must be less than 1 or text or none, got 1.0"),
    ("data.label_noise", -0.1, "data.label_noise: must be greater than or equal to 0"),
    ("data.label_noise", float("nan"), "data.label_noise: must be"),
    ("data.label_noise", True, "data.label_noise: must be"),
    ("data.label_noise", [], "data.label_noise: must be"),
    ("data.label_noise", "", "data.label_noise: must be"),
    ("data.label_noise", None, "data.label_noise: null is not allowed: write none"),
    ("data.label_noise", "0.2", "data.label_noise: the file 'data/digits/0.2' does not exist"),
    ("data.label_noise", "no.csv", "data.label_noise: the file 'data/digits/no.csv' does not exist"),
    ("data.label_noise", ".", "data.label_noise: the file 'data/digits/.' does not exist"),
    ("data.label_noise", "../x.csv", "data.label_noise: must be a path relative to data.root that stays below it"),
    ("data.label_noise", "/etc/passwd", "data.label_noise: must be a path relative to data.root that stays below it"),
    ("data.teacher_share", 0.0, "data.teacher_share: must be greater than 0, got 0.0"),
    ("data.teacher_share", 1.5, "data.teacher_share: must be less than or equal to 1, got 1.5"),
    ("data.teacher_share", "half", "data.teacher_share: must be a valid number, got 'half'"),
    ("data.teacher_share", None, "data.teacher_share: must be a valid number, got null"),
    ("data.limit", "atuo", "data.limit: must be a valid integer or auto, got 'atuo'"),
    ("train.lr", None, "train.lr: null is not allowed: write auto"),
    ("train.gamma", None, "train.gamma: must be a valid number, got null"),
    ("report.reference", "cooperative", "report.reference: cooperative trains a group, not a student"),
    ("train", None, "train: must be a valid dictionary, got null"),
    ("teacher.arch", "resnet1O", "teacher.arch: unknown network 'resnet1O'; nearest: resnet"),
    ("student.arch", "tiny_plain2_13", "student.arch: unknown network 'tiny_plain2_13'; nearest: tiny_plain2_"),
    ("teacher.epochs", 0, "teacher.epochs: 0 requires teacher.pretrained or teacher.checkpoint"),
    ("teacher.checkpoint", "no/such.pt", "teacher.checkpoint: the file 'no/such.pt' does not exist"),
    (
        "teacher.arch",
        "sklearn/SVC",
        "teacher.arch: 'sklearn/SVC' is an estimator of scikit-learn, which only cooperative.members can have",
    ),
    (
        "cooperative.members.a.arch",
        "sklearn/RandomForestClasifier",
        "cooperative.members.a.arch: scikit-learn has no classifier RandomForestClasifier; nearest: sklearn/RandomF",
    ),
    (
        "cooperative.members.a.arch",
        "sklearn/LinearSVC",
        "cooperative.members.a.arch: LinearSVC does not answer with probabilities",
    ),
    (
        "cooperative.members.a",
        {"arch": "sklearn/SVC", "options": {"probabilty": True}, "lacks": "auto", "keeps": 1.0},
        "cooperative.members.a.options.probabilty: SVC has no such option; nearest: probability",
    ),
    (
        "cooperative.members.a",
        {"arch": "sklearn/SVC", "options": {"C": None}, "lacks": "auto", "keeps": 1.0},
        "cooperative.members.a.options.C: must be",
    ),
    (
        "cooperative.members.a",
        {"arch": "tiny_plain2_32", "options": {"C": 1}, "lacks": "auto", "keeps": 1.0},
        "cooperative.members.a.options: only an estimator of scikit-learn has options",
    ),
    (
        "cooperative.members.a",
        {"arch": "tiny_plain2_32", "copies": 1, "lacks": "auto", "keeps": 1.0},
        "cooperative.members.a.copies: only for estimators of scikit-learn",
    ),
    ("student.after", "ta9", "student.after: must be teacher or an assistant, got 'ta9'"),
    ("assistants.ta1.after", "ta9", "assistants.ta1.after: must be teacher or an assistant, got 'ta9'"),
    ("assistants.ta1.after", "ta2", "assistants.ta1.after: the chain is circular: ta1 -> ta2 -> ta1"),
    ("assistants.ta1.arch", "x", "assistants.ta1.arch: unknown network 'x'"),
    ("assistants.student", {"arch": "tiny_plain2_12", "after": "teacher"}, "assistants.student: the name 'student' is"),
    ("assistants.t a", {"arch": "tiny_plain2_12", "after": "teacher"}, "assistants.t a: must be a name of letters"),
    ("methods.orc; rm", {"is": "orc", "after": "models/teacher"}, "methods.orc; rm: must be a name of letters"),
    ("methods.-x", {"is": "kd", "after": "models/teacher"}, "methods.-x: must be a name of letters"),
    ("methods", {}, "methods: must have at least 1 entries, got {}"),
    ("methods.kd.is", "kdd", "methods.kd.is: unknown method 'kdd'; nearest: kd"),
    ("methods.kd.against", "kd", "methods.kd.against: must be another entry of methods"),
    ("methods.kd.against", ["orc", "kd"], "methods.kd.against: must be another entry of methods"),
    ("methods.kd.against", ["orc", "orc"], "methods.kd.against: must name each control once, got ['orc', 'orc']"),
    ("methods.kd.against", [], "methods.kd.against: "),
    ("methods.kd.against", 3, "methods.kd.against: "),
    ("methods.kd_scaled.weights_of", "kd_scaled", "methods.kd_scaled.weights_of: must be another entry of methods"),
    (
        "methods.kd_scaled.weights_of",
        "dkd",
        "methods.kd_scaled.weights_of: must name one of the kinds kd, takd, dgkd, multiteacher, orc, got dkd",
    ),
    (
        "methods.orc_single.weights_of",
        "dgkd",
        "methods.orc_single.weights_of: requires dgkd to be of the same kind, orc, got dgkd",
    ),
    ("methods.kd.weights_of", "orc", "methods.kd.weights_of: requires methods.kd.control to be true"),
    (
        "methods.orc_matched.weights_of",
        "ork",
        "methods.orc_matched.weights_of: there is no section 'ork'; nearest: orc",
    ),
    ("methods.kd_scaled.weights_of", "train", "methods.kd_scaled.weights_of: train is not the section of a method"),
    ("methods.kd_scaled.weights_of", ["dgkd"], "methods.kd_scaled.weights_of: "),
    ("teacher.per_seed", "yes", "teacher.per_seed: must be"),
    ("methods.kd.after", "models/teachr", "methods.kd.after: kd must start from one of models/teacher"),
    ("methods.kd.after", "models/members", "methods.kd.after: kd must start from one of models/teacher"),
    ("methods.cooperative.after", "models/teacher", "methods.cooperative.after: cooperative must start from one of"),
    ("methods.mine", {"is": "kd", "after": "models/teacher"}, "methods.mine: the section 'mine' is missing"),
    (
        "methods.train",
        {"is": "kd", "after": "models/teacher"},
        "methods.train: 'train' is reserved for another",
    ),
    ("kd", DELETED, "methods.kd: the section 'kd' is missing"),
    ("takd", DELETED, "the section 'takd' is missing"),
    ("kdx", {"temperature": 4.0}, "kdx: unknown section; nearest: kd"),
    ("seeds", [], "seeds: must have at least 1 entries, got []"),
    ("seeds", [0, 0], "seeds: must differ from each other, got [0, 0]"),
    ("seeds", [-1], "seeds.0: must be greater than or equal to 0, got -1"),
    ("seeds", 3, "seeds: must be a valid list, got 3"),
    ("scratch.ce_weight", 0.0, "scratch.ce_weight: must be greater than 0, because nothing would"),
    ("kd.temperature", 0, "kd.temperature: must be greater than or equal to 0.001, got 0"),
    (
        "kd.alpha",
        0.9,
        "kd.alpha: unknown key; the keys are temperature, standardise, ce_weight, kd_weight, label_smoothing",
    ),
    (
        "kd.scale",
        1.0,
        "kd.scale: unknown key; the keys are temperature, standardise, ce_weight, kd_weight, label_smoothing",
    ),
    ("kd.ce_weight", -0.1, "kd.ce_weight: must be greater than or equal to 0, got -0.1"),
    ("kd.kd_weight", float("inf"), "kd.kd_weight: must be a finite number, got inf"),
    ("takd.lam", 1.1, "takd.lam: must be less than or equal to 1, got 1.1"),
    ("orc.promoted", 4, "orc.promoted: must be at most the number of students (3), got 4"),
    ("orc.group", {"pivot": "tiny_plain2_12"}, "orc: the name 'pivot' is reserved"),
    ("orc.group", {"a": "nowhere"}, "orc.group.a: unknown network 'nowhere'"),
    ("orc_single.group", "auto", "orc_single.group: auto requires methods.orc_single.after to be models/group"),
    ("orc.teachings.grop", True, "orc.teachings.grop: unknown key; nearest: group"),
    ("orc.teachings.group", DELETED, "orc.teachings.group: is missing"),
    ("orc.feedback", "all", "orc.feedback: must be 'loss', 'errors' or 'softmax', got 'all'"),
    ("orc.feedback_only", 1, "orc.feedback_only: must be a valid boolean, got 1"),
    ("orc.pivot_statistics", "kept", "orc.pivot_statistics: must be 'mixtures' or 'teacher', got 'kept'"),
    ("orc.normalise", "max", "orc.normalise: must be 'sum' or 'mean', got 'max'"),
    ("orc.elect", "epoch", "orc.elect: must be 'batch' or 'ema', got 'epoch'"),
    ("orc.elect_momentum", 1.0, "orc.elect_momentum: must be less than 1, got 1.0"),
    ("orc.elect_momentum", -0.1, "orc.elect_momentum: must be greater than or equal to 0, got -0.1"),
    ("orc.elect_momentum", DELETED, "orc.elect_momentum: is missing"),
    ("orc.teaching_mode", "batch", "orc.teaching_mode: must be 'train' or 'eval', got 'batch'"),
    ("dml.teaching_mode", DELETED, "dml.teaching_mode: is missing"),
    ("orc.init", "chain", "orc.init: must be 'scratch' or 'assistants', got 'chain'"),
    ("orc.init", "assistants", "orc.init: assistants requires methods.orc.after to be a chain with trained"),
    ("orc_single.init", "assistants", "orc_single.init: assistants requires methods.orc_single.after to be a chain"),
    ("dgkd.lam", 2.0, "dgkd.lam: must be"),
    ("dgkd.lam", {"teacher": 0.9, "ta1": 0.9, "ta9": 0.9}, "dgkd.lam.ta9: is not a guide"),
    ("dgkd.lam", {"teacher": 0.9}, "dgkd.lam: guide ta1 has no weight"),
    ("dgkd.drop", "two", "dgkd.drop: must be 'bernoulli' or 'one', got 'two'"),
    ("dgkd.drop", 1, "dgkd.drop: must be 'bernoulli' or 'one', got 1"),
    ("dgkd.drop", DELETED, "dgkd.drop: is missing"),
    ("dgkd.normalise", "code", "dgkd.normalise: must be 'sum', 'mean' or 'released', got 'code'"),
    ("sdgkd.survival", -0.1, "sdgkd.survival: must be greater than or equal to 0, got -0.1"),
    ("cooperative.members", {"auto": 1}, "cooperative.members.auto: must be greater than or equal to 2, got 1"),
    ("cooperative.members", {}, "cooperative.members: must have at least 2 entries, got {}"),
    *[
        (f"cooperative.members.{name}", MEMBER, f"cooperative.members.{name}: the name '{name}' is reserved; choose")
        for name in ("student", "teacher", "pivot")
    ],
    ("cooperative.members.a.keeps", 0.0, "cooperative.members.a.keeps: must be"),
    ("cooperative.members.a.keeps", "1of2", "cooperative.members.a.keeps: must be"),
    ("cooperative.members.a.arch", "nowhere", "cooperative.members.a.arch: unknown network 'nowhere'"),
    (
        "cooperative_raw.members",
        {"auto": 3},
        "cooperative_raw.members: unknown key; controls of cooperative share",
    ),
    ("cooperative.teachers", "best", "cooperative.teachers: must be 'certain' or 'all', got 'best'"),
    ("cooperative_raw.teachers", DELETED, "cooperative_raw.teachers: is missing"),
    ("cooperative.pool", "some", "cooperative.pool: must be"),
    ("data.storage", "stream", "data.storage: stream requires data.source to be folder or imagenet, got digits"),
    ("data.image_column", "a", "data.image_column: must be auto unless data.source is parquet, got digits"),
    ("data.label_column", "a", "data.label_column: must be auto unless data.source is parquet or table, got digits"),
    ("data.storage", "disk", "data.storage: must be 'memory' or 'stream' or auto, got 'disk'"),
    ("export.method", "kdd", "export.method: 'kdd' is not an entry of methods; choose one of scratch, kd"),
    ("export.method", "cooperative", "export.method: cooperative trains a group, not a student"),
    ("export.weights", "first", "export.weights: must be 'last' or 'best', got 'first'"),
    ("train.precision", "fp16", "train.precision: must be 'fp32', 'tf32' or 'bf16', got 'fp16'"),
    ("train.logit_store", "int8", "train.logit_store: must be 'off', 'fp16' or 'fp32', got 'int8'"),
    ("runtime.logit_store_gib", -1, "runtime.logit_store_gib: must be greater than or equal to 0, got -1"),
    ("runtime.threads", 0, "runtime.threads: must be greater than or equal to 1, got 0"),
    ("runtime.num_processes", 3, "train.batch_size: must be divisible by runtime.num_processes (3), got 32"),
]


def document():
    return YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())


def changed(key: str, value) -> dict:
    whole = document()
    *path, last = key.split(".")
    inside = whole
    for part in path:
        inside = inside[part]
    if value is DELETED:
        del inside[last]
    else:
        inside[last] = value
    return whole


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize(("key", "value", "message"), MISTAKES, ids=[f"{k}={v!r}"[:60] for k, v, _ in MISTAKES])
def test_mistake_is_a_one_line_error_that_names_its_key(key, value, message):
    with pytest.raises(ParamsError) as caught:
        params.validated(changed(key, value))
    lines = str(caught.value).splitlines()
    assert any(message in line for line in lines), lines
    assert all(line.startswith("params.yaml: ") and len(line) < 400 for line in lines)
    assert len(lines) <= 3


CHAIN = "models/chains/dgkd"
EMPTY = "orc.init: assistants requires a chain with trained assistants, but"
GROUPS = [
    ("auto", 3, CHAIN, []),
    ("auto", 2, "models/takd/ta1", []),
    ({"ta2": "tiny_plain2_16"}, 2, CHAIN, []),
    ({}, 1, "models/dgkd/teacher", []),
    *(
        ("auto", 1, f"models/{link}/teacher", [f"{EMPTY} models/{link}/teacher ends in the teacher"])
        for link in ("takd", "dgkd")
    ),
    ("auto", 4, CHAIN, ["orc.promoted: must be at most the number of students (3), got 4"]),
    ("auto", 3, "models/takd/ta1", ["orc.promoted: must be at most the number of students (2), got 3"]),
    (
        {"ta9": "tiny_plain2_16"},
        1,
        CHAIN,
        [f"orc.group.ta9: init assistants requires an assistant of this name in {CHAIN}, which has ta1, ta2"],
    ),
    (
        {"ta2": "tiny_plain2_16"},
        1,
        "models/takd/ta1",
        ["orc.group.ta2: init assistants requires an assistant of this name in models/takd/ta1, which has ta1"],
    ),
    (
        {"ta1": "tiny_plain2_16"},
        1,
        CHAIN,
        [
            "orc.group.ta1: init assistants requires the architecture of the assistant, tiny_plain2_32, "
            "got tiny_plain2_16"
        ],
    ),
]


@pytest.mark.parametrize(("group", "promoted", "after", "mistakes"), GROUPS)
def test_assistants_that_begin_in_orc_must_have_been_trained_in_its_chain(group, promoted, after, mistakes):
    whole = document()
    whole["methods"]["orc"]["after"] = after
    whole["orc"] |= {"init": "assistants", "group": group, "promoted": promoted}
    if not mistakes:
        params.validated(whole)
        return
    with pytest.raises(ParamsError) as caught:
        params.validated(whole)
    assert str(caught.value).splitlines() == [f"params.yaml: {mistake}" for mistake in mistakes]


def test_a_chain_without_assistants_has_none_that_could_begin_in_orc():
    whole = document()
    whole["student"]["after"] = "teacher"
    whole["methods"]["orc"]["after"] = CHAIN
    whole["orc"]["init"] = "assistants"
    with pytest.raises(ParamsError) as caught:
        params.validated(whole)
    assert str(caught.value).splitlines() == [f"params.yaml: {EMPTY} {CHAIN} ends in the teacher"]


AUTO = ["data.storage", "data.image_size", "data.limit", "data.validation", "data.image_column", "data.label_column"]
AUTO += ["train.lr", "train.pad", "train.flip", "teacher.epochs", "dml.peers", "orc.group"]


@pytest.mark.parametrize(("key", "word"), [*((key, "auto") for key in AUTO), ("teacher.checkpoint", "none")])
def test_null_is_an_error_that_names_the_word_to_write(key, word):
    with pytest.raises(ParamsError) as caught:
        params.validated(changed(key, None))
    assert str(caught.value) == f"params.yaml: {key}: null is not allowed: write {word}"


def test_every_null_is_reported_on_a_line_of_its_own():
    whole = document()
    keys = [*AUTO, "teacher.checkpoint"]
    for key in keys:
        section, name = key.split(".")
        whole[section][name] = None
    with pytest.raises(ParamsError) as caught:
        params.validated(whole)
    assert sorted(line.split(": ")[1] for line in str(caught.value).splitlines()) == sorted(keys)


def test_auto_and_none_are_the_defaults_of_all_optional_keys():
    values = params.validated(document())
    absent = {
        f"{section}.{key}"
        for section, value in values.items()
        if hasattr(type(value), "model_fields")
        for key in type(value).model_fields
        if getattr(value, key) is None
    }
    tune = {"tune.epochs", "tune.teacher_seed"}
    assert absent == {*AUTO, *tune, "data.label_noise", "teacher.checkpoint", "train.clip_grad_norm"}


def test_plain_parameters_round_trip_through_params_yaml(tmp_path):
    values = params.validated(document())
    plain = params.Params(values).plain()
    file = tmp_path / "params.yaml"
    with file.open("w") as out:
        YAML().dump(plain, out)
    assert params.validated(params.read(file)) == values
    assert plain["methods"]["kd"]["is"] == "kd" and plain["data"]["limit"] == "auto"


def test_control_is_an_optional_boolean_of_an_entry():
    whole = document()
    assert params.validated(whole)["methods"]["kd"].control is False
    assert params.validated(whole)["methods"]["kd_scaled"].control is True
    whole["methods"]["kd"]["control"] = "yes"
    with pytest.raises(ParamsError, match=r"methods\.kd\.control: must be a valid boolean, got 'yes'"):
        params.validated(whole)


@pytest.mark.parametrize("left_out", ["orc", "sdgkd"])
def test_a_control_may_have_the_weights_of_a_method_that_is_left_out(left_out):
    """sdgkd is not the name of a kind, so its section has the schema of any kind."""
    whole = document()
    whole["methods"]["orc_matched"]["weights_of"] = left_out
    del whole["methods"][left_out]
    assert params.validated(whole)["methods"]["orc_matched"].weights_of == left_out
    del whole[left_out]
    with pytest.raises(ParamsError, match=rf"weights_of: there is no section '{left_out}'"):
        params.validated(whole)


def test_several_mistakes_are_reported_together():
    whole = changed("train.lr", -1.0)
    whole["orc"]["beta"] = 2.0
    with pytest.raises(ParamsError) as caught:
        params.validated(whole)
    assert len(str(caught.value).splitlines()) == 2


def test_streaming_requires_an_image_size_and_excludes_padding():
    whole = document()
    whole["data"].update(source="folder", storage="stream")
    whole["train"]["pad"] = 4
    with pytest.raises(ParamsError) as caught:
        params.validated(whole)
    message = str(caught.value)
    assert (
        "data.image_size: required for a streamed folder" in message
        and "train.pad: must be auto for streamed images" in message
    )


def test_default_params_yaml_is_valid():
    params.validated(document())


def test_section_of_a_removed_method_may_remain():
    whole = document()
    for name in ("dml", "kd_scaled", "cooperative_raw"):
        del whole["methods"][name]
    params.validated(whole)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("train: [", "line 1"),
        ("a: 1\na: 2\n", "line 2: found duplicate key"),
        ("train:\n  lr: ${x}\n", "line 2: ${} is not supported"),
        ("- 1\n", "must be a mapping of section names to sections"),
    ],
)
def test_malformed_yaml_is_a_one_line_error_with_its_line_number(tmp_path, text, message):
    file = tmp_path / "params.yaml"
    file.write_text(text)
    with pytest.raises(ParamsError) as caught:
        params.read(file)
    assert message in str(caught.value) and len(str(caught.value).splitlines()) == 1


def test_numbers_are_parsed_as_dvc_writes_them(tmp_path):
    file = tmp_path / "params.yaml"
    file.write_text("a: 1e-3\nb: no\nc: +15\n")
    assert params.read(file) == {"a": 0.001, "b": "no", "c": 15}


def test_only_loaded_keys_can_be_read():
    loaded = params.load("student.arch", "methods.orc")
    assert loaded["student.arch"] == "tiny_plain2_12" and loaded["methods.orc"].is_ == "orc"
    with pytest.raises(KeyError):
        loaded["student"]
    assert params.load("methods.orc.is")["methods.orc.is"] == "orc"


def test_loading_an_unknown_method_is_a_one_line_error():
    with pytest.raises(ParamsError, match=r"methods\.ork: there is no such key; nearest: orc"):
        params.load("methods.ork")


@pytest.mark.parametrize("key", ["train.gamma", "orc.beta"])
def test_check_exits_with_2_without_traceback_or_output_file(tmp_path, key):
    for name in ("pipeline", "stages", "data"):
        os.symlink(ROOT / name, tmp_path / name)
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(changed(key, "x"), file)
    done = subprocess.run(
        [sys.executable, "-m", "stages.check"], cwd=tmp_path, capture_output=True, text=True, check=False
    )
    assert done.returncode == 2
    assert done.stderr.strip() == f"error: params.yaml: {key}: must be a valid number, got 'x'"
    assert not (tmp_path / ".params.ok").exists()
