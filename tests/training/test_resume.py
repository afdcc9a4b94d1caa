"""A run that is killed and resumed ends bitwise equal to the uninterrupted run."""

import pytest
import torch
from cases import METHODS, RECIPES, case, start_of
from run_endings import checkpoint_in, ends_alike, killed_at, quiet_checkpoint
from toy_run import ToyRuns, same

from pipeline.core.interface import Leg
from pipeline.methods.kd import KD
from pipeline.methods.scratch import Scratch
from pipeline.storage.checkpoints import Checkpoint


@pytest.mark.parametrize("name", METHODS)
def test_run_killed_in_every_epoch_resumes_to_the_uninterrupted_result(toy, tmp_path, name):
    method, start = METHODS[name], start_of(name, toy)
    whole = toy.run(method, start).train()
    checkpoint = quiet_checkpoint(tmp_path)
    # Every restart resumes from the end of the last epoch and is killed some updates later.
    kills = 0
    for update in (3, 8, 13, 7, 11, 9, 14, 16, 18, 20, 22, 24, 26, 28, 30):
        kills += killed_at(toy.run(method, start, checkpoint=checkpoint), update)
    assert kills >= 2
    ends_alike(toy.run(method, start, checkpoint=checkpoint).train(), whole)


@pytest.mark.parametrize("name", METHODS)
def test_run_killed_after_every_batch_resumes_to_the_uninterrupted_result(toy, tmp_path, name):
    method, start = METHODS[name], start_of(name, toy)
    whole = toy.run(method, start).train()
    checkpoint = quiet_checkpoint(tmp_path)
    updates_per_step = {"dml": 3, "dml eval": 3, "orc": 3, "orc options": 3}.get(name, 1)
    kills = 0
    # minutes=0 saves a checkpoint after every step: each attempt completes one step and is killed in the next.
    while killed_at(toy.run(method, start, checkpoint=checkpoint, minutes=0.0), updates_per_step + 1):
        kills += 1
    assert kills >= whole.steps - 3
    ends_alike(toy.run(method, start, checkpoint=checkpoint).train(), whole)


@pytest.mark.parametrize("name", RECIPES)
def test_adamw_and_every_augmentation_resume_to_the_uninterrupted_result(tmp_path, name):
    method, augmentation, recipe = case(name)
    toy = ToyRuns(tmp_path, **augmentation)
    start = start_of(method, toy)
    whole = toy.run(METHODS[method], start, **recipe).train()
    checkpoint = quiet_checkpoint(tmp_path)
    kills = 0
    while killed_at(toy.run(METHODS[method], start, checkpoint=checkpoint, minutes=0.0, **recipe), 5):
        kills += 1
    assert kills >= 2
    ends_alike(toy.run(METHODS[method], start, checkpoint=checkpoint, **recipe).train(), whole)


class NotesEpoch(KD):
    """KD that notes the epoch of each batch."""

    def step(self, nets, leg, batch):
        batch.note("student", "epoch", float(batch.epoch))
        yield from super().step(nets, leg, batch)


def test_a_batch_carries_the_epoch_of_its_leg_from_1_also_right_after_a_resume(toy, tmp_path):
    method = NotesEpoch(**vars(METHODS["kd"]))
    checkpoint = quiet_checkpoint(tmp_path)
    for update in (3, 7):  # the first batches after each resume are in the middle of an epoch
        assert killed_at(toy.run(method, toy.start, checkpoint=checkpoint, minutes=0.0, epochs=4), update)
    history = toy.run(method, toy.start, checkpoint=checkpoint, epochs=4).train().history
    assert [(row[1], row[4]) for row in history if row[3] == "epoch"] == [(e, e) for e in (1, 2, 3, 4)]


class Counting(Scratch):
    """Counts the batches of a leg in the memory of its steps."""

    def legs(self, nets, train):
        yield Leg(("student",))
        yield Leg(("student",))

    def step(self, nets, leg, batch):
        batch.memory["count"] = batch.memory.get("count", torch.zeros(())) + 1
        batch.note("student", "count", batch.memory["count"])
        yield from super().step(nets, leg, batch)


