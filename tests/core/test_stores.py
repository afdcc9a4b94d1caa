"""The store of checkpoints, which runs share: who finds what in it, who waits for whom, and how room is made."""

import os
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cases import METHODS
from endings import checkpoint_in
from pictures import section
from safetensors.torch import load_file
from workshop import RECIPE, same

from pipeline.core import checkpoint as checkpoint_module
from pipeline.core.checkpoint import Checkpoint, prune
from pipeline.core.folders import discard, sizes_by_age, sweep
from pipeline.core.session import Session
from pipeline.core.vocabulary import Network
from pipeline.data.prepare import prepare
from pipeline.data.sources.open import open_source
from pipeline.errors import UserError

ROOT = Path(__file__).parents[2]


def test_a_second_run_of_the_same_key_says_that_it_waits_and_waits(tmp_path):
    said, entered = [], threading.Event()
    second = checkpoint_in(tmp_path, say=said.append)

    def wait() -> None:
        with second.held(wait=True):
            entered.set()

    with checkpoint_in(tmp_path).held(wait=True):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.wait(0.5)
        assert said == ["another run of distill-kd with the same key is under way: waiting for it"]
    thread.join(timeout=30)
    assert entered.is_set()


def test_a_second_run_that_cannot_wait_says_so(tmp_path):
    with checkpoint_in(tmp_path).held(wait=True):
        refused = pytest.raises(
            UserError, match="another run of distill-kd with the same key is under way: when it has"
        )
        with refused, checkpoint_in(tmp_path).held(wait=False):
            raise AssertionError("it was let in")


def test_a_folder_that_vanished_counts_nothing(tmp_path):
    """Other runs add and remove files while one asks how large the store is."""
    (tmp_path / "run/key").mkdir(parents=True)
    (tmp_path / "run/key/file").write_bytes(b"12345")
    gone = tmp_path / "run/gone"
    assert sizes_by_age([gone, tmp_path / "run/key"]) == {tmp_path / "run/key": 5}


def test_what_is_removed_is_gone_at_once_or_there_as_a_whole(tmp_path, monkeypatch):
    """A run is killed while it removes a folder; another has removed it already; the next sweeps."""
    folder = tmp_path / "run/key"
    (folder / "finished").mkdir(parents=True)

    def killed(*_, **__):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(shutil, "rmtree", killed)
        discard(folder)
    assert not folder.exists() and len(list((tmp_path / "run").iterdir())) == 1
    discard(folder)
    (tmp_path / "run/.taken-now").mkdir()
    prune(tmp_path, 1.0, [])
    assert [f.name for f in (tmp_path / "run").iterdir()] == [".taken-now"]
    os.utime(tmp_path / "run/.taken-now", (0, 0))
    sweep((tmp_path / "run").iterdir())
    assert not list((tmp_path / "run").iterdir())


def test_two_runs_that_make_room_at_once(tmp_path, monkeypatch):
    for name in ("old", "new"):
        (tmp_path / "run" / name).mkdir(parents=True)
        (tmp_path / "run" / name / "file").write_bytes(b"1234")
    os.utime(tmp_path / "run/old", (0, 0))
    plain = checkpoint_module.sizes_by_age

    def meanwhile(folders):
        sizes = plain(folders)
        discard(tmp_path / "run/old")
        return sizes

    monkeypatch.setattr(checkpoint_module, "sizes_by_age", meanwhile)
    prune(tmp_path, 4 / 2**30, [])
    assert {f.name for f in (tmp_path / "run").iterdir() if f.is_dir()} == {"new"}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Where a stage runs: the code, prepared digits, a teacher's weights."""
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    data = section("digits", ROOT / "data/digits", limit=40, validation=20)
    prepare(open_source(data, 0), data, tmp_path / "prepared")
    (tmp_path / "teacher.safetensors").write_bytes(b"weights")
    return tmp_path


