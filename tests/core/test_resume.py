"""A run that is killed and started again ends as the uninterrupted run does, bit for bit."""

import pytest
from cases import METHODS, start_of
from endings import ends_alike, killed_at, quiet_checkpoint
from workshop import same

from pipeline.core.checkpoint import Checkpoint


@pytest.mark.parametrize("name", METHODS)
def test_a_run_killed_in_every_epoch_ends_like_one_that_was_not(workshop, tmp_path, name):
    method, start = METHODS[name], start_of(name, workshop)
    whole = workshop.run(method, start).train()
    checkpoint = quiet_checkpoint(tmp_path)
    # Every restart goes on from the last epoch's end and dies some updates later.
    kills = 0
    for update in (3, 8, 13, 7, 11, 9, 14, 16, 18, 20, 22, 24, 26, 28, 30):
        kills += killed_at(workshop.run(method, start, checkpoint=checkpoint), update)
    assert kills >= 2
    ends_alike(workshop.run(method, start, checkpoint=checkpoint).train(), whole)


@pytest.mark.parametrize("name", METHODS)
def test_a_run_killed_at_every_batch_ends_like_one_that_was_not(workshop, tmp_path, name):
    method, start = METHODS[name], start_of(name, workshop)
    whole = workshop.run(method, start).train()
    checkpoint = quiet_checkpoint(tmp_path)
    updates_a_step = {"dml": 3, "orc": 3}.get(name, 1)
    kills = 0
    # A checkpoint after every step: each life does one step, and dies in the next.
    while killed_at(workshop.run(method, start, checkpoint=checkpoint, minutes=0.0), updates_a_step + 1):
        kills += 1
    assert kills >= whole.steps - 3
    ends_alike(workshop.run(method, start, checkpoint=checkpoint).train(), whole)


def test_two_runs_are_bitwise_equal(workshop):
    for name in METHODS:
        start = start_of(name, workshop)
        ends_alike(workshop.run(METHODS[name], start).train(), workshop.run(METHODS[name], start).train())


def test_another_seed_is_another_run(workshop):
    one, other = (workshop.run(METHODS["scratch"], {}, seed=s).train() for s in (0, 1))
    assert not same(one.networks["student"].last, other.networks["student"].last)


def test_a_damaged_checkpoint_is_said_and_the_one_before_is_used(workshop, tmp_path):
    method, start = METHODS["kd"], workshop.start
    said = []
    whole = workshop.run(method, start, epochs=4).train()
    checkpoint = Checkpoint(tmp_path / "run" / "key", say=said.append)
    checkpoint.folder.mkdir(parents=True)
    for damage in ("truncate", "flip"):
        assert killed_at(workshop.run(method, start, checkpoint=checkpoint, epochs=4), 12)
        newest = checkpoint.files()[0]
        content = bytearray(newest.read_bytes())
        if damage == "truncate":
            content = content[: len(content) // 2]
        else:
            content[len(content) // 2] ^= 1
        newest.write_bytes(content)
        assert checkpoint.load() is not None
        assert said.pop() == f"checkpoint {newest.name} of run is damaged: using the one before it"
    ends_alike(workshop.run(method, start, checkpoint=checkpoint, epochs=4).train(), whole)
