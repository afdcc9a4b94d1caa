"""The default data set is split stratified and seeded, is complete, and is prepared bit for bit reproducibly."""

from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from pipeline.data.members import Member, members_of, visible_rows
from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.digits import Digits
from pipeline.data.split import stratified
from pipeline.errors import DataError, ParamsError

NULLS = dict(
    source="digits",
    root="data/digits",
    image_size=None,
    limit=None,
    validation=None,
    seed=0,
    on_error="fail",
    image_column=None,
    label_column=None,
    label_noise=None,
)


def prepared(folder: Path, **changed) -> Prepared:
    prepare(Digits(), SimpleNamespace(**NULLS | changed), folder)
    return Prepared.read(folder)


def test_digits_are_scikit_learns(tmp_path):
    from sklearn.datasets import load_digits

    source, reference = Digits(), load_digits()
    ours = {
        name: image
        for s in ("train", "test")
        for name, image in zip(source.splits[s].names, source.images(s, np.arange(len(source.splits[s].names))))
    }
    assert len(ours) == 1797
    for row in (0, 17, 1796):
        assert (ours[f"digits.csv.gz:{row + 1}"][:, :, 0] == np.rint(reference.images[row] * 255 / 16)).all()


def test_no_image_is_in_two_splits_and_classes_keep_their_shares(tmp_path):
    data = prepared(tmp_path / "p")
    assert data.meta.counts == {"train": 400, "validation": 400, "test": 997}
    assert data.table["source"].n_unique() == 1797
    for split, n in data.meta.counts.items():
        share = np.bincount(data.labels(split)) / n
        assert np.abs(share - 0.1).max() < 0.01
        assert data.images(split).shape == (n, 8, 8, 1) and data.images(split).dtype == np.uint8


def test_the_test_split_does_not_depend_on_the_seed(tmp_path):
    one, other = prepared(tmp_path / "a", seed=0), prepared(tmp_path / "b", seed=1)
    assert one.meta.sha256["test"] == other.meta.sha256["test"]
    assert one.meta.sha256["train"] != other.meta.sha256["train"]


def test_the_same_input_and_seed_give_the_same_bytes(tmp_path):
    prepared(tmp_path / "a")
    prepared(tmp_path / "b")
    for file in sorted((tmp_path / "a").iterdir()):
        assert file.read_bytes() == (tmp_path / "b" / file.name).read_bytes(), file.name


def test_statistics_are_of_the_training_pixels(tmp_path):
    data = prepared(tmp_path / "p")
    pixels = data.images("train") / 255
    assert data.meta.mean == pytest.approx([pixels.mean()], abs=1e-7)
    assert data.meta.std == pytest.approx([pixels.std()], abs=1e-7)


def test_a_limit_keeps_that_many_images(tmp_path):
    data = prepared(tmp_path / "p", limit=50, validation=0.25)
    assert data.meta.counts == {"train": 50, "validation": 200, "test": 997}


def test_an_impossible_validation_split_is_refused_and_leaves_nothing(tmp_path):
    with pytest.raises(
        DataError, match=r"data\.validation: cannot split 800 of 800 training images off for validation: .* 799"
    ):
        prepared(tmp_path / "p", validation=800)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("n", [1, 10, 33, 100])
def test_a_stratified_choice_has_exactly_n_rows_and_shares_within_one(n):
    labels = np.repeat([0, 1, 2], [50, 30, 20])
    rows = stratified(labels, n, "test")
    assert len(set(rows.tolist())) == n and (np.diff(rows) > 0).all()
    assert np.abs(np.bincount(labels[rows], minlength=3) - n * np.array([0.5, 0.3, 0.2])).max() < 1


LABELS = np.tile(np.arange(4), 25)
CLASSES = ["cat", "dog", "emu", "fox"]


def test_a_member_lacks_its_classes():
    section = {"a": SimpleNamespace(arch="x", lacks=["dog", 3], keeps=1.0, options={}, copies=0)}
    member = members_of(section, CLASSES, "s")["a"]
    assert member.lacks == (1, 3)
    assert set(LABELS[visible_rows("a", member, LABELS, 0)].tolist()) == {0, 2}


def test_auto_members_lack_one_class_each():
    members = members_of(SimpleNamespace(auto=4), CLASSES, "s")
    assert [m.lacks for m in members.values()] == [(0,), (1,), (2,), (3,)]
    assert {m.arch for m in members.values()} == {"s"}


@pytest.mark.parametrize(
    ("section", "said"),
    [
        (
            {"a": SimpleNamespace(arch="x", lacks=["cow"], keeps=1.0, options={}, copies=0)},
            "cooperative.members.a.lacks: the data have no class",
        ),
        (
            {"a": SimpleNamespace(arch="x", lacks=[4], keeps=1.0, options={}, copies=0)},
            "the data have no class 4; their 4 classes are cat, dog",
        ),
        ({"a": SimpleNamespace(arch="x", lacks=[0, 1, 2, 3], keeps=1.0, options={}, copies=0)}, "lists every class"),
        (SimpleNamespace(auto=5), "cooperative.members.auto: 5 members cannot each lack a different one of 4 classes"),
    ],
)
def test_a_class_that_does_not_exist_is_refused(section, said):
    with pytest.raises(ParamsError, match=said):
        members_of(section, CLASSES, "s")


def test_shards_are_disjoint_and_complete():
    shards = [visible_rows(f"m{i}", Member("x", (), f"{i}/3"), LABELS, 0) for i in (1, 2, 3)]
    assert sorted(np.concatenate(shards).tolist()) == list(range(100))


def test_a_fraction_is_kept_of_every_class_and_differs_between_members():
    a, b = (visible_rows(name, Member("x", (0,), 0.4), LABELS, 0) for name in "ab")
    assert np.bincount(LABELS[a]).tolist() == [0, 10, 10, 10]
    assert set(a.tolist()) != set(b.tolist())
