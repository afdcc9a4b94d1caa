"""Load params.yaml: validate the whole file, return what was asked for, report each mistake in one line."""

from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, TypeAdapter, ValidationError
from ruamel.yaml import YAML
from ruamel.yaml.constructor import DuplicateKeyError
from ruamel.yaml.error import MarkedYAMLError

from pipeline.errors import ParamsError
from pipeline.params.rules import contradictions
from pipeline.params.schema import FIXED, KINDS, Runtime, schema_of

FILE = Path("params.yaml")
SHOWN = 20  # mistakes in one message
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


def load(*keys: str) -> Params:
    """The values of dotted keys of params.yaml, e.g. load("train", "student.arch", "methods.orc", "orc").

    The whole file is validated first.  Raises ParamsError with one line for each mistake.
    """
    values = validated(read(FILE))
    return Params({key: dig(values, key) for key in keys})


def runtime() -> Runtime:
    """The section `runtime`, on which no stage depends."""
    return load("runtime")["runtime"]


def read(file: Path) -> Values:
    """The document as plain data.

    It is read as YAML 1.2, as DVC writes it: `no` is a string and 1e-3 is a number.
    Raises ParamsError with the line of a mistake.
    """
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{file} was not found: run the command from the root of the project") from None
    try:
        document = YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        what = str(error.problem).splitlines()[0]
        raise ParamsError(f"{file}, line {line_of(error)}: {what}") from None
    except MarkedYAMLError as error:
        raise ParamsError(f"{file}, line {line_of(error)}: not valid YAML: {error.problem}") from None
    if not isinstance(document, dict):
        raise ParamsError(f"{file}: must be a mapping of section names to sections")
    if "${" in text:
        number = next(n for n, line in enumerate(text.splitlines(), 1) if "${" in line)
        raise ParamsError(f"{file}, line {number}: ${{}} is not supported in params.yaml: write the value")
    return document


def line_of(error: MarkedYAMLError) -> int:
    """The line of a mistake, from 1."""
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def validated(document: Values) -> Values:
    """Every section as an object of its schema. Raises ParamsError with all mistakes."""
    values: Values = {}
    mistakes: list[str] = []
    for section, schema in FIXED.items():
        if section in document:
            take(section, schema, document, values, mistakes)
        else:
            mistakes.append(f"{section}: is missing")
    entries = document.get("methods")
    kinds = (
        {name: entry.get("is") for name, entry in entries.items() if isinstance(entry, dict)}
        if isinstance(entries, dict)
        else {}
    )
    for name, kind in kinds.items():
        if kind not in KINDS:
            if isinstance(kind, str):
                mistakes.append(f"methods.{name}.is: unknown method {kind!r}{hint(kind, KINDS)}")
        elif name in FIXED:
            mistakes.append(f"methods.{name}: {name!r} is reserved for another section; choose another name")
        elif name not in document:
            mistakes.append(
                f"methods.{name}: the section {name!r} is missing; it has the keys of a method with `is: {kind}`"
            )
    for section in document:
        if section in FIXED:
            continue
        schemas = schemas_for(section, kinds)
        if section in kinds and kinds[section] not in KINDS:
            continue
        if len(schemas) == 1:
            take(section, schemas[0], document, values, mistakes)
        elif not any(fits(schema, document[section]) for schema in schemas):
            names = [*FIXED, *KINDS, *kinds]
            mistakes.append(f"{section}: unknown section{hint(section, names)}")
    for needed in ("takd", "dgkd", "cooperative"):
        if needed not in document and needed not in kinds:
            mistakes.append(f"{needed}: the section is missing; stages before `distill` read it")
    if not mistakes:
        mistakes = contradictions(values)
    if mistakes:
        rest = [f"{FILE}: ... and {len(mistakes) - SHOWN} more"] if len(mistakes) > SHOWN else []
        raise ParamsError("\n".join([*(f"{FILE}: {mistake}" for mistake in mistakes[:SHOWN]), *rest]))
    return values


def schemas_for(section: Any, kinds: dict[str, Any]) -> list[Any]:
    """Schemas that a section may have: that of its entry in `methods`; else that of the kind of its name; else any."""
    if section in kinds:
        return [schema_of(section, kinds[section])] if kinds[section] in KINDS else []
    if section in KINDS:
        return [schema_of(section, section)]
    return [schema_of(str(section), kind) for kind in KINDS]


