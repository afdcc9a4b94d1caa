"""Reading params.yaml: validated as a whole, handed out by section, every mistake in one line."""

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
    """The parameters that were asked for, by their dotted key; no others can be read."""

    def __init__(self, values: Values):
        self.values = values

    def __getitem__(self, key: str) -> Any:
        return self.values[key]

    def plain(self) -> Values:
        """All of them as plain data, for the key of a checkpoint."""
        return {key: plain(value) for key, value in self.values.items()}


def load(*keys: str) -> Params:
    """The values of dotted keys of params.yaml, e.g. load("train", "student.arch", "methods.orc", "orc").

    The whole file is validated first.  Raises ParamsError with one line for each mistake.
    """
    values = validated(read(FILE))
    return Params({key: dig(values, key) for key in keys})


def runtime() -> Runtime:
    """The section that no stage depends on."""
    return load("runtime")["runtime"]


def read(file: Path) -> Values:
    """The document as plain data, by YAML 1.2, as DVC writes it: `no` is a word and 1e-3 a number."""
    try:
        text = file.read_text("utf-8")
    except FileNotFoundError:
        raise ParamsError(f"{file} is missing: run from the project's root") from None
    try:
        document = YAML(typ="safe", pure=True).load(text)
    except DuplicateKeyError as error:
        what = str(error.problem).splitlines()[0]
        raise ParamsError(f"{file}, line {line_of(error)}: {what}") from None
    except MarkedYAMLError as error:
        raise ParamsError(f"{file}, line {line_of(error)}: not YAML: {error.problem}") from None
    if not isinstance(document, dict):
        raise ParamsError(f"{file}: must be a mapping of sections")
    if "${" in text:
        number = next(n for n, line in enumerate(text.splitlines(), 1) if "${" in line)
        raise ParamsError(f"{file}, line {number}: ${{}} is not resolved here; write the value")
    return document


def line_of(error: MarkedYAMLError) -> int:
    mark = error.problem_mark or error.context_mark
    return mark.line + 1 if mark else 1


def validated(document: Values) -> Values:
    """Every section as its schema's object. Raises ParamsError with every mistake."""
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
                mistakes.append(f"methods.{name}.is: there is no method {kind!r}{hint(kind, KINDS)}")
        elif name in FIXED:
            mistakes.append(f"methods.{name}: {name!r} is the name of another section")
        elif name not in document:
            mistakes.append(f"methods.{name}: its section {name!r} is missing (it has the keys of `is: {kind}`)")
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
            mistakes.append(f"{needed}: is missing (the stages before `distill` read it)")
    if not mistakes:
        mistakes = contradictions(values)
    if mistakes:
        rest = [f"{FILE}: ... and {len(mistakes) - SHOWN} more"] if len(mistakes) > SHOWN else []
        raise ParamsError("\n".join([*(f"{FILE}: {mistake}" for mistake in mistakes[:SHOWN]), *rest]))
    return values


def schemas_for(section: Any, kinds: dict[str, Any]) -> list[Any]:
    """What a method's section may be: its entry's kind; without an entry its name's kind; else any kind."""
    if section in kinds:
        return [schema_of(section, kinds[section])] if kinds[section] in KINDS else []
    if section in KINDS:
        return [schema_of(section, section)]
    return [schema_of(str(section), kind) for kind in KINDS]


def take(section: str, schema: Any, document: Values, values: Values, mistakes: list[str]) -> None:
    """Validate one section into values, or its mistakes into mistakes."""
    try:
        values[section] = TypeAdapter(schema).validate_python(document[section])
    except ValidationError as error:
        mistakes += said(section, schema, document[section], error)


def fits(schema: Any, value: Any) -> bool:
    try:
        TypeAdapter(schema).validate_python(value)
    except ValidationError:
        return False
    return True


def said(section: str, schema: Any, value: Any, error: ValidationError) -> list[str]:
    """One line for each key that is wrong. Alternatives of one key are said together."""
    found: dict[str, list[str]] = {}
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
            line = "is missing"
        elif extra == "extra_forbidden":
            line = f"unknown key{hint(path[-1], keys_of(schema, path[1:-1]))}"
            if path[-1] == "members" and section != "cooperative":
                line = "only section cooperative has members: its controls share them"
        else:
            line = f"{readable(item)}, got {inside!r}"
        found.setdefault(key, [])
        if line not in found[key]:
            found[key].append(line)
    return [f"{key}: {alternatives(lines)}" for key, lines in found.items()]


def readable(item: Any) -> str:
    message = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ")
    if item["type"] == "string_pattern_mismatch":
        pattern = item["ctx"]["pattern"]
        message = "a shard i/n" if "/" in pattern else "a name of letters, digits, _ and -"
    if item["type"] == "too_short":
        return f"must have at least {item['ctx']['min_length']} entries"
    return f"must be {message}" if item["msg"].startswith(("Input should", "String should match")) else message


def alternatives(lines: list[str]) -> str:
    """Several ways in which a key could have been right, as one sentence."""
    heads = [line.rsplit(", got ", 1)[0].removeprefix("must be ") for line in lines]
    if len(lines) == 1:
        return lines[0]
    return f"must be {' or '.join(heads)}, got {lines[0].rsplit(', got ', 1)[-1]}"


def keys_of(schema: Any, path: list[str]) -> list[str]:
    """The keys that a section, or a section within it, has."""
    for part in path:
        if not (isinstance(schema, type) and issubclass(schema, BaseModel)):
            break
        schema = schema.model_fields[part].annotation if part in schema.model_fields else None
    while schema is not None and not (isinstance(schema, type) and issubclass(schema, BaseModel)):
        arguments = [a for a in getattr(schema, "__args__", ()) if a is not type(None)]
        schema = arguments[-1] if arguments else None
    return [field.alias or name for name, field in schema.model_fields.items()] if schema else []


def hint(word: Any, words: Any) -> str:
    near = get_close_matches(str(word), [str(w) for w in words], n=3, cutoff=0.5)
    return f"; nearest: {', '.join(near)}" if near else ""


def dig(values: Values, key: str) -> Any:
    """The value of a dotted key."""
    inside: Any = values
    for part in key.split("."):
        try:
            inside = inside[part] if isinstance(inside, dict) else getattr(inside, part)
        except (KeyError, AttributeError):
            parent = f"params.yaml: {key}: "
            raise ParamsError(
                f"{parent}there is none{hint(part, inside) if isinstance(inside, dict) else ''}"
            ) from None
    return inside


def plain(value: Any) -> Any:
    if isinstance(value, BaseModel):
        return value.model_dump(serialize_as_any=True)
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value
