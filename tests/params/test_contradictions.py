"""Parameters that contradict each other are refused in one line; files that a study names need not exist."""

from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.errors import ParamsError
from pipeline.params import load as params
from pipeline.params.cautions import cautions

ROOT = Path(__file__).parents[2]


def document(**changed) -> dict:
    """params.yaml with other values in some sections: section={key: value}."""
    whole = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())
    for section, values in changed.items():
        whole[section].update(values)
    return whole


def write(file: Path, content: dict) -> None:
    with file.open("w") as out:
        YAML().dump(content, out)


def mistakes(whole: dict) -> list[str]:
    """The lines of the error about a document; none if it is valid."""
    try:
        params.validated(whole)
    except ParamsError as error:
        return str(error).splitlines()
    return []


@pytest.fixture(autouse=True)
def at_root(monkeypatch):
    monkeypatch.chdir(ROOT)


@pytest.mark.parametrize("epochs", [1, 2, 3])
def test_the_teacher_is_trained_for_longer_than_its_warmup(epochs):
    found = mistakes(document(train={"warmup_epochs": 2}, teacher={"epochs": epochs}))
    line = f"params.yaml: teacher.epochs: must be greater than train.warmup_epochs (2), got {epochs}"
    assert found == ([] if epochs > 2 else [line])


@pytest.mark.parametrize("epochs", [9, 10, 11])
def test_dkd_whose_warmup_outlasts_the_training_is_valid_and_gets_a_warning(epochs):
    whole = document(train={"epochs": epochs}, dkd={"warmup_epochs": 10})
    line = "dkd.warmup_epochs: 10 is more than train.epochs (9): alpha and beta end at 9/10 of their values"
    assert list(cautions(params.validated(whole))) == ([line] if epochs == 9 else [])
    del whole["methods"]["dkd"]
    assert list(cautions(params.validated(whole))) == []


@pytest.mark.parametrize("name", ["kd", "average"])
def test_a_loss_has_a_weight_that_is_not_zero(name):
    weights = {"ce_weight": 0.0, "kd_weight": 0.0}
    for zero in weights:
        assert mistakes(document(**{name: {zero: 0.0}})) == []
    (line,) = mistakes(document(**{name: weights}))
    assert line.startswith(f"params.yaml: {name}.ce_weight: must be greater than 0 if {name}.kd_weight is 0, because")


@pytest.mark.parametrize(
    ("source", "storage", "listed"),
    [("folder", "memory", False), ("folder", "stream", True), ("imagenet", "auto", True), ("imagenet", "memory", True)],
)
def test_images_that_a_manifest_lists_cannot_be_skipped(source, storage, listed):
    data = {"source": source, "storage": storage, "image_size": 64}
    assert mistakes(document(data=data)) == []
    found = mistakes(document(data=data | {"on_error": "skip"}))
    assert len(found) == listed
    assert all(line.startswith("params.yaml: data.on_error: must be fail for images that a manifest") for line in found)


@pytest.mark.parametrize(
    ("key", "readers"), [("image_column", {"parquet"}), ("label_column", {"parquet", "table"})], ids=["image", "label"]
)
def test_only_sources_that_read_a_column_accept_its_name(key, readers):
    for source in ("digits", "folder", "imagenet", "cifar10", "parquet", "table", "wine"):
        found = mistakes(document(data={"source": source, key: "a"}))
        assert any(f"data.{key}: " in line for line in found) == (source not in readers)


def test_a_mistake_in_another_file_names_that_file(tmp_path):
    file = tmp_path / "params.yaml"
    sections = {f"s{k}": {} for k in range(1001)}
    for wrong in (document(train={"lr": -1.0}), document(report={"reference": "cooperative"}), sections):
        write(file, wrong)
        with pytest.raises(ParamsError) as caught:
            params.load("train", file=file)
        assert str(caught.value).startswith(f"{file}: ") and len(str(caught.value).splitlines()) == 1
    write(file, document())
    with pytest.raises(ParamsError) as caught:
        params.load("methods.ork", file=file)
    assert str(caught.value) == f"{file}: methods.ork: there is no such key; nearest: orc"


def test_another_file_is_read_without_the_data_and_weights_that_it_names(tmp_path):
    whole = document(teacher={"checkpoint": "no/such.pt"}, data={"label_noise": "no.csv"})
    write(tmp_path / "params.yaml", whole)
    loaded = params.load("teacher", "data", file=tmp_path / "params.yaml")
    assert loaded["teacher"].checkpoint == "no/such.pt" and loaded["data"].label_noise == "no.csv"
    assert len(mistakes(whole)) == 2
