"""A method's dataclass and its section of params.yaml have the same keys."""

from dataclasses import dataclass, fields
from importlib import import_module
from types import SimpleNamespace

import pytest

from pipeline.errors import ParamsError
from pipeline.params.load import load
from pipeline.params.schema import KINDS, Section
from pipeline.training.participants import create_method


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
