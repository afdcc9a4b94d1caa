"""Cached logits change no bit of a result, no guide computes them twice, and data torn by a crash is recomputed."""

import errno
import resource
from dataclasses import replace

import numpy as np
import pytest
import torch
from cases import METHODS, start_of
from toy_run import same

from pipeline.storage import logit_cache as logits
from pipeline.storage.folders import discard
from pipeline.storage.logit_cache import LogitCache

GUIDED = ("kd", "takd", "dgkd", "sdgkd", "multiteacher", "dkd", "dist", "wttm")


def open_cache(folder, kind="fp32", gib=1.0, **key) -> LogitCache:
    return LogitCache(folder / "logits", kind=kind, gib=gib, key=key, log=lambda line: messages.append(line))


messages: list[str] = []


@pytest.fixture(autouse=True)
def clear_messages():
    """Every test starts without messages."""
    messages.clear()


def train(toy, name_or_method, cache=None, **options):
    """Train. Returns the result, and the number of forward passes of each guide that ran any."""
    method = METHODS[name_or_method] if isinstance(name_or_method, str) else name_or_method
    run = toy.run(method, start_of("kd", toy), cache=cache, **options)
    forwards: dict[str, int] = {}
    for name, net in run.nets.items():
        if not run.networks[name].learns:
            net.eval_module.register_forward_hook(
                lambda *_, name=name: forwards.update({name: forwards.get(name, 0) + 1})
            )
    return run.train(), forwards


@pytest.mark.parametrize("name", GUIDED)
def test_run_with_cached_logits_is_bitwise_equal_to_a_run_without(toy, tmp_path, name):
    uncached, _ = train(toy, name)
    filled, forwards = train(toy, name, open_cache(tmp_path))
    again, forwards_again = train(toy, name, open_cache(tmp_path))
    assert forwards and not forwards_again
    for other in (filled, again):
        assert same(other.networks["student"].last, uncached.networks["student"].last)
        assert other.history == uncached.history


def test_changing_the_temperature_reuses_the_cached_logits(toy, tmp_path):
    train(toy, "kd", open_cache(tmp_path))
    method = replace(METHODS["kd"], temperature=2.0)
    stored, forwards = train(toy, method, open_cache(tmp_path))
    assert not forwards
    assert same(stored.networks["student"].last, train(toy, method)[0].networks["student"].last)


def test_methods_with_the_same_views_share_cached_logits(toy, tmp_path):
    train(toy, "dgkd", open_cache(tmp_path))
    for name in ("kd", "takd", "multiteacher"):
        assert not train(toy, name, open_cache(tmp_path))[1]


def test_rows_skipped_by_a_dropped_guide_are_computed_when_needed(toy, tmp_path):
    _, first = train(toy, "sdgkd", open_cache(tmp_path))
    complete, second = train(toy, "dgkd", open_cache(tmp_path))
    steps = 2 * (44 // 8)
    validations = 1
    assert first["teacher"] == steps + validations and "teacher" not in second
    assert 0 < second["ta1"] < steps and first["ta1"] + second["ta1"] == steps + validations
    assert same(complete.networks["student"].last, train(toy, "dgkd")[0].networks["student"].last)


@pytest.mark.parametrize("changed", [{"seed": 1}, {"batch_size": 4}, {"epochs": 3}])
def test_different_views_are_cached_separately(toy, tmp_path, changed):
    train(toy, "kd", open_cache(tmp_path))
    assert train(toy, "kd", open_cache(tmp_path), **changed)[1]
    assert len(list((tmp_path / "logits").iterdir())) == 2


def test_changed_weights_or_code_invalidate_cached_logits(toy, tmp_path):
    train(toy, "kd", open_cache(tmp_path))
    assert train(toy, "kd", open_cache(tmp_path, code="edited"))[1]
    toy.start["teacher"] = replace(toy.start["teacher"], weights=toy.start["ta1"].weights, arch="tiny_plain2_16")
    assert train(toy, "kd", open_cache(tmp_path))[1]


def test_fp16_cache_rounds_logits_alike_when_filling_and_reading(toy, tmp_path):
    first, forwards = train(toy, "kd", open_cache(tmp_path, "fp16"))
    second, forwards_again = train(toy, "kd", open_cache(tmp_path, "fp16"))
    assert forwards and not forwards_again
    assert same(first.networks["student"].last, second.networks["student"].last)
    uncached = train(toy, "kd")[0].networks["student"].last
    assert not same(first.networks["student"].last, uncached)
    assert all(torch.allclose(v, uncached[k], atol=0.05) for k, v in first.networks["student"].last.items())


def test_rows_lost_in_a_power_cut_are_recomputed(toy, tmp_path):
    uncached, _ = train(toy, "kd", open_cache(tmp_path))
    (folder,) = (tmp_path / "logits").iterdir()
    values = np.memmap(folder / "values", np.float32, "r+", shape=(2, 44, 3))
    values[1, :7] = 0
    values.flush()
    again, forwards = train(toy, "kd", open_cache(tmp_path))
    assert 0 < forwards["teacher"] <= 7
    assert same(again.networks["student"].last, uncached.networks["student"].last)


def test_logits_larger_than_the_limit_are_reported_and_not_cached(toy, tmp_path):
    uncached, _ = train(toy, "kd")
    small, forwards = train(toy, "kd", open_cache(tmp_path, gib=1e-9))
    assert forwards and not list((tmp_path / "logits").glob("*"))
    assert messages == ["the logits of teacher are not cached: they take 0.0 GiB, and runtime.logit_store_gib is 1e-09"]
    assert same(small.networks["student"].last, uncached.networks["student"].last)


def test_full_disk_is_reported_and_leaves_no_partial_cache(toy, tmp_path):
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100, limits[1]))
    try:
        cached = open_cache(tmp_path).open("teacher", {}, (2, 44, 3))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert cached is None and list((tmp_path / "logits").iterdir()) == []
    assert messages == [f"the logits of teacher are not cached: File too large, 0.0 GiB in {tmp_path / 'logits'}"]


