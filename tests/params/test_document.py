"""docs/parameters.md is generated from the schema."""

import re
import warnings
from pathlib import Path

import pytest
from ruamel.yaml import YAML

from pipeline.params.document import document
from pipeline.params.load import load, plain, validated

ROOT = Path(__file__).parents[2]


def test_parameters_page_is_up_to_date_with_the_schema():
    assert (ROOT / "docs/parameters.md").read_text() == document(), "python -m pipeline.params.document"


def test_every_key_of_params_yaml_is_documented():
    page = document()

    def keys(prefix, value):
        if isinstance(value, dict) and prefix.split(".")[0] not in ("methods", "assistants"):
            for key, inside in value.items():
                yield from keys(f"{prefix}.{key}" if prefix else key, inside)
        else:
            yield prefix

    kinds = {name: entry["is"] for name, entry in DOCUMENT["methods"].items()}
    for key in keys("", {k: v for k, v in DOCUMENT.items() if k not in ("methods", "assistants", "seeds")}):
        section, *rest = key.split(".")
        own = ".".join([kinds.get(section, section), *rest])
        own = re.sub(r"^(cooperative\.members)\.\w+", r"\1.NAME", own)
        assert f"`{own}`" in page, own


DOCUMENT = YAML(typ="safe", pure=True).load((ROOT / "params.yaml").read_text())


@pytest.mark.parametrize("members", [{"auto": 3}, DOCUMENT["cooperative"]["members"]])
def test_values_convert_to_plain_data_without_a_warning(monkeypatch, members):
    monkeypatch.chdir(ROOT)
    document = {**DOCUMENT, "cooperative": {**DOCUMENT["cooperative"], "members": members}}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        section = plain(validated(document)["cooperative"])
    optional = {} if "auto" in members else {"options": {}, "copies": 0}
    assert (
        section["members"] == {k: {**optional, **m} if optional else m for k, m in members.items()}
        and load("kd").plain()["kd"] == DOCUMENT["kd"]
    )
