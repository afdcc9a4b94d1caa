"""Rows of features are standardised on the training split; a bad table is a one-line error."""

from types import SimpleNamespace

import numpy as np
import polars as pl
import pytest
import torch
from sklearn.datasets import load_breast_cancer, load_wine

from pipeline.data import prepared
from pipeline.data.prepare import prepare
from pipeline.data.prepared import Prepared
from pipeline.data.sources.open import open_source
from pipeline.data.sources.table import natural
from pipeline.errors import DataError
from pipeline.params.tables import TABLES

DATA = {"source": "table", "storage": None, "image_size": None, "limit": None, "validation": None, "seed": 0}
DATA |= {"label_noise": None, "on_error": "fail", "image_column": None, "label_column": None}


def section(root, **changed):
    return SimpleNamespace(**{**DATA, "root": str(root), **changed})


def prepared_table(root, out, **changed) -> Prepared:
    data = section(root, **changed)
    prepare(open_source(data), data, out)
    return Prepared.read(out)


def frame(n: int = 60) -> pl.DataFrame:
    draw = np.random.default_rng(0)
    return pl.DataFrame(
        {
            "age": draw.integers(0, 90, n),
            "label": ["bad" if k % 3 else "good" for k in range(n)],
            "weight": draw.normal(70, 9, n),
            "constant": np.ones(n),
        }
    )


@pytest.mark.parametrize("name", ["breast_cancer", "wine"])
def test_packaged_tables_are_those_of_scikit_learn(name, tmp_path):
    bunch = {"breast_cancer": load_breast_cancer, "wine": load_wine}[name]()
    table = open_source(section(tmp_path, source=name))
    assert np.array_equal(table.features["train"], bunch.data) and np.array_equal(
        table.splits["train"].labels, bunch.target
    )
    assert table.classes == list(bunch.target_names)


def test_features_are_standardised_on_the_training_split(tmp_path):
    data = prepared_table(tmp_path, tmp_path / "out", source="breast_cancer")
    views = {s: data.views(s, device=torch.device("cpu")) for s in ("train", "test")}
    x = {s: v.plain(torch.arange(len(v))).flatten(1).double() for s, v in views.items()}
    torch.testing.assert_close(x["train"].mean(0), torch.zeros(30, dtype=torch.float64), atol=1e-4, rtol=0)
    torch.testing.assert_close(x["train"].std(0, correction=0), torch.ones(30, dtype=torch.float64), atol=1e-3, rtol=0)
    bunch = load_breast_cancer().data
    rows = {s: [int(name.split(":")[1]) - 1 for name in data.table.filter(pl.col("split") == s)["source"]] for s in x}
    mean, std = bunch[rows["train"]].mean(0), bunch[rows["train"]].std(0)
    assert not set(rows["train"]) & set(rows["test"])
    np.testing.assert_allclose(x["test"].numpy(), (bunch[rows["test"]] - mean) / std, atol=2e-3)


@pytest.mark.parametrize("kind", ["csv", "parquet"])
def test_a_file_gives_the_same_rows_in_both_formats(tmp_path, kind):
    getattr(frame(), f"write_{kind}")(tmp_path / f"train.{kind}")
    data = prepared_table(tmp_path, tmp_path / "out")
    assert data.classes == ["bad", "good"] and data.meta.in_chans == 3 and data.meta.image_size == (1, 1)
    assert data.meta.counts == {"train": 36, "validation": 12, "test": 12}
    views = data.views("train", device=torch.device("cpu"))
    index = torch.arange(len(views))
    assert torch.equal(views(index, seed=3, epoch=5), views.plain(index))  # rows are not augmented
    assert bool(views.plain(index).isfinite().all())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda f: f.drop("label"), "has no column label"),
        (lambda f: f.with_columns(age=pl.lit("old")), "column age has the type String, not numbers"),
        (lambda f: f.with_columns(age=pl.lit(float("nan"))), "a number in column age is missing or not finite"),
        (lambda f: f.with_columns(label=pl.lit(None)), "a label in column label is missing"),
        (lambda f: f.with_columns(label=pl.lit("one")), "column label has 1 classes"),
        (lambda f: f.select("label"), "has no columns besides the label"),
        (lambda f: f.clear(), "has no rows"),
        (
            lambda f: f.with_columns(label=pl.Series([1.0, 2.0, float("nan")] * 20)),
            "a label in column label is missing",
        ),
        (lambda f: f.with_columns(label=pl.Series([" ", "b"] * 30)), "column label: a class name is empty"),
        (lambda f: f.with_columns(label=pl.Series(["a\nb", "b"] * 30)), r"column label: the class name 'a\nb' has a"),
    ],
)
def test_a_bad_table_is_one_line(tmp_path, change, message):
    change(frame()).write_parquet(tmp_path / "train.parquet")
    with pytest.raises(DataError) as caught:
        open_source(section(tmp_path))
    assert message in str(caught.value) and "\n" not in str(caught.value)
    assert str(tmp_path / "train.parquet") in str(caught.value)


