"""A method's dataclass and its section of params.yaml have the same keys."""

from dataclasses import dataclass, fields
from importlib import import_module
from types import SimpleNamespace

import numpy as np
import pytest
from toy_run import same

from pipeline.core.interface import Network
from pipeline.data.split import teacher_rows
from pipeline.errors import ParamsError
from pipeline.methods.scratch import Scratch
from pipeline.models.create import create
from pipeline.params.load import load
from pipeline.params.schema import KINDS, Section
from pipeline.storage.bundle import write_network
from pipeline.training.participants import create_method, distillation, learning_from


@pytest.mark.parametrize("name", list(load("methods")["methods"]))
def test_method_is_created_with_every_value_of_its_section(name):
    kind, section = load("methods")["methods"][name].is_, load(name)[name]
    method = create_method(kind, section)
    for field in fields(method):
        value = getattr(section, field.name)
        assert getattr(method, field.name) == (value.model_dump() if hasattr(value, "model_dump") else value)


@pytest.mark.parametrize("kind", KINDS)
def test_schema_and_dataclass_of_a_method_have_equal_keys(kind):
    own = {field.name for field in fields(import_module(f"pipeline.methods.{kind}").METHOD)}
    assert own == set(KINDS[kind].model_fields) - KINDS[kind].stage_keys


@pytest.mark.parametrize(("declared", "unequal"), [({"a": int, "b": int}, "b"), ({}, "a")])
def test_key_in_only_one_of_schema_and_dataclass_is_an_error_that_names_it(monkeypatch, declared, unequal):
    @dataclass(frozen=True)
    class Method:
        a: int

    schema = type("Schema", (Section,), {"__annotations__": declared})
    monkeypatch.setattr("pipeline.training.participants.import_module", lambda name: SimpleNamespace(METHOD=Method))
    with pytest.raises(ParamsError, match=rf"^pipeline/methods/mine\.py: .*only one of them has: {unequal}$"):
        create_method("mine", schema(**dict.fromkeys(declared, 1)))


def test_networks_that_learn_do_so_on_the_given_rows_and_guides_keep_theirs():
    rows, others = np.array([1, 4]), np.array([0, 2])
    networks = {
        "student": Network("a"),
        "pivot": Network("b", sees=others),
        "teacher": Network("c", learns=False, sees=others),
    }
    given = learning_from(networks, rows)
    assert given["student"].sees is rows and given["pivot"].sees is rows and given["teacher"].sees is others
    assert all(network.sees is None for network in learning_from(networks, None).values() if network.learns)


def test_a_network_is_trained_on_exactly_the_rows_that_it_sees(toy):
    trained = []

    class Recorded(Scratch):
        def step(self, nets, leg, batch):
            trained.extend(batch.index.tolist())
            yield from super().step(nets, leg, batch)

    rows = teacher_rows(toy.train.labels.numpy(), 0.5, 0)
    networks = learning_from({"teacher": Network("tiny_plain2_12")}, rows)
    toy.run(Recorded(ce_weight=1.0, label_smoothing=0.0), networks=networks, batch_size=2, epochs=3).train()
    assert len(rows) == 22 and sorted(trained) == sorted(rows.tolist() * 3)


def test_all_rows_train_the_same_network_bit_for_bit(toy):
    assert teacher_rows(toy.train.labels.numpy(), 1.0, 0) is None
    everything = learning_from({"student": Network("tiny_plain2_12")}, np.arange(len(toy.train)))
    a, b = (
        toy.run(Scratch(ce_weight=1.0, label_smoothing=0.0), networks=n).train()
        for n in ({"student": Network("tiny_plain2_12")}, everything)
    )
    assert same(a.networks["student"].last, b.networks["student"].last)


def test_the_teachers_share_is_stratified_and_seeded():
    labels = np.arange(400) % 10
    rows = teacher_rows(labels, 0.3, 0)
    assert len(rows) == len(set(rows.tolist())) == 120 and (np.bincount(labels[rows]) == 12).all()
    assert np.array_equal(rows, teacher_rows(labels, 0.3, 0)) and not np.array_equal(rows, teacher_rows(labels, 0.3, 1))
    assert len(teacher_rows(labels, 1e-9, 0)) == 1


@pytest.mark.parametrize(
    ("kind", "start", "teachers", "guides"),
    [
        ("kd", ("teacher",), ["teacher"], ["teacher"]),
        ("takd", ("teacher", "ta1"), ["ta1"], ["ta1"]),
        ("dgkd", ("teacher", "ta1"), ["teacher", "ta1"], ["teacher", "ta1"]),
        ("orc_single", ("teacher",), ["teacher"], []),
        ("dml", ("teacher",), [], []),
        ("scratch", (), [], []),
    ],
)
def test_a_run_names_its_teachers_and_its_student_sees_all_images(tmp_path, kind, start, teachers, guides):
    shape = {"num_classes": 3, "in_chans": 1, "image_size": (8, 8)}
    for name in start:
        state = {k: v.contiguous() for k, v in create("tiny_plain2_12", **shape).state_dict().items()}
        record = {"arch": "tiny_plain2_12", **shape, "image_size": [8, 8]}
        write_network(tmp_path, name, record, last=state, sees=np.array([0, 2]))
    section = load(kind)[kind]
    section = section.model_copy(update={"peers": {"a": "tiny_plain2_16"}}) if kind == "dml" else section
    kind = load("methods")["methods"][kind].is_
    bundle = tmp_path if start else None
    run = distillation("mine", kind, section, student="tiny_plain2_12", after="models/x", bundle=bundle)
    assert (run.about["teachers"], run.about["guides"]) == (teachers, guides)
    learners = {name: network for name, network in run.networks.items() if network.learns}
    assert "student" in learners and all(network.sees is None for network in learners.values())
