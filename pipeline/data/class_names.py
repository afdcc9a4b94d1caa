"""The names of classes, one per line of classes.txt; and how messages show names, which may hold any character."""

import os
import stat
import unicodedata
from collections.abc import Sequence
from pathlib import Path

from pipeline.errors import DataError

LONGEST = 255  # characters of a class name
UNFIT = ("Cc", "Cs", "Zl", "Zp")  # categories of Unicode: control characters, surrogates, separators of lines
MARK = "\ufeff"  # the byte order mark, which a reader of UTF-8 drops from the beginning of a file


def shown(name: object) -> str:
    """A name as messages show it: control characters, line breaks and bytes that are not UTF-8 are escaped."""
    return "".join(escaped(c) if unicodedata.category(c) in UNFIT else c for c in str(name))


def escaped(character: str) -> str:
    r"""The escape sequence of a character: \xff for a byte of a name that is not UTF-8."""
    code = ord(character)
    return f"\\x{code - 0xDC00:02x}" if 0xDC80 <= code <= 0xDCFF else ascii(character)[1:-1]


def regular(file: Path, name: str) -> os.stat_result:
    """The size and times of a regular file. A pipe or a device is refused, because opening it could block forever.

    name: what messages call the file, as `shown` returns it.  Raises DataError.
    """
    try:
        status = file.stat()
    except (OSError, ValueError) as error:
        raise DataError(f"{name} cannot be read: {getattr(error, 'strerror', None) or error}") from None
    if not stat.S_ISREG(status.st_mode):
        raise DataError(f"{name} cannot be read: it is not a regular file")
    return status


def check_class_name(name: object, where: str = "") -> None:
    """Raise DataError if a name does not fit on a line of classes.txt.  where: the beginning of the message."""
    place = f"{where}: " if where else ""
    if not isinstance(name, str):
        raise DataError(f"{place}a class name must be text, got {shown(repr(name)[:100])}")
    if not name.strip():
        raise DataError(f"{place}a class name is empty")
    if len(name) > LONGEST:
        raise DataError(f"{place}a class name has {len(name)} characters, at most {LONGEST}: {shown(name[:40])}...")
    if any(unicodedata.category(c) in UNFIT for c in name) or name.startswith(MARK):
        text = shown(name.replace(MARK, r"\ufeff"))
        raise DataError(f"{place}the class name '{text}' has a control character, a line break or is not UTF-8")


def check_distinct(names: Sequence[str], where: str) -> None:
    """Raise DataError if a class name occurs twice.  where: the beginning of the message, before the line number."""
    lines: dict[str, int] = {}
    for number, name in enumerate(names, 1):
        if (first := lines.setdefault(name, number)) != number:
            raise DataError(f"{where}, line {number}: the class name {name!r} is already in line {first}")


def read_class_names(file: Path) -> list[str]:
    """The lines of classes.txt: UTF-8, ended by a line feed (or carriage return and line feed) and by nothing else.

    Raises DataError, which names the file and the line, if the file cannot be read or is empty, or if a name is not
    one for `check_class_name` or occurs twice.
    """
    name = shown(file)
    regular(file, name)
    try:
        text = file.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise DataError(f"{name} cannot be read: {error.strerror}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{name} is not UTF-8: {error.reason} at byte {error.start}") from None
    if not text:
        raise DataError(f"{name} is empty: expected one class name per line")
    names = [line.removesuffix("\r") for line in text.removesuffix("\n").split("\n")]
    check_all(names, name)
    return names


def write_class_names(file: Path, names: Sequence[str]) -> None:
    """Write classes.txt, so that `read_class_names` returns the same names. Raises DataError as it does."""
    if not names:
        raise DataError(f"{shown(file)}: there are no class names")
    check_all(names, shown(file))
    file.write_bytes("".join(f"{name}\n" for name in names).encode("utf-8"))


def check_all(names: Sequence[str], where: str) -> None:
    """Raise DataError, which names the line, for a name that is unfit or occurs twice.  where: the file."""
    for number, name in enumerate(names, 1):
        check_class_name(name, f"{where}, line {number}")
    check_distinct(names, where)
