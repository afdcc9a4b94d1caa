"""Messages about mistakes. Each is one line of bounded length, whatever the name or the value that it shows."""

from difflib import get_close_matches
from typing import Any

from pydantic import BaseModel, ValidationError

from pipeline.params.value_types import PATTERNS

LONGEST_VALUE = 100  # characters
LONGEST_LINE = 380
FEW = 12  # keys of a section that a message lists
MOST = 100  # mistakes of one section that are described


def shown(value: Any) -> str:
    """A value as a short part of a line."""
    if value is None:
        return "null"
    try:
        text = repr(value)
    except (ValueError, RecursionError):  # an integer of thousands of digits; a structure thousands of levels deep
        text = f"a value of type {type(value).__name__}"
    return cut(text, LONGEST_VALUE)


def named(part: Any) -> str:
    """A part of a dotted key: as it is if it is a short printable name."""
    text = str(part)
    return text if text.isprintable() and 0 < len(text) <= LONGEST_VALUE else shown(text)


def one_line(text: str) -> str:
    """A message without characters that end a line or control a terminal, cut to a bounded length."""
    visible = (c if c.isprintable() else c.encode("unicode_escape").decode() for c in text[: LONGEST_LINE + 1])
    return cut("".join(visible), LONGEST_LINE)


def cut(text: str, length: int) -> str:
    """The start of a text, with an ellipsis if it is longer."""
    return text if len(text) <= length else f"{text[: length - 3]}..."


def hint(word: Any, words: Any) -> str:
    """The names most similar to a word, as the end of a message."""
    near = get_close_matches(str(word)[:LONGEST_VALUE], [str(w) for w in words], n=3, cutoff=0.5)
    return f"; nearest: {', '.join(near)}" if near else ""


def hint_or_list(word: Any, words: list[str]) -> str:
    """The most similar names; if none is similar, all names, where they are few."""
    listed = f"; the keys are {', '.join(words)}" if 0 < len(words) <= FEW else ""
    return hint(word, words) or listed


def describe(section: str, schema: Any, value: Any, error: ValidationError) -> list[str]:
    """One line for each key that is wrong; the alternatives of one key are joined in one line."""
    found: dict[str, list[str]] = {}
    words: dict[str, str | None] = {}  # that a key accepts too
    for item in error.errors(include_url=False)[:MOST]:
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
        key = ".".join(named(part) for part in path)
        if extra == "missing":
            line = "is missing; write it in params.yaml"
        elif extra == "extra_forbidden":
            line = f"unknown key{hint_or_list(path[-1], keys_of(schema, path[1:-1]))}"
            if path[-1] == "members" and section != "cooperative":
                line = "unknown key; controls of cooperative share the members of the section cooperative"
        elif item["type"] == "value_error" and inside is None:
            line = readable(item)
        else:
            line = f"{readable(item)}, got {shown(inside)}"
            words[key] = word_for_none(schema, path[1:])
        found.setdefault(key, [])
        if line not in found[key]:
            found[key].append(line)
    more = [f"{section}: ... and {error.error_count() - MOST} more"] if error.error_count() > MOST else []
    return [*(f"{key}: {alternatives(lines, words.get(key))}" for key, lines in found.items()), *more]


def readable(item: Any) -> str:
    """A validation error of pydantic as the end of a line: what the value must be."""
    kind, context = item["type"], item.get("ctx", {})
    if kind == "string_pattern_mismatch":
        return f"must be {PATTERNS[context['pattern']]}"
    if kind == "string_too_long":
        return f"must be text of at most {context['max_length']} characters"
    if kind == "string_type":
        return "must be text"
    if kind == "string_too_short":
        return "must be text, not empty"
    if kind == "too_short":
        return f"must have at least {context['min_length']} entries"
    if kind == "too_long":
        return f"must have at most {context['max_length']} entries"
    message = item["msg"].removeprefix("Input should be ").removeprefix("Value error, ").split(" or instance of ")[0]
    return f"must be {message}" if item["msg"].startswith("Input should") else message


def alternatives(lines: list[str], word: str | None = None) -> str:
    """The alternatives that a key allows, as one sentence.  word: one more alternative."""
    if len(lines) == 1 and word is None:
        return lines[0]
    heads = [line.split(", got ", 1)[0].removeprefix("must be ") for line in lines]
    verb = "" if heads[0].startswith("must ") else "must be "
    return f"{verb}{' or '.join([*heads, *([word] if word else [])])}, got {lines[0].split(', got ', 1)[-1]}"


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