def test_numbers_of_every_type_are_features(tmp_path):
    numbers = frame()["age"]
    types = (pl.Int128, pl.UInt8, pl.Float32, pl.Decimal(10, 2), pl.Float64)
    wide = frame().select("label", *(numbers.cast(dtype).alias(str(k)) for k, dtype in enumerate(types)))
    wide.write_parquet(tmp_path / "train.parquet")
    features = open_source(section(tmp_path)).features["train"]
    assert features.dtype == np.float64 and (features == numbers.to_numpy()[:, None]).all()


FAR = {
    "test": ("test", [1e300], "test.csv:1: 1e+300 in column weight cannot be scaled by the training rows, "),
    "train": ("train", [1e308], "train.csv:1: 1e+308 in column weight cannot be scaled by the training rows, "),
    "range": ("train", [1e308, -1e308], "in column weight cannot be scaled by the training rows, -1e+308 to 1e+308"),
}


@pytest.mark.parametrize("case", FAR)
def test_a_number_that_32_bits_do_not_hold_is_one_line(tmp_path, case):
    changed, far, message = FAR[case]
    for split in ("train", "validation", "test"):
        rows = frame()
        if split == changed:
            rows = rows.with_columns(weight=pl.Series([*far, *rows["weight"].to_list()[len(far) :]]))
        rows.write_csv(tmp_path / f"{split}.csv")
    with pytest.raises(DataError) as caught:
        prepared_table(tmp_path, tmp_path / "out")
    assert message in str(caught.value) and "\n" not in str(caught.value) and not (tmp_path / "out").exists()


def test_damaged_tables_are_read_or_one_line(tmp_path, capfd):
    """Polars panics on some of them, and prints the stack of its panic."""
    file, draw, refused = tmp_path / "train.parquet", np.random.default_rng(0), 0
    frame().write_parquet(file)
    valid = file.read_bytes()
    for k in range(200):
        data = bytearray(valid)
        for place in draw.integers(0, len(data), 1 + k % 8):
            data[place] = int(draw.integers(0, 256))
        file.write_bytes(data if k % 10 else data[: draw.integers(0, len(data))])
        try:
            open_source(section(tmp_path))
        except DataError as error:
            refused += 1
            assert str(error).startswith(str(file)) and str(error).isprintable()
    assert refused > 50 and capfd.readouterr().err == ""


