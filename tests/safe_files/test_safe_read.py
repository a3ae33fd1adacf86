"""Reading what others wrote."""

import os
import threading

import pytest

from unnoise.errors import DataError, RecipeError, UnnoiseError, nearest, shorten, unknown
from unnoise.safe_files.safe_read import check_tree, read_bytes, read_text


def test_files_up_to_the_limit_are_read_and_no_byte_more(tmp_path):
    (tmp_path / "a").write_bytes(b"x" * 100)
    assert read_bytes(tmp_path / "a", DataError, 100) == b"x" * 100
    with pytest.raises(DataError, match="holds 100 bytes and such a file at most 99"):
        read_bytes(tmp_path / "a", DataError, 99)


def test_a_file_that_grows_while_it_is_read_is_refused(tmp_path, monkeypatch):
    (tmp_path / "a").write_bytes(b"x" * 100)
    real = os.fstat

    def smaller(handle):
        found = list(real(handle))
        found[6] = 10  # the size before it grew
        return os.stat_result(found)

    monkeypatch.setattr(os, "fstat", smaller)
    with pytest.raises(DataError, match="it grows"):
        read_bytes(tmp_path / "a", DataError, 50)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (lambda p: p.mkdir(), "a folder where a file should be"),
        (os.mkfifo, "a pipe where a file should be"),
        (lambda p: p.symlink_to("/dev/zero"), "a device where a file should be"),
        (lambda p: p.symlink_to(p), "symbolic links"),
        (lambda p: None, "No such file"),
    ],
)
def test_what_is_no_file_is_named_and_never_waited_for(tmp_path, make, words):
    make(tmp_path / "a")
    ended = []

    def read():
        with pytest.raises(RecipeError, match=words):
            read_text(tmp_path / "a", RecipeError)
        ended.append(True)

    thread = threading.Thread(target=read, daemon=True)
    thread.start()
    thread.join(30)
    assert ended


def test_text_is_utf_8(tmp_path):
    (tmp_path / "a").write_bytes(b"\xff")
    with pytest.raises(DataError, match="no UTF-8"):
        read_text(tmp_path / "a", DataError)
    with pytest.raises(DataError, match="cannot be read"):
        read_text(tmp_path / "a\0b", DataError)


def test_trees_are_counted_at_every_reference():
    row = [1] * 10
    check_tree([row] * 10, "it", DataError, 111)
    with pytest.raises(DataError, match="it holds more than 110 values"):
        check_tree([row] * 10, "it", DataError, 110)
    bomb = ["ha"]
    for _ in range(60):
        bomb = [bomb] * 10
    itself = {}
    itself["a"] = [itself]
    for endless in (bomb, itself):
        with pytest.raises(DataError, match="more than 100,000"):
            check_tree(endless, "it", DataError)


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**64, -(2**63) - 1, b"x", {1, 2}, object(), 1j]
)
def test_values_that_no_description_has(value):
    with pytest.raises(DataError, match="it holds"):
        check_tree({"a": [1, value]}, "it", DataError)
    check_tree({"a": [1, -1.5, 2**64 - 1, -(2**63), True, None, "x"]}, "it", DataError)


def test_messages_stay_short_whatever_they_quote():
    assert len(str(UnnoiseError("x" * 10**6))) <= 6000
    assert str(UnnoiseError("short")) == "short"
    text = str(unknown("kind", "k" * 10**6, ["a"]))
    assert len(text) < 300
    assert nearest("k" * 10**6, ["kkk"]) is None
    assert nearest("digit", ["digits"]) == "digits"
    for most in (10, 100, 121):
        cut = shorten("ab" * 500, most)
        assert len(cut) <= most
        assert cut.startswith("ab")
        assert cut.endswith("b")
