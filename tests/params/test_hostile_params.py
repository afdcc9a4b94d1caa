"""A file or a text that is not a usable params.yaml is refused in one line: no traceback, no hang, no acceptance."""

import gzip
import os
from pathlib import Path

import pytest

from pipeline.errors import ParamsError
from pipeline.params import load as params

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "params.yaml").read_text()
LONGEST_LINE = 400
pytestmark = pytest.mark.timeout(30)


@pytest.fixture(autouse=True)
def folder(tmp_path, monkeypatch):
    """A folder of its own, with the files that rules look for."""
    os.symlink(ROOT / "pipeline", tmp_path / "pipeline")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def lines_of(caught) -> list[str]:
    """The lines of an error: not empty, bounded, free of control characters, and naming the file."""
    lines = str(caught.value).split("\n")
    assert all(line.isprintable() and line.startswith("params.yaml") and len(line) < LONGEST_LINE for line in lines)
    return lines


def refused(content: bytes | str) -> str:
    """The only line of the error about a file with this content."""
    Path("params.yaml").write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(ParamsError) as caught:
        params.load("train")
    (line,) = lines_of(caught)
    return line


# ---- the file ----

FILES = {
    "latin1": ("# é\n".encode("latin-1") + TEXT.encode(), "line 1: must be text in UTF-8"),
    "latin1_later": (TEXT.encode() + b"caf\xe9: 1\n", f"line {TEXT.count(chr(10)) + 1}: must be text in UTF-8"),
    "utf16": (TEXT.encode("utf-16"), "line 1: must be text in UTF-8"),
    "gzip": (gzip.compress(TEXT.encode()), "line 1: must be text in UTF-8"),
    "nul": (TEXT.replace("epochs: 40", "epochs: 4\0"), "the character '\\x00' is not allowed"),
    "escape": (TEXT.replace("epochs: 40", "epochs: \x1b[2J"), "the character '\\x1b' is not allowed"),
    "empty": ("", "must be a mapping"),
    "only_comments": ("# nothing\n", "must be a mapping"),
    "list": ("- 1\n- 2\n", "must be a mapping"),
    "scalar": ("42\n", "must be a mapping"),
    "too_large": (TEXT + "#" * 2**20, "must have at most 1048576 bytes"),
    "long_line": ("a: !" + "a" * 1_000_000, "line 1: longer than 100000 characters"),
}


@pytest.mark.parametrize("name", FILES)
def test_unusable_content_of_the_file_is_one_line(name):
    content, message = FILES[name]
    assert message in refused(content)


def test_missing_file_is_one_line():
    with pytest.raises(ParamsError) as caught:
        params.load("train")
    assert "params.yaml was not found" in lines_of(caught)[0]


def be_folder():
    Path("params.yaml").mkdir()


def be_symlink_to_itself():
    os.symlink("params.yaml", "params.yaml")


def be_pipe():
    os.mkfifo("params.yaml")


def be_device():
    os.symlink("/dev/zero", "params.yaml")


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (be_folder, "must be a file"),
        (be_symlink_to_itself, "cannot be read"),
        (be_pipe, "must be a file"),
        (be_device, "must be a file"),
    ],
)
def test_what_is_not_a_file_is_one_line_without_waiting(make, message):
    make()
    with pytest.raises(ParamsError) as caught:
        params.load("train")
    (line,) = lines_of(caught)
    assert message in line


def test_byte_order_mark_of_utf8_is_accepted():
    Path("params.yaml").write_text("\ufeff" + TEXT)
    assert params.load("seeds")["seeds"] == [0, 1, 2]


# ---- YAML ----

