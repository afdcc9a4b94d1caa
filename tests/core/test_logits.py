"""The store of guides' logits changes no bit, runs no guide twice, and trusts nothing that a crash left."""

import errno
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import METHODS, start_of
from workshop import Workshop, same

from pipeline.core import logits
from pipeline.core.folders import discard
from pipeline.core.logits import LogitStore

GUIDED = ("kd", "takd", "dgkd", "sdgkd", "average")


@pytest.fixture
def shop(tmp_path):
    return Workshop(tmp_path)


def store(folder, kind="fp32", gib=1.0, **about) -> LogitStore:
    return LogitStore(folder / "logits", kind=kind, gib=gib, about=about, say=lambda line: said.append(line))


said: list[str] = []


@pytest.fixture(autouse=True)
def silence():
    said.clear()


def train(shop, name_or_method, store=None, **options):
    """The run's result, and how often each guide's forward ran in it."""
    method = METHODS[name_or_method] if isinstance(name_or_method, str) else name_or_method
    run = shop.run(method, start_of("kd", shop), store=store, **options)
    asked: dict[str, int] = {}
    for name, net in run.nets.items():
        if not run.networks[name].learns:
            net.answering.register_forward_hook(lambda *_, name=name: asked.update({name: asked.get(name, 0) + 1}))
    return run.train(), asked


@pytest.mark.parametrize("name", GUIDED)
def test_a_run_with_the_store_equals_one_without_bit_for_bit(shop, tmp_path, name):
    bare, _ = train(shop, name)
    filled, asked = train(shop, name, store(tmp_path))
    again, asked_again = train(shop, name, store(tmp_path))
    assert asked and not asked_again
    for other in (filled, again):
        assert same(other.networks["student"].last, bare.networks["student"].last)
        assert other.rows == bare.rows


def test_another_temperature_asks_no_guide(shop, tmp_path):
    train(shop, "kd", store(tmp_path))
    method = replace(METHODS["kd"], temperature=2.0)
    stored, asked = train(shop, method, store(tmp_path))
    assert not asked
    assert same(stored.networks["student"].last, train(shop, method)[0].networks["student"].last)


def test_methods_that_see_the_same_views_share_a_guide(shop, tmp_path):
    train(shop, "dgkd", store(tmp_path))
    for name in ("kd", "takd", "average"):
        assert not train(shop, name, store(tmp_path))[1]


def test_a_dropped_guide_leaves_holes_that_are_filled_later(shop, tmp_path):
    _, first = train(shop, "sdgkd", store(tmp_path))
    whole, second = train(shop, "dgkd", store(tmp_path))
    steps = 2 * (44 // 8)
    validations = 1
    assert first["teacher"] == steps + validations and "teacher" not in second
    assert 0 < second["ta1"] < steps and first["ta1"] + second["ta1"] == steps + validations
    assert same(whole.networks["student"].last, train(shop, "dgkd")[0].networks["student"].last)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"batch_size": 4}, {"epochs": 3}])
def test_other_views_are_other_logits(shop, tmp_path, changed):
    train(shop, "kd", store(tmp_path))
    assert train(shop, "kd", store(tmp_path), **changed)[1]
    assert len(list((tmp_path / "logits").iterdir())) == 2


def test_other_weights_or_code_are_other_logits(shop, tmp_path):
    train(shop, "kd", store(tmp_path))
    assert train(shop, "kd", store(tmp_path, code="edited"))[1]
    shop.start["teacher"] = replace(shop.start["teacher"], weights=shop.start["ta1"].weights, arch="tiny_plain2_16")
    assert train(shop, "kd", store(tmp_path))[1]


def test_half_precision_rounds_the_first_run_as_it_will_the_second(shop, tmp_path):
    first, asked = train(shop, "kd", store(tmp_path, "fp16"))
    second, asked_again = train(shop, "kd", store(tmp_path, "fp16"))
    assert asked and not asked_again
    assert same(first.networks["student"].last, second.networks["student"].last)
    bare = train(shop, "kd")[0].networks["student"].last
    assert not same(first.networks["student"].last, bare)
    assert all(torch.allclose(v, bare[k], atol=0.05) for k, v in first.networks["student"].last.items())


def test_rows_that_a_power_cut_tore_are_computed_again(shop, tmp_path):
    bare, _ = train(shop, "kd", store(tmp_path))
    (folder,) = (tmp_path / "logits").iterdir()
    values = np.memmap(folder / "values", np.float32, "r+", shape=(2, 44, 3))
    values[1, :7] = 0
    values.flush()
    again, asked = train(shop, "kd", store(tmp_path))
    assert 0 < asked["teacher"] <= 7
    assert same(again.networks["student"].last, bare.networks["student"].last)


