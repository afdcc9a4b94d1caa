"""What goes wrong in a long run is one line that says what and where, and loses nothing."""

import resource
import shutil
import threading
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cases import METHODS, start_of
from pictures import section
from workshop import RECIPE, same

from pipeline.core.checkpoint import Checkpoint
from pipeline.core.session import Session
from pipeline.core.sizes import sizes_by_age
from pipeline.core.vocabulary import Network
from pipeline.data.prepare import prepare
from pipeline.data.sources.open import open_source
from pipeline.errors import UserError

ROOT = Path(__file__).parents[2]


def held(folder: Path, say=lambda line: None) -> Checkpoint:
    checkpoint = Checkpoint(folder / "distill-kd" / "key", say=say)
    checkpoint.folder.mkdir(parents=True, exist_ok=True)
    return checkpoint


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("scratch", "network student, term ce, leg 0, epoch 1, step 1"),
        ("kd", "network student, term ce, leg 0, epoch 1, step 1"),
        ("orc", "network student, term group/pivot, leg 0, epoch 1, step 0"),  # the pivot was updated before it taught
    ],
)
def test_a_loss_that_is_not_finite_stops_the_run_and_is_located(workshop, tmp_path, name, where):
    checkpoint = held(tmp_path)
    for _ in range(2):  # the second life goes on from what the first one saved, to the same end
        run = workshop.run(METHODS[name], start_of(name, workshop), checkpoint=checkpoint, minutes=0.0, lr=1e30)
        with pytest.raises(UserError) as said:
            run.train()
        assert str(said.value).startswith(f"the loss is not finite: {where} (train.lr is 1e+30")
        assert "\n" not in str(said.value)


def test_out_of_memory_names_the_batch_and_the_networks(workshop):
    run = workshop.run(METHODS["kd"], workshop.start)

    def full(*_):
        raise torch.OutOfMemoryError("CUDA out of memory")

    run.update = full
    with pytest.raises(UserError, match=r"train\.batch_size is 8, and the networks student, teacher are resident"):
        run.train()


def test_a_full_disk_is_said_and_the_checkpoint_before_is_whole(workshop, tmp_path):
    checkpoint = held(tmp_path)
    checkpoint.save({"n": 1})
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
    try:
        with pytest.raises(UserError, match=r"could not be written \(File too large\); the one before it is whole"):
            checkpoint.save({"n": torch.zeros(10_000)})
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert checkpoint.load() == {"n": 1}
    assert [file.suffix for file in checkpoint.folder.iterdir()] == [".ckpt"]


def test_a_second_run_of_the_same_key_says_that_it_waits_and_waits(tmp_path):
    said, entered = [], threading.Event()
    second = held(tmp_path, say=said.append)

    def wait() -> None:
        with second.held(wait=True):
            entered.set()

    with held(tmp_path).held(wait=True):
        thread = threading.Thread(target=wait)
        thread.start()
        assert not entered.wait(0.5)
        assert said == ["another run of distill-kd with the same key is under way: waiting for it"]
    thread.join(timeout=30)
    assert entered.is_set()


def test_a_second_run_that_cannot_wait_says_so(tmp_path):
    with held(tmp_path).held(wait=True):
        refused = pytest.raises(
            UserError, match="another run of distill-kd with the same key is under way: when it has"
        )
        with refused, held(tmp_path).held(wait=False):
            raise AssertionError("it was let in")


def test_a_folder_that_vanished_counts_nothing(tmp_path):
    """Other runs add and remove files while one asks how large the store is."""
    (tmp_path / "run/key").mkdir(parents=True)
    (tmp_path / "run/key/file").write_bytes(b"12345")
    gone = tmp_path / "run/gone"
    assert sizes_by_age([gone, tmp_path / "run/key"]) == {tmp_path / "run/key": 5}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """Where a stage runs: the code, prepared digits, a teacher's weights."""
    shutil.copytree(ROOT / "pipeline", tmp_path / "pipeline", ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.chdir(tmp_path)
    data = section("digits", ROOT / "data/digits", limit=40, validation=20)
    prepare(open_source(data, 0), data, tmp_path / "prepared")
    (tmp_path / "teacher.safetensors").write_bytes(b"weights")
    return tmp_path


def key(folder: Path, *, seed=0, alpha=0.9, threads=1, arch="tiny_plain2_12") -> str:
    recipe = SimpleNamespace(**RECIPE, precision="fp32", logit_store="off", pad=None, flip=None)
    runtime = SimpleNamespace(threads=threads, workers=0, logit_store_gib=1, checkpoint_gib=1, checkpoint_minutes=1)
    session = Session(
        "distill-kd",
        recipe=recipe,
        decides={"kd": {"alpha": alpha}},
        code=("pipeline/methods/kd.py",),
        runtime=runtime,
        data=folder / "prepared",
    )
    networks = {"student": Network(arch), "teacher": Network("tiny_plain2_32", weights=folder / "teacher.safetensors")}
    return session.key(seed, networks)


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
