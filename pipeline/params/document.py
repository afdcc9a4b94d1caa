"""Generate docs/parameters.md from the schema: `python -m pipeline.params.document > docs/parameters.md`."""

import json
from collections.abc import Iterator
from typing import Any

from pydantic import TypeAdapter

from pipeline.params.schema import FIXED, KINDS, Section

HEAD = """# Parameters

Every key of `params.yaml`. The file itself holds the defaults; the code has none. A wrong key, type or bound stops
`dvc repro` in its first second with one line that names it. `auto` lets the data, the source or another section decide.
Where a type ends with "tuned", [`python -m stages.tune`](tuning.md) searches these values.
This page is generated: `python -m pipeline.params.document > docs/parameters.md`.
"""
INTROS = {  # of the sections that are no class
    "assistants": "Teacher assistants. TAKD and DGKD each train a chain of them.",
    "seeds": "Teacher, assistants, members and students are trained for each of these seeds.",
    "methods": "What is trained and compared. Each entry has a section of its own name.",
}
SYMBOLS = {
    "kd.temperature": "tau",
    "takd.lam": "lambda",
    "dgkd.lam": "lambda, lambda_1..lambda_n",
    "dgkd.survival": "p",
    "orc.beta": "beta",
    "orc.promoted": "k",
    "orc.mixup_alpha": "alpha of Beta(alpha, alpha)",
    "cooperative.alpha": "alpha",
    "cooperative.proximity": "1 / lambda",
}


def document() -> str:
    """The page as Markdown."""
    parts = [HEAD]
    for name, schema in FIXED.items():
        parts.append(section(name, schema, ""))
    parts.append("\n# Sections of methods\n\nAn entry of `methods` has a section of its own name with these keys.\n")
    for kind, schema in KINDS.items():
        parts.append(section(kind, schema, f"`is: {kind}`. "))
    return "".join(parts)


def section(name: str, schema: Any, intro: str) -> str:
    """A heading, a description of the section, and a table of its keys."""
    described = isinstance(schema, type) and issubclass(schema, Section)
    intro += (schema.__doc__ or "").strip() if described else INTROS.get(name, "")
    rows = "".join(
        f"| `{key}` | {kind} | {meaning} | {SYMBOLS.get(key, '')} |\n" for key, kind, meaning in keys(name, schema)
    )
    return f"\n## {name}\n\n{intro}\n\n| key | type and bounds | meaning | in the paper |\n|---|---|---|---|\n{rows}"


def keys(name: str, schema: Any) -> Iterator[tuple[str, str, str]]:
    """The dotted key, the type with its bounds, and the meaning of each parameter."""
    described = TypeAdapter(schema).json_schema()
    definitions = described.get("$defs", {})

    def of(key: str, node: dict[str, Any]) -> Iterator[tuple[str, str, str]]:
        target = definitions[node["$ref"].split("/")[-1]] if "$ref" in node else node
        if "properties" in target:
            for own, inside in target["properties"].items():
                yield from of(f"{key}.{own}", {**inside})
        elif "$ref" in (inside := values_of(target)):
            yield from of(f"{key}.NAME", inside)
        else:
            yield key, kind_of(node, definitions) + searched(node), text_of(node)
            for part in node.get("oneOf", ()):  # a mapping by name, as one of several kinds of values
                if "$ref" in (inside := values_of(part)):
                    yield from of(f"{key}.NAME", inside)

    yield from of(name, described)


def values_of(node: dict[str, Any]) -> dict[str, Any]:
    """The JSON schema of the values of a mapping."""
    return next(iter(node.get("patternProperties", {}).values()), node.get("additionalProperties") or {})


def word_for_none(node: dict[str, Any]) -> list[str]:
    """The word that a key accepts instead of a value, if it accepts one."""
    return [f"`{node['word_for_none']}`"] if "word_for_none" in node else []


def text_of(node: dict[str, Any]) -> str:
    """The description of a parameter, for a cell of a Markdown table."""
    return str(node.get("description", "")).replace("|", "\\|")


def searched(node: dict[str, Any]) -> str:
    """The space in which `stages.tune` searches a parameter, in words."""
    return f"; tuned: {node['search']}" if "search" in node else ""


def at_most(node: dict[str, Any], key: str) -> str:
    """The bound of the length of a list or a mapping in words."""
    return f" (at most {node[key]})" if key in node else ""


def kind_of(node: dict[str, Any], definitions: dict[str, Any] | None = None) -> str:
    """The type of a JSON schema in words."""
    if "$ref" in node:
        return "a mapping: " + ", ".join(
            f"`{key}`" for key in (definitions or {})[node["$ref"].split("/")[-1]]["properties"]
        )
    for several in ("anyOf", "oneOf"):
        if several in node:
            kinds = [kind_of(part, definitions) for part in node[several] if part.get("type") != "null"]
            return " or ".join(dict.fromkeys([*kinds, *word_for_none(node)]))
    if "enum" in node:
        return ", ".join(f"`{value}`" for value in node["enum"])
    if "const" in node:
        return f"`{node['const']}`"
    kind = node.get("type", "any")
    if kind == "array":
        return f"list of {kind_of(node['items'], definitions)}{at_most(node, 'maxItems')}"
    if kind == "object":
        return f"name -> {kind_of(values_of(node), definitions)}{at_most(node, 'maxProperties')}"
    words = {"integer": "integer", "number": "number", "boolean": "`true`, `false`", "string": "text"}[kind]
    bounds = {"minimum": ">=", "exclusiveMinimum": ">", "maximum": "<=", "exclusiveMaximum": "<"}
    limits = [f"{sign} {json.dumps(node[bound])}" for bound, sign in bounds.items() if bound in node]
    return " ".join([words, ", ".join(limits)]).strip()


if __name__ == "__main__":
    print(document(), end="")