def test_a_guide_that_has_no_room_is_said_and_runs(shop, tmp_path):
    bare, _ = train(shop, "kd")
    small, asked = train(shop, "kd", store(tmp_path, gib=1e-9))
    assert asked and not list((tmp_path / "logits").glob("*"))
    assert said == ["the logits of teacher are not stored: they take 0.0 GiB, and runtime.logit_store_gib is 1e-09"]
    assert same(small.networks["student"].last, bare.networks["student"].last)


def test_a_full_disk_is_said_and_leaves_nothing(shop, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        memory = store(tmp_path).memory("teacher", {}, (2, 44, 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert memory is None and list((tmp_path / "logits").iterdir()) == []
    assert said == [f"the logits of teacher are not stored: File too large, 0.0 GiB in {tmp_path / 'logits'}"]


def test_the_store_keeps_to_its_size_and_what_was_used_last(tmp_path):
    shape = (4, 100, 10)
    one = store(tmp_path, gib=2.5 * (4 * 100 * 10 * 4 + 1600) / 2**30)
    folders = [memory.folder for k in range(2) if (memory := one.memory("t", {"k": k}, shape))]
    other = store(tmp_path, gib=one.limit / 2**30)
    again = other.memory("t", {"k": 0}, shape)
    third = other.memory("t", {"k": 2}, shape)
    assert again and again.folder == folders[0] and third
    assert sorted(f.name for f in (tmp_path / "logits").iterdir()) == sorted([again.folder.name, third.folder.name])


def test_a_memory_that_another_run_removed_goes_on_without_keeping(shop, tmp_path):
    bare, _ = train(shop, "kd")
    one = store(tmp_path)
    run = shop.run(METHODS["kd"], start_of("kd", shop), store=one)
    advance = run.advance

    def evict(*arguments):
        for folder in one.used:
            discard(folder)
        advance(*arguments)

    run.advance = evict
    assert same(run.train().networks["student"].last, bare.networks["student"].last)
    assert not list((tmp_path / "logits").iterdir())


@pytest.mark.parametrize("torn", ["values", "sums"])
def test_a_memory_that_was_half_removed_is_made_anew(shop, tmp_path, torn):
    bare, _ = train(shop, "kd", store(tmp_path))
    (folder,) = (tmp_path / "logits").iterdir()
    (folder / torn).unlink()
    again, asked = train(shop, "kd", store(tmp_path))
    assert asked and same(again.networks["student"].last, bare.networks["student"].last)
    assert not train(shop, "kd", store(tmp_path))[1] and not said


def test_a_memory_that_cannot_be_opened_is_kept_for_those_who_can(shop, tmp_path, monkeypatch):
    bare, _ = train(shop, "kd", store(tmp_path))

    def busy(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(np, "memmap", busy)
        again, asked = train(shop, "kd", store(tmp_path))
    (folder,) = (tmp_path / "logits").iterdir()
    assert asked and same(again.networks["student"].last, bare.networks["student"].last)
    assert said == [f"the logits of teacher are not stored: Too many open files, {folder}"]
    assert not train(shop, "kd", store(tmp_path))[1]


def test_what_a_power_cut_left_empty_is_measured_again(shop, tmp_path):
    bare, _ = train(shop, "kd", store(tmp_path))
    (file,) = (tmp_path / "logits").glob("*/validation.json")
    file.write_bytes(b"")
    again, asked = train(shop, "kd", store(tmp_path))
    assert asked == {"teacher": 1} and again.rows == bare.rows


def test_no_memory_is_removed_where_that_makes_too_little_room(tmp_path):
    shape = (4, 100, 10)
    size = 4 * 100 * 10 * 4 + 1600
    one = store(tmp_path, gib=2.5 * size / 2**30)
    (mine,) = [memory.folder for k in range(1) if (memory := one.memory("t", {"k": k}, shape))]
    other = store(tmp_path, gib=2.5 * size / 2**30)
    theirs = other.memory("t", {"k": 1}, shape)
    assert theirs and one.memory("t", {"k": 2}, (8, 100, 10)) is None  # it would need the place of both
    assert sorted((tmp_path / "logits").iterdir()) == sorted([mine, theirs.folder])


def test_images_besides_the_batch_are_never_stored(tmp_path):
    memory = store(tmp_path).memory("t", {}, (1, 8, 3))
    assert memory
    x = torch.randn(4, 1, 8, 8)
    memory.begin(x, 1, torch.arange(4))
    mixed, z = torch.randn(4, 1, 8, 8), torch.ones(4, 3)
    assert memory(mixed, lambda x: z) is z
    assert not memory.sums.any()
    assert (logits.checksums(np.zeros((5, 3), np.float32)) != 0).all()
