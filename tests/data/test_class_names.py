"""classes.txt returns the names that were written, and a name that it cannot hold is refused with its line."""

import os

import pytest

from pipeline.data.class_names import check_class_name, read_class_names, shown, write_class_names
from pipeline.errors import DataError

UNFIT = ["", "  ", "x" * 256, "\udcff", 3, *(f"a{c}b" for c in "\n\r\x00\x0c\x1c\x85\u2028\u2029")]


@pytest.mark.parametrize("names", [["cat", "dog"], ["été", "日本", " a ", "b" * 255], ["0"], ["a\u200db", "x\u00a0y"]])
def test_names_survive(tmp_path, names):
    write_class_names(tmp_path / "classes.txt", names)
    assert read_class_names(tmp_path / "classes.txt") == names


@pytest.mark.parametrize("name", [*UNFIT, "\ufeffa"])
def test_an_unfit_name_is_refused(tmp_path, name):
    with pytest.raises(DataError) as caught:
        check_class_name(name)
    assert str(caught.value).isprintable()
    with pytest.raises(DataError, match=r"classes\.txt, line 2: "):
        write_class_names(tmp_path / "classes.txt", ["a", name])
    assert not (tmp_path / "classes.txt").exists()


@pytest.mark.parametrize(
    ("content", "names"),
    [(b"a\nb", ["a", "b"]), (b"a\r\nb\r\n", ["a", "b"]), (b"\xef\xbb\xbfa\nb\n", ["a", "b"])],
)
def test_files_of_other_editors_are_read(tmp_path, content, names):
    (tmp_path / "classes.txt").write_bytes(content)
    assert read_class_names(tmp_path / "classes.txt") == names


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"", "classes.txt is empty"),
        (b"a\n\nb\n", "line 2: a class name is empty"),
        (b"a\nb\na\n", "line 3: the class name 'a' is already in line 1"),
        (b"a\n\xff\n", "is not UTF-8"),
        ("a\n".encode("utf-16"), "is not UTF-8"),
        (b"a\x0cb\n", r"line 1: the class name 'a\\x0cb' has a control character"),
    ],
)
def test_a_bad_file_is_named_with_its_line(tmp_path, content, said):
    (tmp_path / "classes.txt").write_bytes(content)
    with pytest.raises(DataError, match=said) as caught:
        read_class_names(tmp_path / "classes.txt")
    assert "\n" not in str(caught.value)


@pytest.mark.timeout(20)
def test_a_pipe_and_a_missing_file_are_named(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for name, said in (("pipe", "it is not a regular file"), ("none", "No such file"), ("x" * 5000, "too long")):
        with pytest.raises(DataError, match=said):
            read_class_names(tmp_path / name)


def test_names_are_shown_in_one_line():
    assert shown("a\nb\x1b\u2028\udcfe\ud800é") == r"a\nb\x1b\u2028\xfe\ud800é"
