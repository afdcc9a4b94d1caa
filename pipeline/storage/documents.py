"""Documents that one stage writes and another reads: JSON objects of a declared shape that hold their own checksum.

Both are checked whenever a document is read, so that no stage goes on with a file that was damaged or edited.
"""

import hashlib
import json
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, TypeAdapter, ValidationError

from pipeline.errors import DataError, first_line
from pipeline.storage.atomic import replace_file

RERUN = "dvc repro"
CHECKSUM = "content.sha256"  # the key of the checksum, which is the last one


class Document(BaseModel):
    """The schema of a JSON object: no conversions, no unknown keys, finite numbers."""

    model_config = ConfigDict(strict=True, extra="forbid", allow_inf_nan=False)


def read_json(file: Path, schema: Any, *, rerun: str = RERUN) -> Any:
    """Read a JSON document, as plain data without its checksum.

    schema: a type that pydantic validates.  rerun: the command that writes the file again.
    Raises DataError, which names the file and the key, if it is missing, does not have the schema, or is not what was
    written.
    """
    text = read_bytes(file, rerun=rerun)
    try:
        content = json.loads(text)
        if not isinstance(content, dict):
            raise damaged(file, "expected a JSON object", rerun=rerun)
        found = content.pop(CHECKSUM, None)
        TypeAdapter(schema).validate_json(json.dumps(content))
        if found != checksum(content):
            raise damaged(file, "its content does not have its checksum", rerun=rerun)
        return content
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False)[0]
        key = ".".join(str(part) for part in first["loc"])
        raise damaged(file, f"{key}: {first['msg']}" if key else first["msg"], rerun=rerun) from None
    except (ValueError, RecursionError) as error:  # no JSON, or no UTF-8
        raise damaged(file, first_line(error), rerun=rerun) from None


def read_bytes(file: Path, *, rerun: str = RERUN) -> bytes:
    """The content of a file that a stage wrote. Raises DataError if it is missing or cannot be read."""
    try:
        if file.exists() and not file.is_file():
            raise DataError(f"{file} is not a file: remove it and run `{rerun}`")
        return file.read_bytes()
    except FileNotFoundError:
        raise DataError(f"{file} is missing: run `{rerun}`") from None
    except OSError as error:
        raise DataError(f"{file} cannot be read ({error.strerror})") from None


def damaged(file: Path, reason: str, *, rerun: str = RERUN) -> DataError:
    """The error about a file that is not what a stage wrote. The reason is cut to one short line."""
    line = " ".join(reason.split())[:200]
    return DataError(f"{file} is damaged ({ascii(line)[1:-1]}): run `{rerun}` to write it again")


def write_json(file: Path, content: dict[str, Any], *, indent: int = 2) -> None:
    """Write a JSON document with its checksum. The old file stays if this fails.  Raises ValueError for NaN."""
    write_plain_json(file, {**content, CHECKSUM: checksum(content)}, indent=indent)


def write_plain_json(file: Path, content: Any, *, indent: int = 2) -> None:
    """Write JSON for other programs, without a checksum. The old file stays if this fails. NaN raises ValueError."""
    replace_file(file, [(json.dumps(content, indent=indent, allow_nan=False) + "\n").encode()])


def checksum(content: dict[str, Any]) -> str:
    """SHA-256 of a document's content, which does not depend on the layout of the file."""
    return hashlib.sha256(json.dumps(content, allow_nan=False).encode()).hexdigest()
