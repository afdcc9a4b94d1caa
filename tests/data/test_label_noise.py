"""Label noise: exact counts, no label that stays true, clean validation and test, and confusion matrices from files."""

from pathlib import Path

import numpy as np
import pytest
from pictures import make_folder, section

from pipeline.data.label_noise import noisy_labels, read_confusion
from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.open import open_source
from pipeline.data.sources.streamed import write_manifest
from pipeline.data.split import teacher_rows
from pipeline.errors import DataError

ROOT = Path(__file__).parents[2]
LABELS = np.repeat(np.arange(10), [30, 50, 40, 41, 39, 40, 40, 40, 40, 40])  # [400]
CLASSES = ["ant", "bee", "cow"]
CSV = "true,ant,bee,cow\nant,0.5,0.25,0.25\nbee,0,1,0\ncow,0.1,0.2,0.7\n"
MATRIX = np.array([[0.5, 0.25, 0.25], [0, 1, 0], [0.1, 0.2, 0.7]])


def digits(folder: Path, noise, seed=0) -> Prepared:
    data = section("digits", ROOT / "data/digits", label_noise=noise, seed=seed)
    prepare(open_source(data), data, folder)
    return Prepared.read(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {file.name: file.read_bytes() for file in folder.iterdir()}


@pytest.mark.parametrize("fraction", [0.001, 0.0025, 0.1, 0.2, 0.4, 0.999])
def test_a_fraction_makes_exactly_so_many_labels_wrong_in_every_class(fraction):
    noisy = noisy_labels(LABELS, fraction, 10, seed=0)
    wrong = noisy != LABELS
    assert wrong.sum() == round(fraction * 400)
    assert noisy.min() >= 0 and noisy.max() <= 9
    for label in range(10):
        of_class = LABELS == label
        assert abs(wrong[of_class].sum() - fraction * of_class.sum()) < 1


def test_the_wrong_labels_of_a_fraction_are_uniform_over_the_other_classes():
    labels = np.zeros(90_000, int) + 3
    counts = np.bincount(noisy_labels(labels, 0.9, 10, seed=5), minlength=10)
    assert counts[3] == 9000
    others = np.delete(counts, 3)  # each binomial with mean 9,000 and standard deviation 89
    assert others.sum() == 81_000 and abs(others - 9000).max() < 400


def test_more_noise_keeps_the_wrong_labels_of_less():
    little, much = (noisy_labels(LABELS, fraction, 10, seed=0) for fraction in (0.2, 0.4))
    wrong = little != LABELS
    assert (much[wrong] == little[wrong]).all()


def test_seeds_draw_other_images_and_other_labels_and_a_seed_always_the_same():
    first, again, other = (noisy_labels(LABELS, 0.4, 10, seed) for seed in (0, 0, 1))
    assert (first == again).all()
    both = (first != LABELS) & (other != LABELS)
    assert ((first != LABELS) != (other != LABELS)).any() and (first[both] != other[both]).any()


def test_noise_is_not_drawn_from_the_stream_of_the_split_or_of_the_teachers_share():
    wrong = np.flatnonzero(noisy_labels(LABELS, 0.5, 10, seed=0) != LABELS)
    assert not np.array_equal(wrong, teacher_rows(LABELS, 0.5, 0))
    assert 60 < len(np.intersect1d(wrong, teacher_rows(LABELS, 0.5, 0))) < 140  # independent: 100 on average


def test_two_classes_swap_and_one_class_is_refused():
    labels = np.array([0, 1] * 50)
    noisy = noisy_labels(labels, 0.3, 2, seed=0)
    wrong = noisy != labels
    assert wrong.sum() == 30 and (noisy[wrong] == 1 - labels[wrong]).all()
    with pytest.raises(DataError, match=r"data\.label_noise: a wrong label needs a second class"):
        noisy_labels(np.zeros(10, int), 0.2, 1, seed=0)


def test_labels_follow_a_confusion_matrix():
    labels = np.arange(60_000) % 3
    noisy = noisy_labels(labels, MATRIX, 3, seed=0)
    counts = np.zeros((3, 3))
    for true, given in zip(labels, noisy):
        counts[true, given] += 1
    assert abs(counts / 20_000 - MATRIX).max() < 0.02  # six standard deviations
    assert (counts[MATRIX == 0] == 0).all() and counts[1, 1] == 20_000
    assert (noisy_labels(labels, np.eye(3), 3, seed=0) == labels).all()


@pytest.mark.parametrize("zero", [None, 0, 0.0])
def test_no_noise_leaves_every_byte_of_the_prepared_data(tmp_path, zero):
    digits(tmp_path / "none", None)
    data = digits(tmp_path / "zero", zero)
    assert contents(tmp_path / "zero") == contents(tmp_path / "none")
    assert data.table.columns == ["index", "source", "label", "class", "split"]
    assert (data.true_labels("train") == data.labels("train")).all()


def test_noise_changes_training_labels_and_nothing_else(tmp_path):
    clean, noisy = digits(tmp_path / "clean", None), digits(tmp_path / "noisy", 0.2)
    before, after = contents(clean.folder), contents(noisy.folder)
    assert {name for name in before if before[name] != after[name]} == {"split.parquet", "meta.json"}
    for split in ("validation", "test"):
        assert (noisy.labels(split) == clean.labels(split)).all()
        assert (noisy.true_labels(split) == clean.labels(split)).all()
    assert (noisy.true_labels("train") == clean.labels("train")).all()
    assert (noisy.labels("train") != clean.labels("train")).sum() == round(0.2 * 400)
    assert noisy.table["class"].to_list() == [noisy.classes[label] for label in noisy.table["label"]]
    assert noisy.table.drop("label", "class", "true_label").equals(clean.table.drop("label", "class"))
    assert noisy.fingerprint != clean.fingerprint


def test_streamed_and_copied_images_get_the_same_wrong_labels(tmp_path):
    images = make_folder(tmp_path / "set", sizes=((40, 30), (33, 33)))
    write_manifest(images, tmp_path / "manifest", on_error="fail")
    (tmp_path / "manifest/confusion.csv").write_text("x,dog,cat\ndog,0.3,0.7\ncat,0.6,0.4\n")
    (images / "confusion.csv").write_text("x,dog,cat\ndog,0.3,0.7\ncat,0.6,0.4\n")
    for noise in (0.25, "confusion.csv"):
        options = {"image_size": 16, "label_noise": noise}
        asked = [
            section("folder", tmp_path / "manifest", storage="stream", **options),
            section("folder", images, **options),
        ]
        tables = []
        for k, data in enumerate(asked):
            prepare(open_source(data), data, tmp_path / f"{k}")
            tables.append(Prepared.read(tmp_path / f"{k}").table.select("source", "label", "true_label", "split"))
        assert tables[0].sort("source").equals(tables[1].sort("source"))
        assert (tables[0]["label"] != tables[0]["true_label"]).any()


def test_a_confusion_file_names_or_numbers_classes_in_any_order(tmp_path):
    file = tmp_path / "confusion.csv"
    shuffled = "label, cow ,ant,bee\nbee,0,0,1\ncow,0.7,0.1,0.2\nant,0.25,0.5,0.25\n"
    numbered = ",0,2,1\n2,0.1,0.7,0.2\n0,5e-1,.25,.25\n1,0,0,1\n"
    for text in (CSV, CSV.replace("\n", "\r\n"), shuffled, numbered, CSV.replace("ant", '"ant"')):
        file.write_text(text)
        assert (read_confusion(file, CLASSES) == MATRIX).all(), text


BAD = {
    "": "cannot be read as CSV",
    "true,ant,bee\nant,1,0\nbee,0,1\n": "must have 4 lines of 4 cells for 3 classes, but has 3 of 3",
    CSV + "dog,0,0,1\n": "must have 4 lines of 4 cells for 3 classes, but has 5 of 4",
    CSV.replace("cow", "dog"): "line 1: the data have no class 'dog'",
    CSV.replace("\ncow", "\ndog"): "first column: the data have no class 'dog'",
    CSV.replace("\ncow", "\nbee"): "first column: each class must occur once",
    CSV.replace("ant,bee,cow", "ant,1,2"): "line 1: each class must occur once",
    CSV.replace("0.7", "0.6"): "line 4: the probabilities must not be negative and must sum to 1",
    CSV.replace("0.25,0.25", "0.75,-0.25"): "line 2: the probabilities must not be negative and must sum to 1",
    CSV.replace("0,1,0", "0,nan,0"): "line 3: the probabilities must not be negative",
    CSV.replace("0,1,0", "0,inf,0"): "line 3: the probabilities must not be negative",
    CSV.replace("0,1,0", "0,one,0"): "line 3: a probability is not a number",
    CSV.replace("0,1,0", "0,,0"): "line 3: a probability is not a number",
    CSV.replace("0,1,0", "0,1"): "line 3: a probability is not a number",
    CSV.replace("0,1,0", "0,1,0,0"): "confusion.csv",
}


@pytest.mark.parametrize("text", BAD)
def test_a_confusion_file_that_does_not_fit_the_data_is_one_line(tmp_path, text):
    file = tmp_path / "confusion.csv"
    file.write_text(text)
    with pytest.raises(DataError) as caught:
        read_confusion(file, CLASSES)
    message = str(caught.value)
    assert message.startswith(f"data.label_noise: {file}") and BAD[text] in message
    assert message.isprintable()


def test_a_confusion_file_that_is_no_text_or_no_file_is_one_line(tmp_path):
    file = tmp_path / "confusion.csv"
    for content in (b"\xff\xfe\x00\x01" * 50, b"PAR1", b"\n" * 9, b'"', "é,\x1b[31m\n".encode()):
        file.write_bytes(content)
        with pytest.raises(DataError, match=r"data\.label_noise: ") as caught:
            read_confusion(file, CLASSES)
        assert str(caught.value).isprintable()
    with pytest.raises(DataError, match=r"data\.label_noise: .* is not a regular file"):
        read_confusion(tmp_path, CLASSES)