def test_memory_lasts_for_a_leg_and_survives_kills(toy, tmp_path):
    method = Counting(ce_weight=1.0, label_smoothing=0.0)
    whole = toy.run(method, {}).train()
    counts = [row for row in whole.history if row[3] == "count"]
    # five batches in an epoch: the mean of 1 to 5, then of 6 to 10, in both legs
    assert [(leg, epoch, value) for leg, epoch, _, _, value in counts] == [(0, 1, 3), (0, 2, 8), (1, 1, 3), (1, 2, 8)]
    checkpoint = quiet_checkpoint(tmp_path)
    while killed_at(toy.run(method, {}, checkpoint=checkpoint, minutes=0.0), 2):
        pass
    ends_alike(toy.run(method, {}, checkpoint=checkpoint).train(), whole)


def test_repeated_runs_are_bitwise_equal(toy):
    for name in METHODS:
        start = start_of(name, toy)
        ends_alike(toy.run(METHODS[name], start).train(), toy.run(METHODS[name], start).train())


def test_different_seeds_train_different_weights(toy):
    one, other = (toy.run(METHODS["scratch"], {}, seed=s).train() for s in (0, 1))
    assert not same(one.networks["student"].last, other.networks["student"].last)


def test_corrupt_checkpoint_is_reported_and_the_previous_one_is_used(toy, tmp_path):
    method, start = METHODS["kd"], toy.start
    log = []
    whole = toy.run(method, start, epochs=4).train()
    checkpoint = Checkpoint(tmp_path / "run" / "key", log=log.append)
    checkpoint.folder.mkdir(parents=True)
    for damage in ("truncate", "flip"):
        assert killed_at(toy.run(method, start, checkpoint=checkpoint, epochs=4), 12)
        newest = checkpoint.files()[0]
        content = bytearray(newest.read_bytes())
        if damage == "truncate":
            content = content[: len(content) // 2]
        else:
            content[len(content) // 2] ^= 1
        newest.write_bytes(content)
        assert checkpoint.load() is not None
        assert log.pop() == f"checkpoint {newest.name} of run is corrupt: using the previous one"
    ends_alike(toy.run(method, start, checkpoint=checkpoint, epochs=4).train(), whole)


def test_what_is_computed_once_is_written_once(tmp_path):
    checkpoint, memo = checkpoint_in(tmp_path), {"pool": {"a": torch.arange(1000)}}
    checkpoint.save({"n": 1, "memo": {}})
    assert len(list(checkpoint.folder.iterdir())) == 1
    checkpoint.save({"n": 2, "memo": memo})
    (file,) = checkpoint.folder.glob("memo*")
    written = file.stat().st_ino
    assert max(f.stat().st_size for f in checkpoint.files()) < file.stat().st_size / 2
    for resumed in (checkpoint, checkpoint_in(tmp_path)):
        found = resumed.load()
        assert found and torch.equal(found["memo"]["pool"]["a"], memo["pool"]["a"])
        resumed.save({"n": found["n"] + 1, "memo": found["memo"]})
        assert file.stat().st_ino == written
    resumed.save({"n": 5, "memo": memo | {"sheets": {}}})
    found = resumed.load()
    assert found and found["n"] == 5 and set(found["memo"]) == {"pool", "sheets"}
    resumed.clear()
    assert list(resumed.folder.iterdir()) == []


def test_a_checkpoint_whose_memo_is_corrupt_is_skipped(tmp_path):
    log = []
    checkpoint = checkpoint_in(tmp_path, log.append)
    checkpoint.save({"n": 1, "memo": {}})
    checkpoint.save({"n": 2, "memo": {"pool": torch.arange(1000)}})
    (file,) = checkpoint.folder.glob("memo*")
    content = bytearray(file.read_bytes())
    content[len(content) // 2] ^= 1
    file.write_bytes(content)
    assert checkpoint.load() == {"n": 1, "memo": {}} and len(log) == 1 and "is corrupt" in log[0]