def test_cache_evicts_the_least_recently_used_logits(tmp_path):
    shape = (4, 100, 10)
    one = open_cache(tmp_path, gib=2.5 * (4 * 100 * 10 * 4 + 1600) / 2**30)
    folders = [cached.folder for k in range(2) if (cached := one.open("t", {"k": k}, shape))]
    other = open_cache(tmp_path, gib=one.limit / 2**30)
    again = other.open("t", {"k": 0}, shape)
    third = other.open("t", {"k": 2}, shape)
    assert again and again.folder == folders[0] and third
    assert sorted(f.name for f in (tmp_path / "logits").iterdir()) == sorted([again.folder.name, third.folder.name])


def test_run_continues_when_another_run_evicts_its_cache(toy, tmp_path):
    uncached, _ = train(toy, "kd")
    one = open_cache(tmp_path)
    run = toy.run(METHODS["kd"], start_of("kd", toy), cache=one)
    update = run.loop.update

    def evict(*arguments):
        for folder in one.in_use:
            discard(folder)
        update(*arguments)

    run.loop.update = evict
    assert same(run.train().networks["student"].last, uncached.networks["student"].last)
    assert not list((tmp_path / "logits").iterdir())


@pytest.mark.parametrize("removed", ["values", "sums"])
def test_partially_removed_cache_is_rebuilt(toy, tmp_path, removed):
    uncached, _ = train(toy, "kd", open_cache(tmp_path))
    (folder,) = (tmp_path / "logits").iterdir()
    (folder / removed).unlink()
    again, forwards = train(toy, "kd", open_cache(tmp_path))
    assert forwards and same(again.networks["student"].last, uncached.networks["student"].last)
    assert not train(toy, "kd", open_cache(tmp_path))[1] and not messages


def test_cache_that_cannot_be_opened_is_reported_and_not_deleted(toy, tmp_path, monkeypatch):
    uncached, _ = train(toy, "kd", open_cache(tmp_path))

    def busy(*_, **__):
        raise OSError(errno.EMFILE, "Too many open files")

    with monkeypatch.context() as patch:
        patch.setattr(np, "memmap", busy)
        again, forwards = train(toy, "kd", open_cache(tmp_path))
    (folder,) = (tmp_path / "logits").iterdir()
    assert forwards and same(again.networks["student"].last, uncached.networks["student"].last)
    assert messages == [f"the logits of teacher are not cached: Too many open files, {folder}"]
    assert not train(toy, "kd", open_cache(tmp_path))[1]


def test_empty_validation_file_is_recomputed(toy, tmp_path):
    uncached, _ = train(toy, "kd", open_cache(tmp_path))
    (file,) = (tmp_path / "logits").glob("*/validation.json")
    file.write_bytes(b"")
    again, forwards = train(toy, "kd", open_cache(tmp_path))
    assert forwards == {"teacher": 1} and again.history == uncached.history


def test_no_cache_is_evicted_when_that_frees_too_little_space(tmp_path):
    shape = (4, 100, 10)
    size = 4 * 100 * 10 * 4 + 1600
    one = open_cache(tmp_path, gib=2.5 * size / 2**30)
    (mine,) = [cached.folder for k in range(1) if (cached := one.open("t", {"k": k}, shape))]
    other = open_cache(tmp_path, gib=2.5 * size / 2**30)
    theirs = other.open("t", {"k": 1}, shape)
    assert theirs and one.open("t", {"k": 2}, (8, 100, 10)) is None  # needs the space of both
    assert sorted((tmp_path / "logits").iterdir()) == sorted([mine, theirs.folder])


def test_logits_of_images_outside_the_batch_are_never_cached(tmp_path):
    cached = open_cache(tmp_path).open("t", {}, (1, 8, 3))
    assert cached
    x = torch.randn(4, 1, 8, 8)
    cached.begin_batch(x, 1, torch.arange(4))
    mixed, z = torch.randn(4, 1, 8, 8), torch.ones(4, 3)
    assert cached(mixed, lambda x: z) is z
    assert not cached.sums.any()
    assert (logits.checksums(np.zeros((5, 3), np.float32)) != 0).all()