def session_of(folder: Path, *, alpha=0.9, threads=1, gib=1.0) -> Session:
    recipe = SimpleNamespace(**RECIPE, precision="fp32", logit_store="off", pad=None, flip=None)
    runtime = SimpleNamespace(threads=threads, workers=0, logit_store_gib=1, checkpoint_gib=gib, checkpoint_minutes=1)
    return Session(
        "distill-kd",
        recipe=recipe,
        decides={"kd": {"alpha": alpha}},
        code=("pipeline/methods/kd.py",),
        runtime=runtime,
        data=folder / "prepared",
    )


def networks_of(folder: Path, arch: str = "tiny_plain2_12") -> dict[str, Network]:
    teacher = Network("tiny_plain2_32", weights=folder / "teacher.safetensors", learns=False)
    return {"student": Network(arch), "teacher": teacher}


def key(folder: Path, *, seed=0, arch="tiny_plain2_12", **decides) -> str:
    return session_of(folder, **decides).key(seed, networks_of(folder, arch))


def test_a_checkpoint_is_found_by_all_that_decides_a_result_and_nothing_else(project):
    before = key(project)
    assert key(project) == before

    def edited(name: str, content: str) -> str:
        file = project / name
        kept = file.read_bytes()
        file.write_bytes(kept + content.encode())
        try:
            return key(project)
        finally:
            file.write_bytes(kept)

    others = [
        key(project, seed=1),
        key(project, alpha=0.8),
        key(project, threads=2),
        key(project, arch="tiny_plain2_16"),
        edited("teacher.safetensors", "x"),
        edited("prepared/meta.json", " "),
        edited("pipeline/core/engine.py", "# x"),
        edited("pipeline/methods/kd.py", "# x"),
    ]
    torch.set_num_threads(1)
    assert len({before, *others}) == 1 + len(others)
    for same_key in ("pipeline/methods/orc.py", "pipeline/evaluation/table.py", "pipeline/params/schema.py"):
        assert edited(same_key, "# x") == before


def test_a_seed_is_known_by_the_code_that_trains_it(project):
    """A file is edited while an earlier seed is trained."""
    session = session_of(project)
    before = session.key(1, networks_of(project))
    with (project / "pipeline/core/engine.py").open("a") as file:
        file.write("# x")
    assert session.key(1, networks_of(project)) == before != key(project, seed=1)


def test_what_a_stage_took_stays_when_the_store_makes_room(project):
    """For another run, or for its own next seed; found again in the store or not."""
    start = {"student": Network("tiny_plain2_12")}
    session = session_of(project, gib=1e-9)
    first = session.train(METHODS["scratch"], start, 0, {})
    (folder,) = (f for f in session.store.glob("distill-kd/[!.]*") if f.is_dir())
    discard(folder)
    session.train(METHODS["scratch"], start, 1, {})
    again = session_of(project, gib=1e-9)
    second = again.train(METHODS["scratch"], start, 1, {})  # found
    again.train(METHODS["scratch"], start, 2, {})
    session_of(project, gib=1e-9).train(METHODS["scratch"], start, 3, {})
    for outs in (first, second):
        assert {f.name for f in outs.iterdir()} == {"networks", "history.csv", "cost.json"}
        assert load_file(outs / "networks/student.last.safetensors")
    assert len([f for f in session.store.glob("distill-kd/[!.]*") if f.is_dir()]) == 1


def test_a_checkpoint_of_another_run_is_not_in_the_way(workshop, tmp_path):
    """Two keys in one store: each goes on from its own."""
    stores = {seed: Checkpoint(tmp_path / "distill-kd" / f"key-{seed}", say=print) for seed in (0, 1)}
    for seed, store in stores.items():
        store.folder.mkdir(parents=True)
        workshop.run(METHODS["kd"], workshop.start, checkpoint=store, seed=seed).train()
    for seed, store in stores.items():
        again = workshop.run(METHODS["kd"], workshop.start, checkpoint=store, seed=seed).train()
        whole = workshop.run(METHODS["kd"], workshop.start, seed=seed).train()
        assert same(again.networks["student"].last, whole.networks["student"].last)
        assert store.files()
