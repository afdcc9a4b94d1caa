"""A hostile value in params.yaml is refused in one line for each mistake: no traceback, no hang, no acceptance."""

from copy import deepcopy
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.errors import ParamsError
from pipeline.params import load as params

ROOT = Path(__file__).parents[2]
DOCUMENT = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
LONGEST_LINE = 400
pytestmark = pytest.mark.timeout(30)


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    """Rules look for files of the project."""
    monkeypatch.chdir(ROOT)


def lines_of(caught) -> list[str]:
    """The lines of an error: not empty, bounded, free of control characters, and naming the file."""
    lines = str(caught.value).split("\n")
    assert all(line.isprintable() and line.startswith("params.yaml") and len(line) < LONGEST_LINE for line in lines)
    return lines


def refused_value(key: str, value) -> list[str]:
    """The lines of the error about a document in which one dotted key has another value."""
    whole = deepcopy(DOCUMENT)
    *path, last = key.split(".")
    inside = whole
    for part in path:
        inside = inside[part]
    inside[last] = value
    with pytest.raises(ParamsError) as caught:
        params.validated(whole)
    return lines_of(caught)


DEEP: list = []
for _ in range(2000):
    DEEP = [DEEP]
HUGE = 10**6000
NAME = "n" * 5000
VALUES = [
    *[("seeds", value, "seeds.0: must be a valid integer") for value in ([True], ["0"], [0.0], [None], [[0]])],
    ("tune.trials", 0, "tune.trials: must be greater than or equal to 1"),
    ("tune.trials", 10**9, "tune.trials: must be less than or equal to 10000"),
    ("tune.trials", "8", "tune.trials: must be a valid integer"),
    ("tune.seeds", [], "tune.seeds: must have at least 1"),
    ("tune.seeds", [-1], "tune.seeds.0: must be greater than or equal to 0"),
    ("tune.seeds", list(range(100, 300)), "tune.seeds: must have at most 100 entries"),
    ("tune.seeds", [100, 100], "tune.seeds: must differ from each other"),
    ("tune.seeds", [100, 0], "tune.seeds: must not contain any of seeds"),
    ("tune.epochs", 0, "tune.epochs: must be greater than or equal to 1 or auto, got 0"),
    ("tune.epochs", None, "tune.epochs: null is not allowed: write auto"),
    ("tune.teacher_seed", 7, "tune.teacher_seed: must be auto or one of seeds"),
    ("tune.teacher_seed", "first", "tune.teacher_seed: must be a valid integer or auto"),
    ("seeds", [2**63], "seeds.0: must be less than or equal to"),
    ("seeds", [HUGE], "seeds.0: must be less than or equal to"),
    ("seeds", list(range(1001)), "seeds: must have at most 1000 entries"),
    ("seeds", {"a": 0}, "seeds: must be a valid list"),
    ("seeds", DEEP, "seeds.0: must be a valid integer"),
    *[("methods.kd.is", value, "methods.kd.is: must be text") for value in (["kd"], {"kd": 1}, 3, None)],
    ("methods.kd.is", "", "methods.kd.is: "),
    ("methods.kd.is", NAME, "methods.kd.is: "),
    ("methods.kd.is", "kd\nx", "methods.kd.is: unknown method 'kd\\nx'"),
    ("methods.kd.after", "models/teacher\n", "methods.kd.after: must be text without control characters"),
    ("methods.kd.control", 1, "methods.kd.control: must be a valid boolean"),
    ("methods.takd", {"is": "kd", "after": "models/teacher"}, "methods.takd.is: must be takd, because"),
    ("methods.cooperative", {"is": "kd", "after": "models/teacher"}, "methods.cooperative.is: must be cooperative"),
    ("cooperative.members.a.keeps", "3/2", "cooperative.members.a.keeps: must be"),
    ("cooperative.members.a.keeps", "1/99999999", "cooperative.members.a.keeps: must be"),
    ("cooperative.members.a.keeps", "1/1001", "cooperative.members.a.keeps: must be"),
    ("cooperative.members.a.keeps", "1/2\n", "cooperative.members.a.keeps: must be"),
    ("cooperative.members.a.keeps", "\u0661/\u0662", "cooperative.members.a.keeps: must be"),
    ("cooperative.members.a.keeps", True, "cooperative.members.a.keeps: must be"),
    ("cooperative.members.a.lacks", [True], "cooperative.members.a.lacks.0: must be"),
    ("cooperative.members.a.lacks", ["a\nb"], "cooperative.members.a.lacks.0: must be"),
    ("cooperative.members.a.lacks", [HUGE], "cooperative.members.a.lacks.0: must be"),
    ("cooperative.step_size", 1e9, "cooperative.step_size: must be less than or equal to 1000000"),
    ("cooperative.steps", 10**9, "cooperative.steps: must be less than or equal to 1000000"),
    ("cooperative.proximity", 1e300, "cooperative.proximity: must be less than or equal to"),
    ("cooperative.tolerance", float("nan"), "cooperative.tolerance: must be a finite number"),
    ("runtime.threads", 1_000_000, "runtime.threads: must be less than or equal to 256"),
    ("runtime.num_processes", 2048, "runtime.num_processes: must be less than or equal to 1024"),
    ("runtime.num_processes", 32, "train.batch_size: must be at least 2 for each of the 32 runtime.num_processes"),
    ("runtime.workers", 257, "runtime.workers: must be less than or equal to 256"),
    ("runtime.checkpoint_minutes", 1e7, "runtime.checkpoint_minutes: must be less than"),
    ("runtime.checkpoint_gib", 1e7, "runtime.checkpoint_gib: must be less than"),
    ("runtime.logit_store_gib", 1e7, "runtime.logit_store_gib: must be less than"),
    ("kd.temperature", 1e-9, "kd.temperature: must be greater than or equal to 0.001"),
    ("kd.temperature", 1001, "kd.temperature: must be less than or equal to 1000"),
    ("kd.temperature", HUGE, "kd.temperature: must be"),
    ("kd.temperature", DEEP, "kd.temperature: must be"),
    ("kd.kd_weight", 1e7, "kd.kd_weight: must be less than or equal to 1000000"),
    ("dml.weight", 1e7, "dml.weight: must be less than or equal to 1000000"),
    ("dml.peers", {f"p{i}": "tiny_plain2_12" for i in range(101)}, "dml.peers: must have at most 100 entries"),
    ("orc.mixup_alpha", 1e-300, "orc.mixup_alpha: must be greater than or equal to 0.001"),
    ("orc.pivot_lr_scale", 1e7, "orc.pivot_lr_scale: must be less than"),
    ("dgkd.lam", {"teacher": "x"}, "dgkd.lam"),
    ("train.lr", 101, "train.lr: must be less than or equal to 100"),
    ("train.weight_decay", 1.5, "train.weight_decay: must be less than or equal to 1"),
    ("train.pad", 257, "train.pad: must be less than or equal to 256 or auto"),
    ("train.epochs", 10**12, "train.epochs: must be less than or equal to 1000000"),
    ("train.epochs", HUGE, "train.epochs: must be less than or equal to 1000000"),
    ("train.batch_size", 1, "train.batch_size: must be greater than or equal to 2"),
    ("train.batch_size", 10**7, "train.batch_size: must be less than or equal to 1000000"),
    ("train.milestones", [i / 1000 for i in range(1, 200)], "train.milestones: must have at most 100 entries"),
    ("train.milestones", [True], "train.milestones.0: must be a valid number"),
    ("train.seed", 2**63, "train.seed: must be less than or equal to 9223372036854775807"),
    ("data.seed", 2**63, "data.seed: must be less than or equal to 9223372036854775807"),
    ("data.seed", True, "data.seed: must be a valid integer, got True"),
    ("data.image_size", 0, "data.image_size: must be greater than or equal to 1 or auto"),
    ("data.image_size", 4097, "data.image_size: must be less than or equal to 4096 or auto"),
    ("data.limit", 10**10, "data.limit: must be less than or equal to"),
    ("data.root", "", "data.root: must be text, not empty"),
    ("data.root", "a\0b", "data.root: must be text without control characters, got 'a\\x00b'"),
    ("data.root", "a\nb", "data.root: must be text without control characters, got 'a\\nb'"),
    ("data.root", "a\ud800b", "data.root: must be"),
    ("data.root", NAME, "data.root: must be a path of at most 4000 bytes whose parts have at most 255"),
    ("data.root", "a/" * 3000, "data.root: must be a path of at most 4000 bytes"),
    ("data.image_column", "a\u2028b", "data.image_column: must be text without control characters or auto"),
    ("data.label_column", NAME, "data.label_column: must be text of at most 1000 characters or auto"),
    ("teacher.checkpoint", "a\0b", "teacher.checkpoint: must be text without control characters or none"),
    ("teacher.checkpoint", NAME, "teacher.checkpoint: must be a path"),
    ("teacher.checkpoint", "a" * 255, "teacher.checkpoint: the file 'aaa"),
    ("teacher.checkpoint", [], "teacher.checkpoint: must be text or none, got []"),
    ("teacher.arch", "a\nb", "teacher.arch: must be text without control characters, got 'a\\nb'"),
    ("teacher.arch", "resnet18.\x1b[2J", "teacher.arch: must be text without control characters"),
    ("teacher.arch", NAME, "teacher.arch: must be text of at most 200 characters"),
    ("teacher.epochs", -1, "teacher.epochs: must be greater than or equal to 0 or auto"),
    ("assistants." + NAME, {"arch": "tiny_plain2_12", "after": "teacher"}, "must be text of at most 100 characters"),
    ("assistants.a\nb", {"arch": "tiny_plain2_12", "after": "teacher"}, "assistants.'a\\nb': must be a name of"),
    ("methods.a\x1bb", {"is": "kd", "after": "models/teacher"}, "methods.'a\\x1bb': must be a name of"),
    ("a\nb", {}, "'a\\nb': unknown section"),
    ("train.a\nb", {}, "train.'a\\nb': unknown key"),
    (NAME, {}, "unknown section"),
    ("student.after", "ta1\n", "student.after: must be a name of letters"),
    ("export.method", None, "export.method: must be text, got null"),
    # ---- surprising objects ----
    *[
        (section, value, f"{section}: must be")
        for section in DOCUMENT
        for value in (None, [], "x", 3, True, [{}], DEEP)
        if section != "seeds"
    ],
    ("seeds", None, "seeds: must be a valid list, got null"),
    ("seeds", "x", "seeds: must be a valid list, got 'x'"),
    ("seeds", True, "seeds: must be a valid list, got True"),
    *[(section, {}, f"{section}.") for section in DOCUMENT if section not in ("methods", "seeds", "assistants")],
    ("methods", {}, "methods: must have at least 1 entries"),
    ("methods.kd", None, "methods.kd: must be a valid dictionary, got null"),
    ("methods.kd", [], "methods.kd: must be a valid dictionary, got []"),
    ("assistants.ta1", None, "assistants.ta1: must be a valid dictionary, got null"),
    ("orc.teachings", None, "orc.teachings: must be a valid dictionary, got null"),
    ("orc.group", [], "orc.group: must be a valid dictionary or auto, got []"),
    ("cooperative.members", None, "cooperative.members: must be a valid dictionary, got null"),
    ("cooperative.members", [], "cooperative.members: must be a valid dictionary, got []"),
    ("cooperative.members", 3, "cooperative.members: must be a valid dictionary, got 3"),
    ("cooperative.members", {"auto": True}, "cooperative.members.auto: must be a valid integer, got True"),
    ("cooperative.members", {"auto": float("1e400")}, "cooperative.members.auto: must be a valid integer, got inf"),
    ("cooperative.members", {"auto": 10**9}, "cooperative.members.auto: must be less than or equal to 1000"),
    ("cooperative.members", {"auto": None}, "cooperative.members.auto: must be a valid integer, got null"),
    ("cooperative.members", {"auto": 3, "b": 1}, "cooperative.members.b: unknown key"),
    ("cooperative.members", {"a": None, "b": 3}, "cooperative.members.a: must be a valid dictionary, got null"),
]


