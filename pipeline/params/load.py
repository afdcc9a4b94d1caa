"""Load params.yaml: validate the whole file, return what was asked for, report each mistake in one line."""

from functools import cache
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError

from pipeline.errors import ParamsError
from pipeline.params.messages import describe, hint, named, one_line, shown
from pipeline.params.rules import contradictions
from pipeline.params.schema import FIXED, KINDS, Runtime, schema_of
from pipeline.params.yaml_file import read

FILE = Path("params.yaml")
SHOWN = 20  # mistakes in one message
MOST_SECTIONS = 1000
NEEDED = ("takd", "dgkd", "cooperative")  # sections that stages before `distill` read
Values = dict[str, Any]


class Params:
    """The parameters that were asked for, by dotted key. Others cannot be read."""

    def __init__(self, values: Values):
        self.values = values

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def plain(self) -> Values:
        """All of them as plain data that params.yaml would accept, for checkpoint keys and for display."""
        return {key: plain(value) for key, value in self.values.items()}


def load(*keys: str, file: Path = FILE) -> Params:
    """The values of dotted keys of params.yaml, e.g. load("train", "student.arch", "methods.orc", "orc").

    The whole file is validated first.  Raises ParamsError with one line for each mistake.
    file: another file with the same keys, such as that of a study. Data and weights that it names need not exist.
    """
    values = validated(read(file), file)
    return Params({key: dig(values, key, file) for key in keys})


def runtime() -> Runtime:
    """The section `runtime`, on which no stage depends."""
    return load("runtime")["runtime"]


def validated(document: Values, file: Path = FILE) -> Values:
    """Every section as an object of its schema. Raises ParamsError with all mistakes.  file: which has the document."""
    if len(document) > MOST_SECTIONS:
        raise ParamsError(one_line(f"{file}: must have at most {MOST_SECTIONS} sections, got {len(document)}"))
    values: Values = {}
    mistakes: list[str] = []
    for section, schema in FIXED.items():
        if section in document:
            take(section, schema, document, values, mistakes)
        else:
            mistakes.append(f"{section}: is missing")
    kinds = kinds_of(document)
    for name, kind in kinds.items():
        where = f"methods.{named(name)}"
        if kind not in KINDS:
            mistakes.append(f"{where}.is: unknown method {shown(kind)}{hint(kind, KINDS)}")
        elif name in FIXED:
            mistakes.append(f"{where}: {name!r} is reserved for another section; choose another name")
        elif name in NEEDED and kind != name:
            mistakes.append(f"{where}.is: must be {name}, because stages before `distill` read the section {name}")
        elif name not in document:
            mistakes.append(
                f"{where}: the section {shown(name)} is missing; it has the keys of a method with `is: {kind}`"
            )
    for section in document:
        if section in FIXED or (section in kinds and kinds[section] not in KINDS):
            continue
        schemas = schemas_for(section, kinds)
        if len(schemas) == 1:
            take(section, schemas[0], document, values, mistakes)
        elif not any(fits(schema, document[section]) for schema in schemas):
            near = hint(section, [*FIXED, *KINDS, *kinds]) if len(mistakes) < SHOWN else ""
            mistakes.append(f"{named(section)}: unknown section{near}")
    for needed in NEEDED:
        if needed not in document and needed not in kinds:
            mistakes.append(f"{needed}: the section is missing; stages before `distill` read it")
    if not mistakes:
        mistakes = contradictions(values, document, files=file == FILE)
    if mistakes:
        rest = [f"... and {len(mistakes) - SHOWN} more"] if len(mistakes) > SHOWN else []
        raise ParamsError("\n".join(one_line(f"{file}: {mistake}") for mistake in [*mistakes[:SHOWN], *rest]))
    return values


def kinds_of(document: Values) -> dict[str, str]:
    """The kind of each entry of `methods` that names one; the schema reports the other entries."""
    entries = document.get("methods")
    pairs = entries.items() if isinstance(entries, dict) else ()
    return {name: e["is"] for name, e in pairs if isinstance(e, dict) and isinstance(e.get("is"), str)}


def schemas_for(section: Any, kinds: dict[str, str]) -> list[Any]:
    """Schemas that a section may have: that of its entry in `methods`; else that of the kind of its name; else any."""
    if section in kinds:
        return [schema_of(section, kinds[section])]
    if section in KINDS:
        return [schema_of(section, section)]
    return [schema_of(str(section), kind) for kind in KINDS]


@cache
def adapter(schema: Any) -> TypeAdapter[Any]:
    """What validates by a schema."""
    return TypeAdapter(schema)


def take(section: str, schema: Any, document: Values, values: Values, mistakes: list[str]) -> None:
    """Validate one section; add it to `values`, or its mistakes to `mistakes`."""
    try:
        values[section] = adapter(schema).validate_python(document[section], strict=True)
    except ValidationError as error:
        mistakes += describe(section, schema, document[section], error)


def fits(schema: Any, value: Any) -> bool:
    """Whether a value is valid by a schema."""
    try:
        adapter(schema).validate_python(value, strict=True)
    except ValidationError:
        return False
    return True


def dig(values: Values, key: str, file: Path = FILE) -> Any:
    """The value of a dotted key.  file: which has the values.  Raises ParamsError if there is none."""
    inside: Any = values
    parts = key.split(".")
    for k, part in enumerate(parts):
        try:
            inside = inside[part] if isinstance(inside, dict) else getattr(inside, attribute(inside, part))
        except (KeyError, AttributeError):
            where = ".".join(parts[: k + 1])
            near = hint(part, inside) if isinstance(inside, dict) else ""
            raise ParamsError(one_line(f"{file}: {where}: there is no such key{near}")) from None
    return inside


def attribute(section: Any, key: str) -> str:
    """The name in Python of a key of a section: `is` is a keyword."""
    fields = type(section).model_fields if isinstance(section, BaseModel) else {}
    return next((name for name, field in fields.items() if field.alias == key), key)


def plain(value: Any) -> Any:
    """A section as plain data, with the keys and words of params.yaml."""
    if isinstance(value, BaseModel):
        return value.model_dump(by_alias=True)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value