def test_files_that_do_not_fit_each_other_are_one_line(tmp_path):
    with pytest.raises(DataError, match=r"has neither train\.csv nor train\.parquet"):
        open_source(section(tmp_path))
    (tmp_path / "train.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(DataError, match=r"train\.csv"):
        open_source(section(tmp_path))
    frame().write_csv(tmp_path / "train.csv")
    frame().with_columns(label=pl.lit("new")).write_csv(tmp_path / "test.csv")
    with pytest.raises(DataError, match="class new is not one of the training rows"):
        open_source(section(tmp_path))
    (tmp_path / "test.csv").unlink()
    frame().with_columns(label=pl.lit("")).write_parquet(tmp_path / "test.parquet")
    with pytest.raises(DataError, match=r"class '' is not one of the training rows"):
        open_source(section(tmp_path))


@pytest.mark.parametrize("split", ["train", "test"])
def test_a_split_in_two_formats_is_one_line(tmp_path, split):
    frame().write_csv(tmp_path / "train.csv")
    frame().write_csv(tmp_path / f"{split}.csv")
    frame().write_parquet(tmp_path / f"{split}.parquet")
    with pytest.raises(DataError, match=rf"has both {split}\.parquet and {split}\.csv: remove one$"):
        open_source(section(tmp_path))


def test_classes_have_one_order_whatever_their_names(tmp_path):
    names = ["-1", "0", "01", "1", "2", "10", "inf", "NaN", "nan", "old"]
    for seed in range(20):
        shuffled = np.random.default_rng(seed).permutation(names)
        assert sorted(shuffled, key=natural) == names
        pl.DataFrame({"x": range(10), "label": shuffled}).write_parquet(tmp_path / "train.parquet")
        assert open_source(section(tmp_path)).classes == names


LABELS = {  # in a CSV file: of the training rows, the classes, of the test rows, their numbers
    "leading zeros": (["01", "x"], ["01", "x"], ["01", "01"], [0, 0]),
    "zeros only in train": (["1", "01", "2"], ["01", "1", "2"], ["2", "1"], [2, 1]),
    "numbers in their order": (["10", "9", "-1"], ["-1", "9", "10"], ["10", "9"], [2, 1]),
    "decimals": (["1.50", "2", "1e1"], ["1.50", "2", "1e1"], ["2"], [1]),
    "Booleans": (["true", "False"], ["False", "True"], ["TRUE", "false"], [1, 0]),
    "Booleans and a word": (["true", "no"], ["no", "true"], ["true", "true"], [1, 1]),
}


@pytest.mark.parametrize("case", LABELS)
def test_a_label_is_the_text_of_its_cell(tmp_path, case):
    train, classes, test, labels = LABELS[case]
    for split, cells in (("train", train), ("test", test)):
        (tmp_path / f"{split}.csv").write_text("x,label\n" + "".join(f"{k},{cell}\n" for k, cell in enumerate(cells)))
    table = open_source(section(tmp_path))
    assert table.classes == classes and table.splits["test"].labels.tolist() == labels


@pytest.mark.parametrize("booleans", [[True, False], ["true", "false"]])
def test_labels_of_a_parquet_file_are_their_values(tmp_path, booleans):
    pl.DataFrame({"x": [0, 1], "label": booleans}).write_parquet(tmp_path / "train.parquet")
    assert open_source(section(tmp_path)).classes == sorted(map(str, booleans))


@pytest.mark.parametrize("cells", [["0", "", "1"], ["0", "NaN", "1.5"], ["a", "", "b"]])
def test_an_empty_cell_is_no_label(tmp_path, cells):
    (tmp_path / "train.csv").write_text("x,label\n" + "".join(f"{k},{cell}\n" for k, cell in enumerate(cells)))
    with pytest.raises(DataError, match=r"train\.csv: a label in column label is missing$"):
        open_source(section(tmp_path))


@pytest.mark.parametrize(
    ("header", "twice"),
    [
        ("x,label,label", "label"),
        ("x,x,label", "x"),
        ('\ufeff"x ,""",label,"x ,"""', 'x ,"'),
        ("\n\nx,label,x", "x"),
        (",,label", "without a name"),
    ],
)
def test_a_column_that_is_there_twice_is_named(tmp_path, header, twice):
    (tmp_path / "train.csv").write_text("x,X,label\n1,2,0\n3,4,1\n")
    file = tmp_path / "test.csv"
    file.write_text(f"{header}\n1,1,0\n0,0,1\n")
    with pytest.raises(DataError) as caught:
        open_source(section(tmp_path))
    assert str(caught.value) == f"{file} has 2 columns {twice}: keep one of them"


def test_params_and_data_name_the_same_tables():
    assert TABLES == prepared.TABLES
