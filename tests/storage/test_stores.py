"""The checkpoint store that runs share: keys, locks, and eviction."""

import os
import shutil
import subprocess
import sys
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cases import METHODS
from pictures import section
from run_endings import checkpoint_in
from safetensors.torch import load_file
from toy_run import RECIPE, same

from pipeline.core.interface import Network
from pipeline.data.prepare import prepare
from pipeline.data.sources.open import open_source
from pipeline.errors import UserError
from pipeline.storage.checkpoints import Checkpoint, prune
from pipeline.storage.folders import discard
from pipeline.storage.store import MARK_TEXT, Store, is_own, mark
from pipeline.training.seeds import train_seeds
from pipeline.training.stage import Participants, Stage

ROOT = Path(__file__).parents[2]


def test_second_run_of_the_same_key_reports_that_it_waits(tmp_path):
    log, entered = [], threading.Event()
    second = checkpoint_in(tmp_path, log=log.append)

    def wait() -> None:
        with second.locked(wait=True):
            entered.set()

    with checkpoint_in(tmp_path).locked(wait=True):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.wait(0.5)
        assert log == ["another run of distill-kd with the same key is in progress: waiting for it"]
    thread.join(timeout=30)
    assert entered.is_set()


def test_a_folder_that_is_evicted_while_its_run_waits_is_the_stores_again(tmp_path):
    entered = threading.Event()
    first, second = checkpoint_in(tmp_path), checkpoint_in(tmp_path, log=lambda line: None)

    def wait() -> None:
        with second.locked(wait=True):
            entered.set()

    with first.locked(wait=True):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.wait(0.5)
        shutil.rmtree(first.folder)
    thread.join(timeout=30)
    assert entered.is_set() and is_own(second.folder)


def test_second_run_of_the_same_key_that_may_not_wait_is_an_error(tmp_path):
    with checkpoint_in(tmp_path).locked(wait=True):
        refused = pytest.raises(
            UserError, match="another run of distill-kd with the same key is in progress: run the same"
        )
        with refused, checkpoint_in(tmp_path).locked(wait=False):
            raise AssertionError("the lock was acquired twice")


def entry(root: Path, key: str) -> Path:
    """A marked entry of five bytes in the run `run` of a store."""
    folder = root / "run" / key
    folder.mkdir(parents=True)
    (folder / "file").write_bytes(b"12345")
    mark(folder)
    return folder


def test_folder_removed_while_measuring_is_ignored(tmp_path, monkeypatch):
    """Other runs add and remove files while the size of the store is measured."""
    kept, removed = entry(tmp_path, "0" * 32), entry(tmp_path, "1" * 32)
    store = Store(tmp_path, grouped=True, log=print)
    monkeypatch.setattr(store, "folders", lambda: iter([removed, kept]))
    discard(removed)
    assert store.entries() == {kept: 5 + len(MARK_TEXT)}


def test_old_hidden_folders_of_killed_runs_are_swept(tmp_path):
    store = Store(tmp_path, grouped=True, log=print)
    taken = tmp_path / "run" / f".taken-{'a' * 8}"
    taken.mkdir(parents=True)
    mark(taken)
    store.sweep()
    assert taken.exists()
    os.utime(taken, (0, 0))
    store.sweep()
    assert not taken.exists()


def test_two_runs_can_evict_at_the_same_time(tmp_path, monkeypatch):
    old, new = entry(tmp_path, "0" * 32), entry(tmp_path, "1" * 32)
    os.utime(old, (0, 0))
    store = Store(tmp_path, grouped=True, log=print)
    sizes = store.entries()
    discard(old)
    monkeypatch.setattr(store, "entries", lambda: sizes)
    prune(store, sizes[new] / 2**30, [])
    assert {f.name for f in (tmp_path / "run").iterdir() if f.is_dir()} == {new.name}


def test_a_run_in_progress_pushes_no_finished_run_out(tmp_path):
    finished, running = entry(tmp_path, "0" * 32), entry(tmp_path, "1" * 32)
    (running / "checkpoint").write_bytes(bytes(10**6))
    store = Store(tmp_path, grouped=True, log=print)
    size = store.entries()[finished]
    with Checkpoint(running).locked(wait=False):
        prune(store, size / 2**30, [])
        assert set(store.entries()) == {finished, running}
    os.utime(finished, (0, 0))
    prune(store, store.entries()[running] / 2**30, [])
    assert set(store.entries()) == {running}


