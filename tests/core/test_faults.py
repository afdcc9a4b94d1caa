"""What goes wrong in a long run is one line that says what and where, and loses nothing."""

import errno
import os
import resource
import shutil
import signal
import threading
from itertools import pairwise
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from cases import METHODS, start_of
from pictures import section
from safetensors.torch import load_file, save_file
from workshop import RECIPE, same

from pipeline.core import checkpoint as checkpoint_module
from pipeline.core import interrupt, launch
from pipeline.core.checkpoint import Checkpoint, prune
from pipeline.core.folders import discard, sizes_by_age, sweep
from pipeline.core.interrupt import Interrupted
from pipeline.core.session import Session
from pipeline.core.vocabulary import Network
from pipeline.data.prepare import prepare
from pipeline.data.sources.open import open_source
from pipeline.errors import UserError
from stages.command import command

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


def test_a_full_disk_at_the_end_is_said_and_the_checkpoint_is_whole(tmp_path):
    checkpoint = held(tmp_path)
    checkpoint.save({"n": 1})
    for write in (
        lambda folder: save_file({"w": torch.zeros(10_000)}, folder / "w.safetensors"),
        lambda folder: (folder / "history.csv").write_text("x" * 10_000),
    ):
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (2000, limits[1]))
        try:
            with pytest.raises(UserError, match=r"what distill-kd has learnt could not be written \(.*whole"):
                checkpoint.finish(write)
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        assert checkpoint.load() == {"n": 1} and not checkpoint.finished.exists()
        assert [file.suffix for file in checkpoint.folder.iterdir()] == [".ckpt"]


@pytest.mark.parametrize("how", ["write", "copy"])
def test_a_full_disk_is_one_line_wherever_it_is_met(tmp_path, monkeypatch, capsys, how):
    def full(source, target):
        raise OSError(errno.ENOSPC, "No space left on device", target)

    (tmp_path / "outs").mkdir()
    (tmp_path / "outs/network").write_bytes(b"1")

    def main() -> None:
        if how == "copy":
            shutil.copytree(tmp_path / "outs", tmp_path / "models", copy_function=full)
        full("", tmp_path / "models")

    monkeypatch.setattr("sys.argv", ["stage"])
    with pytest.raises(SystemExit) as ended:
        command(main)
    assert ended.value.code == 1
    assert capsys.readouterr().err == "error: No space left on device: make room and run the same command again\n"


@pytest.mark.parametrize(("pace", "between"), [(0.001, 16), (0.5, 4), (2.5, 1)])
def test_processes_are_asked_in_time_for_a_signal_and_not_too_often(monkeypatch, pace, between):
    """Launchers give a process seconds after SIGTERM; and asking makes all wait for the slowest."""
    at = {"step": 0}
    asked = []

    def largest(*values):
        asked.append(at["step"])
        return values

    monkeypatch.setattr(interrupt.time, "perf_counter", lambda: pace * at["step"])
    asking = interrupt.Asking(SimpleNamespace(size=2, largest=largest))
    while at["step"] < 200:
        at["step"] += 1
        asking(False)
    assert asked[0] == 1 and {b - a for a, b in pairwise(asked)} == {between}


@pytest.mark.parametrize(
    ("failures", "told"),
    [
        ({0: (1, 5), 1: (-signal.SIGKILL, 5)}, (1, -signal.SIGKILL)),
        ({0: (-signal.SIGTERM, 4), 1: (1, 5)}, (1, 1)),
        ({0: (Interrupted.exit_code, 4), 1: (1, 5)}, (1, 1)),
        ({0: (2, 6), 1: (1, 5)}, (1, 1)),
        ({0: (Interrupted.exit_code, 5), 1: (Interrupted.exit_code, 5)}, (0, Interrupted.exit_code)),
    ],
)
def test_of_processes_that_end_the_one_is_told_that_ended_the_others(failures, told):
    assert launch.told_by(failures) == told


def test_a_signal_that_comes_twice_at_once_is_one(monkeypatch):
    """Slurm tells every process, and so does torchrun; whoever asks again later means it."""
    killed = []
    now = [10.0]
    monkeypatch.setattr(interrupt.time, "monotonic", lambda: now[0])
    with interrupt.Interruption() as interruption:
        for _ in range(2):
            os.kill(os.getpid(), signal.SIGTERM)
        assert interruption.asked == signal.SIGTERM
        monkeypatch.setattr(interrupt.os, "kill", lambda *how: killed.append(how))
        now[0] += 3
        signal.raise_signal(signal.SIGINT)
    assert killed == [(os.getpid(), signal.SIGINT)]


@pytest.mark.parametrize("name", ["scratch", "cooperative"])
def test_a_signal_after_the_last_step_stops_the_run_too(workshop, tmp_path, name):
    """Else the next seed would begin."""
    checkpoint = held(tmp_path)
    run = workshop.run(METHODS[name], start_of(name, workshop), checkpoint=checkpoint)
    save = checkpoint.save

    def last(state):
        save(state)
        if run.at.leg == legs:
            os.kill(os.getpid(), signal.SIGTERM)

    legs = workshop.run(METHODS[name], start_of(name, workshop)).train().rows[-1][0] + 1
    checkpoint.save = last
    with pytest.raises(Interrupted, match="stopped by SIGTERM: run the same command again"):
        run.train()
    checkpoint.save = save
    again = workshop.run(METHODS[name], start_of(name, workshop), checkpoint=checkpoint).train()
    whole = workshop.run(METHODS[name], start_of(name, workshop)).train()
    assert again.rows == whole.rows


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