@pytest.mark.parametrize(
    ("key", "value", "message"), VALUES, ids=[f"{i}-{key[:40]!a}" for i, (key, _, _) in enumerate(VALUES)]
)
def test_unusable_value_is_one_line_that_names_its_key(key, value, message):
    lines = refused_value(key, value)
    assert any(message in line for line in lines), lines


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("cooperative.members.a.keeps", "2/1000"),
        ("cooperative.members", {"auto": 4}),
        ("runtime.num_processes", 16),
        ("kd.temperature", 0.001),
        ("kd.temperature", 1000),
        ("seeds", [2**63 - 1]),
        ("seeds", list(range(1000, 2000))),
        ("data.image_size", 4096),
        ("train.lr", 100),
        ("data.root", "data/" + "ü" * 127),
        ("assistants", {"ta1": {"arch": "tiny_plain2_32", "after": "teacher"}, "ta2": {"arch": "a", "after": "ta1"}}),
    ],
)
def test_values_at_their_bounds_are_accepted(key, value):
    whole = deepcopy(DOCUMENT)
    *path, last = key.split(".")
    inside = whole
    for part in path:
        inside = inside[part]
    if key == "assistants":
        value["ta2"]["arch"] = "tiny_plain2_16"
    inside[last] = value
    params.validated(whole)


def test_many_mistakes_are_counted_and_found_without_delay():
    whole = deepcopy(DOCUMENT)
    whole["assistants"] = {f"ta{i}": {"arch": f"resnet{i}x", "after": "teacher"} for i in range(100)}
    whole["student"]["after"] = "ta1"
    with pytest.raises(ParamsError) as caught:
        params.validated(whole)
    lines = lines_of(caught)
    assert len(lines) == 21 and lines[-1].endswith("more")


def test_too_many_sections_are_one_line():
    with pytest.raises(ParamsError) as caught:
        params.validated({**DOCUMENT, **{f"s{i}": {} for i in range(1000)}})
    (line,) = lines_of(caught)
    assert "must have at most 1000 sections" in line