def test_a_run_that_ends_clears_its_checkpoints_before_another_goes(project):
    first = stage_of(project)
    train(first, 0)
    size = sum(first.store.entries().values())
    train(stage_of(project, gib=2.02 * size / 2**30), 1)
    assert first.checkpoint(0).is_finished() and first.checkpoint(1).is_finished()


@pytest.fixture
def project(tmp_path, monkeypatch):
    """The working directory of a stage: the code, the prepared digits, and a teacher's weights."""
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    data = section("digits", ROOT / "data/digits", limit=40, validation=20)
    prepare(open_source(data, 0), data, tmp_path / "prepared")
    (tmp_path / "teacher.safetensors").write_bytes(b"weights")
    return tmp_path


def stage_of(folder: Path, *, alpha=0.9, threads=1, gib=1.0) -> Stage:
    views = {"pad": None, "flip": None, "augment": "none", "random_erasing": 0.0}
    recipe = SimpleNamespace(**RECIPE, **views, precision="fp32", logit_store="off")
    stores = {"logit_store_gib": 1, "checkpoint_gib": gib, "checkpoint_minutes": 1}
    runtime = SimpleNamespace(threads=threads, num_processes=1, workers=0, tracker="none", **stores)
    return Stage(
        "stages.distill",
        "kd",
        recipe=recipe,
        parameters={"kd": {"alpha": alpha}},
        code=("pipeline/methods/kd.py",),
        runtime=runtime,
        data=folder / "prepared",
        weights=folder / "teacher.safetensors",
    )


def train(stage: Stage, *seeds: int) -> list[Path]:
    """The outputs of these seeds of a student that is trained alone."""
    alone = Participants(
        METHODS["scratch"], {"student": Network("tiny_plain2_12")}, {"student": "student"}, "tiny_plain2_12"
    )
    return list(train_seeds(stage, seeds, lambda seed: alone).values())


def key(folder: Path, *, seed=0, **decides) -> str:
    return stage_of(folder, **decides).key(seed)


def test_checkpoint_key_depends_on_exactly_what_determines_the_result(project):
    before = key(project)
    assert key(project) == before

    def edited(name: str, content: str) -> str:
        file = project / name
        original = file.read_bytes()
        file.write_bytes(original + content.encode())
        try:
            return key(project)
        finally:
            file.write_bytes(original)

    others = [
        key(project, seed=1),
        key(project, alpha=0.8),
        key(project, threads=2),
        edited("teacher.safetensors", "x"),
        edited("prepared/meta.json", " "),
        edited("pipeline/training/loop.py", "X = 1\n"),
        edited("pipeline/methods/kd.py", "X = 1\n"),
        edited("pipeline/core/losses.py", "X = 1\n"),
        edited("pipeline/data/views.py", "X = 1\n"),
    ]
    torch.set_num_threads(1)
    assert len({before, *others}) == 1 + len(others)
    for same_key in ("pipeline/methods/orc.py", "pipeline/evaluation/table.py", "pipeline/params/schema.py"):
        assert edited(same_key, "X = 1\n") == before


def test_checkpoint_key_uses_the_code_at_the_start_of_the_stage(project):
    """An edit while an earlier seed trains does not change the keys of this process."""
    stage = stage_of(project)
    before = stage.key(1)
    with (project / "pipeline/training/loop.py").open("a") as file:
        file.write("X = 1\n")
    assert stage.key(1) == before != key(project, seed=1)


