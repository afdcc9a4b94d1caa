"""The parameters behind a student, as sections of params.yaml.

The module knows how dotted keys nest, but not what any parameter means.
"""

from io import StringIO
from typing import Any

from ruamel.yaml import YAML


def sections(parameters: dict[str, Any]) -> dict[str, Any]:
    """Return parameters as the sections of params.yaml.

    Args:
        parameters: The values by dotted key, such as "student.arch", in the words of params.yaml.
    """
    document: dict[str, Any] = {}
    for key, value in parameters.items():
        *above, last = key.split(".")
        inside = document
        for part in above:
            inside = inside.setdefault(part, {})
        if isinstance(value, dict) and isinstance(inside.get(last), dict):
            inside[last] = {**value, **inside[last]}
        else:
            inside[last] = dict(value) if isinstance(value, dict) else value
    return document


def as_yaml(document: dict[str, Any]) -> str:
    """Return plain data as YAML, without a line break at the end."""
    yaml = YAML()
    yaml.default_flow_style = False
    yaml.width = 2**20  # else long text is folded
    yaml.indent(mapping=2, sequence=2, offset=0)
    text = StringIO()
    yaml.dump(document, text)
    return text.getvalue().rstrip("\n")