def take(section: str, schema: Any, document: Values, values: Values, mistakes: list[str]) -> None:
    """Validate one section; add it to `values`, or its mistakes to `mistakes`."""
    try:
        values[section] = TypeAdapter(schema).validate_python(document[section])
    except ValidationError as error:
        mistakes += describe(section, schema, document[section], error)


def fits(schema: Any, value: Any) -> bool:
    """Whether a value is valid by a schema."""
    try:
        TypeAdapter(schema).validate_python(value)
    except ValidationError:
        return False
    return True


def describe(section: str, schema: Any, value: Any, error: ValidationError) -> list[str]:
    """One line for each key that is wrong; the alternatives of one key are joined in one line."""
    found: dict[str, list[str]] = {}
    words: dict[str, str | None] = {}  # that a key accepts too
    for item in error.errors():
        path, inside, extra = [section], value, item["type"]
        for part in item["loc"]:
            if isinstance(inside, dict) and part in inside:
                inside = inside[part]
            elif isinstance(inside, list) and isinstance(part, int) and part < len(inside):
                inside = inside[part]
            elif extra == "missing" and part == item["loc"][-1]:
                inside = None
            else:  # pydantic's name for an alternative or for a mapping's key
                continue
            path.append(str(part))
        key = ".".join(path)
        if extra == "missing":
            line = "is missing; write it in params.yaml"
        elif extra == "extra_forbidden":
            line = f"unknown key{hint(path[-1], keys_of(schema, path[1:-1]))}"
            if path[-1] == "members" and section != "cooperative":
                line = "unknown key; controls of cooperative share the members of the section cooperative"
        elif item["type"] == "value_error" and inside is None:
            line = readable(item)
        else:
            line = f"{readable(item)}, got {'null' if inside is None else repr(inside)}"
            words[key] = word_for_none(schema, path[1:])
        found.setdefault(key, [])
        if line not in found[key]:
            found[key].append(line)
    return [f"{key}: {alternatives(lines, words.get(key))}" for key, lines in found.items()]


def readable(item: Any) -> str:
    """A validation error of pydantic as the end of a line: what the value must be."""
    message = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ").split(" or instance of ")[0]
    if item["type"] == "string_pattern_mismatch":
        pattern = item["ctx"]["pattern"]
        message = "a shard i/n" if "/" in pattern else "a name of letters, digits, _ and -"
    if item["type"] == "too_short":
        return f"must have at least {item['ctx']['min_length']} entries"
    return f"must be {message}" if item["msg"].startswith(("Input should", "String should match")) else message


def alternatives(lines: list[str], word: str | None = None) -> str:
    """The alternatives that a key allows, as one sentence.  word: one more alternative."""
    if len(lines) == 1 and word is None:
        return lines[0]
    heads = [line.rsplit(", got ", 1)[0].removeprefix("must be ") for line in lines]
    return f"must be {' or '.join([*heads, *([word] if word else [])])}, got {lines[0].rsplit(', got ', 1)[-1]}"


def word_for_none(schema: Any, path: list[str]) -> str | None:
    """The word, such as auto, that a key of a section accepts instead of a value."""
    field = getattr(schema, "model_fields", {}).get(path[0]) if len(path) == 1 else None
    extra = field.json_schema_extra if field else None
    return str(extra["word_for_none"]) if isinstance(extra, dict) and "word_for_none" in extra else None


def keys_of(schema: Any, path: list[str]) -> list[str]:
    """The keys of a section, or of a section within it."""
    for part in path:
        if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
            break
        schema = schema.model_fields[part].annotation if part in schema.model_fields else None
    while schema is not None and not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        arguments = [a for a in getattr(schema, "__args__", ()) if a is not type(None)]
        schema = arguments[-1] if arguments else None
    return [field.alias or name for name, field in schema.model_fields.items()] if schema else []


def hint(word: Any, words: Any) -> str:
    """The names most similar to a word, as the end of a message."""
    near = get_close_matches(str(word), [str(w) for w in words], n=3, cutoff=0.5)
    return f"; nearest: {', '.join(near)}" if near else ""


def dig(values: Values, key: str) -> Any:
    """The value of a dotted key. Raises ParamsError if there is none."""
    inside: Any = values
    parts = key.split(".")
    for k, part in enumerate(parts):
        try:
            inside = inside[part] if isinstance(inside, dict) else getattr(inside, attribute(inside, part))
        except (KeyError, AttributeError):
            where = ".".join(parts[: k + 1])
            near = hint(part, inside) if isinstance(inside, dict) else ""
            raise ParamsError(f"{FILE}: {where}: there is no such key{near}") from None
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