def test_a_stage_that_finds_its_seeds_imports_neither_torch_nor_timm(project):
    train(stage_of(project), 0, 1)
    code = f"""
import sys
sys.path.insert(0, {str(ROOT / "tests/support")!r})
from types import SimpleNamespace
from pathlib import Path
from pipeline.training.seeds import train_seeds
from pipeline.training.stage import Stage
stage = Stage(
    "stages.distill", "kd", recipe=SimpleNamespace(precision="fp32"), parameters={{"kd": {{"alpha": 0.9}}}},
    code=("pipeline/methods/kd.py",), runtime=SimpleNamespace(threads=1, num_processes=1),
    data=Path({str(project / "prepared")!r}), weights=Path({str(project / "teacher.safetensors")!r}),
)
assert len(train_seeds(stage, [0, 1], None)) == 2
print(*[name for name in ("torch", "timm", "accelerate", "matplotlib") if name in sys.modules])
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("already trained") == 2 and done.stdout.splitlines()[-1] == ""


def test_eviction_keeps_the_outputs_of_finished_seeds_that_a_stage_still_needs(project):
    """Whether another run or the stage's own next seed evicts them, and whether the seed was trained or found."""
    stage = stage_of(project, gib=1e-9)
    (first,) = train(stage, 0)
    (folder,) = (f for f in stage.store.root.glob("distill-kd/[!.]*") if f.is_dir())
    discard(folder)
    train(stage, 1)
    again = stage_of(project, gib=1e-9)
    (second,) = train(again, 1)  # found in the store
    train(again, 2)
    train(stage_of(project, gib=1e-9), 3)
    for outs in (first, second):
        assert {f.name for f in outs.iterdir()} == {"networks", "history.csv", "cost.json", "manifest.json"}
        assert load_file(outs / "networks/student.last.safetensors")
    assert len([f for f in stage.store.root.glob("distill-kd/[!.]*") if f.is_dir()]) == 1


def flip_a_bit(file: Path) -> None:
    """Flip one bit in the last byte of a file."""
    content = bytearray(file.read_bytes())
    content[-1] ^= 1
    file.write_bytes(content)


DAMAGES = {
    "networks/student.last.safetensors is damaged": lambda out: flip_a_bit(out / "networks/student.last.safetensors"),
    "networks/student.best.safetensors is damaged": lambda out: os.truncate(
        out / "networks/student.best.safetensors", 100
    ),
    "networks/networks.json is damaged": lambda out: (out / "networks/networks.json").write_text(""),
    "cost.json is missing": lambda out: (out / "cost.json").unlink(),
    "history.csv is damaged": lambda out: os.truncate(out / "history.csv", (out / "history.csv").stat().st_size // 2),
    "manifest.json is missing": lambda out: (out / "manifest.json").unlink(),
    "manifest.json cannot be read (Expecting": lambda out: (out / "manifest.json").write_text("{"),
    "manifest.json cannot be read (maximum": lambda out: (out / "manifest.json").write_text("[" * 100_000),
    "networks/other.npy was added": lambda out: (out / "networks/other.npy").write_bytes(b"1"),
}


def test_a_finished_seed_that_is_damaged_is_reported_and_trained_again(project, capsys):
    (first,) = train(stage_of(project), 0)
    weights = {name: (first / "networks" / name).read_bytes() for name in os.listdir(first / "networks")}
    for said, damage in DAMAGES.items():
        stage = stage_of(project)
        (finished,) = stage.store.root.glob("distill-kd/*/finished")
        for file in [f for f in finished.rglob("*") if f.is_file()]:  # break the hard links of the outputs above
            content = file.read_bytes()
            file.unlink()
            file.write_bytes(content)
        damage(finished)
        capsys.readouterr()
        (again,) = train(stage, 0)
        assert f"the outputs of distill-kd in the store are damaged ({said}" in capsys.readouterr().out
        assert {name: (again / "networks" / name).read_bytes() for name in os.listdir(again / "networks")} == weights
    train(stage_of(project), 0)
    assert "already trained" in capsys.readouterr().out


def test_runs_with_different_keys_resume_from_their_own_checkpoints(toy, tmp_path):
    """Two keys in one store: each run resumes from the checkpoint of its own key."""
    stores = {seed: Checkpoint(tmp_path / "distill-kd" / f"key-{seed}", log=print) for seed in (0, 1)}
    for seed, store in stores.items():
        store.folder.mkdir(parents=True)
        toy.run(METHODS["kd"], toy.start, checkpoint=store, seed=seed).train()
    for seed, store in stores.items():
        again = toy.run(METHODS["kd"], toy.start, checkpoint=store, seed=seed).train()
        whole = toy.run(METHODS["kd"], toy.start, seed=seed).train()
        assert same(again.networks["student"].last, whole.networks["student"].last)
        assert store.files()