LAUGHS = "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}, *a{i - 1}]\n" for i in range(1, 40))
MERGES = "a0: &a0 {x: 1}\n" + "".join(f"a{i}: &a{i} {{<<: [*a{i - 1}, *a{i - 1}]}}\n" for i in range(1, 40))
TALL = "a0: &a0 [x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}]\n" for i in range(1, 2000))
YAMLS = {
    "deep_flow": ("a: " + "[" * 3000 + "]" * 3000, "line 1: more than 50 levels"),
    "deep_mapping": ("a: " + "{a: " * 3000 + "}" * 3000, "line 1: more than 50 levels"),
    "deep_block": ("- " * 3000 + "a", "line 1: more than 50 levels"),
    "billion_laughs": (LAUGHS, "once aliases are expanded"),
    "merge_bomb": (MERGES, "once aliases are expanded"),
    "tall_aliases": (TALL, "levels, once aliases are expanded"),
    "cycle_in_list": ("seeds: &a [*a]\n", "once aliases are expanded"),
    "cycle_in_mapping": ("train: &a {lr: *a}\n", "once aliases are expanded"),
    "cycle_in_merge": ("train: &a {<<: *a}\n", "once aliases are expanded"),
    "many_values": ("a: [" + "1,\n" * 150_000 + "]", "more than 100000 values"),
    "int_of_text": ("a: 1\ntrain: !!int abc\n", "line 2: tags are not supported"),
    "int_of_int": ("train: {epochs: !!int 3}\n", "line 1: tags are not supported"),
    "str_of_int": ("a:\n  - 1\n  - !!str 3\n", "line 3: tags are not supported"),
    "python": ("a: !!python/object/apply:os.system ['true']\n", "line 1: tags are not supported"),
    "python_name": ("a: !!python/object:pathlib.Path {}\n", "line 1: tags are not supported"),
    "unknown_tag": ("a: !mine 3\n", "line 1: tags are not supported"),
    "bare_tag": ("a: ! 3\n", "line 1: tags are not supported"),
    "set": ("a: !!set {x, y}\n", "line 1: tags are not supported"),
    "binary": ("a: !!binary aGk=\n", "line 1: tags are not supported"),
    "key_with_tag": ("!!str a: 1\n", "line 1: tags are not supported"),
    "directive": ("%YAML 1.1\n---\na: yes\n", "line 1: directives (%) are not supported"),
    "tag_directive": ("%TAG ! tag:yaml.org,2002:\n---\na: !int 3\n", "line 1: directives (%) are not supported"),
    "date": ("a: 1\nb: 2001-01-01\n", "line 2: write text in quotes, got '2001-01-01'"),
    "time": ("a: 2001-01-01 01:02:03\n", "line 1: write text in quotes"),
    "invalid_date": ("a: 2001-99-99\n", "line 1: write text in quotes"),
    "equals": ("a: =\n", "line 1: write text in quotes"),
    "merge_as_value": ("a: <<\n", "line 1: write text in quotes"),
    "huge_integer": ("a: 1\nb: " + "9" * 5000, "line 2: write numbers in decimal"),
    "huge_float": ("a: " + "9" * 5000 + ".5", "line 1: write numbers in decimal"),
    "huge_exponent": ("a: 1e" + "9" * 5000, "line 1: write numbers in decimal"),
    "hexadecimal": ("a: 0x10\n", "line 1: write numbers in decimal"),
    "octal": ("a: 0o17\n", "line 1: write numbers in decimal"),
    "binary_number": ("a: 0b11\n", "line 1: write numbers in decimal"),
    "leading_zero": ("a: 017\n", "line 1: write numbers in decimal"),
    "underscore": ("a: 1_000\n", "line 1: write numbers in decimal"),
    "underscore_float": ("a: 1_0.5\n", "line 1: write numbers in decimal"),
    "only_underscore": ("a: -_\n", "line 1: write numbers in decimal"),
    "point_underscore": ("a: ._\n", "line 1: write numbers in decimal"),
    "int_key": ("a: 1\n3: 4\n", "line 2: a key must be text: write the key '3' in quotes"),
    "null_key": ("~: 4\n", "line 1: a key must be text"),
    "empty_key": (": 4\n", "line 1: a key must be text"),
    "bool_key": ("train:\n  true: 4\n", "line 2: a key must be text"),
    "list_key": ("[a, b]: 4\n", "line 1: a key must be text"),
    "mapping_key": ("? {a: 1}\n: 4\n", "line 1: a key must be text"),
    "two_documents": ("---\na: 1\n---\nb: 1\n", "line 3: not valid YAML: expected a single document"),
    "duplicate": ("a: 1\nb: 2\na: 1\n", "line 3: found duplicate key 'a'"),
    "duplicate_inside": ("a:\n  b: 1\n  b: 2\n", "line 3: found duplicate key 'b'"),
    "duplicate_beside_merge": ("a: &a {x: 1}\nb:\n  <<: *a\n  y: 1\n  y: 2\n", "line 5: found duplicate key 'y'"),
    "two_merges": ("a: &a {x: 1}\nb:\n  <<: *a\n  <<: *a\n", "line 4: found duplicate key"),
    "merge_of_a_number": ("b:\n  <<: 3\n", "line 2: not valid YAML"),
    "merge_of_numbers": ("b:\n  <<: [3]\n", "line 2: not valid YAML"),
    "undefined_alias": ("a: *nowhere\n", "line 1: not valid YAML: found undefined alias"),
    "long_undefined_alias": ("a: *" + "n" * 5000, "line 1: not valid YAML: found undefined alias"),
    "unclosed_quote": ("a: 'x\n", "not valid YAML"),
    "tab": ("a:\n\tb: 1\n", "line 2: not valid YAML"),
    "interpolation": ("a: 1\nb: ${c}\n", "line 2: ${} is not supported"),
}


@pytest.mark.parametrize("name", YAMLS)
def test_unusable_yaml_is_one_line_with_its_line_number(name):
    text, message = YAMLS[name]
    line = refused(text)
    assert message in line and line.startswith("params.yaml, line "), line


def test_anchors_aliases_and_merge_keys_are_accepted():
    Path("params.yaml").write_text(TEXT)
    kd_weight = params.load("kd")["kd"].kd_weight
    text = TEXT.replace("kd:  # distillation from the teacher\n", "kd: &kd\n")
    start = text.index("average:  # control")
    end = text.index("orc_single:  # control")
    Path("params.yaml").write_text(
        text[:start]
        + "average:\n  <<: *kd\n  standardise: false\n  weights: average\n  kd_weight: 2.0\n\n"
        + text[end:]
    )
    loaded = params.load("average", "kd")
    assert loaded["average"].temperature == loaded["kd"].temperature and loaded["average"].kd_weight == 2.0
    assert loaded["kd"].kd_weight == kd_weight != 2.0


# ---- loading several times ----


def test_text_is_parsed_once_and_a_change_of_what_was_loaded_is_harmless(monkeypatch):
    from pipeline.params import yaml_file

    Path("params.yaml").write_text(TEXT)
    yaml_file.parsed.cache_clear()
    loaded = params.load("seeds", "methods", "train")
    loaded["seeds"].append(1)
    loaded["methods"].clear()
    loaded["train"].milestones.clear()
    params.read(Path("params.yaml")).clear()
    again = params.load("seeds", "methods", "train")
    assert again["seeds"] == [0, 1, 2] and "kd" in again["methods"] and again["train"].milestones
    assert yaml_file.parsed.cache_info().misses == 1


def test_changed_text_is_read_again():
    Path("params.yaml").write_text(TEXT)
    assert params.load("train")["train"].epochs == 40
    Path("params.yaml").write_text(TEXT.replace("epochs: 40", "epochs: 41"))
    assert params.load("train")["train"].epochs == 41
