"""Edits that can change results change the keys of checkpoints and cached logits; edits of text and display do not."""

import shutil
from pathlib import Path

import pytest

from pipeline.storage.code_digest import code_digest, import_closure

ROOT = Path(__file__).parents[2]
STAGE = ("stages/distill.py", "pipeline/methods/orc.py")  # the key of a finished seed
RUN = ("pipeline/training/session.py",)  # the key of cached logits


@pytest.fixture
def project(tmp_path):
    """A folder with a copy of the code."""
    for package in ("pipeline", "stages"):
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("__pycache__"))
    return tmp_path


def changes(project: Path, file: str, old: str, new: str, code: tuple[str, ...]) -> bool:
    """Whether an edit of a file changes the digest."""
    before = code_digest(project, code)
    text = (project / file).read_text()
    assert old in text, f"{file} does not contain {old!r}"
    (project / file).write_text(text.replace(old, new, 1))
    after = code_digest(project, code)
    (project / file).write_text(text)
    return before != after


@pytest.mark.parametrize("code", [STAGE, RUN], ids=["seed", "logits"])
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pipeline/core/losses.py", "tau**2", "tau**3"),
        ("pipeline/training/loop.py", "self.accelerator.backward(total)", "self.accelerator.backward(2 * total)"),
        ("pipeline/training/schedule.py", "0.5 * (1 +", "0.4 * (1 +"),
        ("pipeline/data/views.py", "draws[2] < 0.5", "draws[2] < 0.6"),
        ("pipeline/core/randomness.py", "digest_size=8", "digest_size=16"),
        ("pipeline/models/plain.py", "BatchNorm2d", "InstanceNorm2d"),
        ("pipeline/runtime/determinism.py", "cudnn.benchmark = False", "cudnn.benchmark = True"),
    ],
)
def test_editing_computations_changes_the_key(project, file, old, new, code):
    assert changes(project, file, old, new, code)


@pytest.mark.parametrize("code", [STAGE, RUN], ids=["seed", "logits"])
@pytest.mark.parametrize(
    ("file", "old", "new"),
    [
        ("pipeline/progress.py", "steps/s", "updates/s"),  # the progress display
        ("pipeline/progress.py", "self.steps += 1", "self.steps += 2"),  # and its code
        ("pipeline/training/run.py", "out of memory on", "no memory left on"),  # an error message
        ("pipeline/storage/checkpoints.py", "is corrupt: using", "is damaged: using"),  # a log message
        ("pipeline/training/loop.py", '"""Train a leg', '"""Train one leg'),  # a docstring
        ("pipeline/training/loop.py", "# The losses of", "# Losses of"),  # a comment
        ("pipeline/evaluation/page/page.html.j2", "<", " <"),  # the report's template
        ("pipeline/evaluation/table.py", "def ", "def  "),  # a package that training does not import
        ("pipeline/params/load.py", "is missing", "is absent"),  # reads parameters, whose values are part of the key
        ("pipeline/errors.py", "exit_code = 2", "exit_code = 3"),
    ],
)
def test_editing_text_or_display_keeps_the_key(project, file, old, new, code):
    assert not changes(project, file, old, new, code)


def test_editing_a_method_changes_only_the_keys_of_its_own_seeds(project):
    edit = ("pipeline/methods/kd.py", "self.kd_weight", "self.ce_weight")
    assert changes(project, *edit, ("stages/distill.py", "pipeline/methods/kd.py"))
    assert not changes(project, *edit, STAGE) and not changes(project, *edit, RUN)


def test_import_closure_includes_imports_within_functions():
    closure = import_closure(ROOT, STAGE)
    assert {"pipeline/training/loop.py", "pipeline/runtime/determinism.py", "pipeline/core/losses.py"} <= set(closure)
    assert not [file for file in closure if file.startswith(("pipeline/evaluation", "pipeline/export"))]


@pytest.mark.parametrize(
    ("line", "edited"),
    [
        ("from .edited import f", "def f(): return 2"),  # a relative import
        ("from . import edited", "def f(): return 2"),
        ("import torch\ntorch.log(p, out=p)", None),  # a statement that is no message
        ("raise Found(1)", None),  # an exception that carries a value
        ("print(n := 1)", None),
    ],
)
def test_what_only_looks_like_a_message_or_is_imported_relatively_is_part_of_the_key(project, line, edited):
    module = project / "pipeline/methods/mine.py"
    module.write_text(line + "\n")
    (project / "pipeline/methods/edited.py").write_text("def f(): return 1\n")
    before = code_digest(project, ["pipeline/methods/mine.py"])
    if edited:
        (project / "pipeline/methods/edited.py").write_text(edited + "\n")
    else:
        module.write_text(line.replace("p,", "2 * p,").replace("1", "2") + "\n")
    assert code_digest(project, ["pipeline/methods/mine.py"]) != before


def test_a_packages_init_file_is_part_of_the_key(project):
    before = code_digest(project, STAGE)
    (project / "pipeline/__init__.py").write_text("import torch\n")
    assert code_digest(project, STAGE) != before
