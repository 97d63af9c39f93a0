"""Files are written whole or not at all, and what cannot be read or written is named."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from reid_aug.errors import DataError, OutputError
from reid_aug.files import append_line, making_folder, read_lines, replacing, write_json, write_lines


def test_a_block_that_raises_leaves_the_file_as_it_was(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("before")
    with pytest.raises(ZeroDivisionError), replacing(path) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert path.read_text() == "before"
    assert list(tmp_path.iterdir()) == [path]


def test_a_file_is_synced_while_open_for_writing(tmp_path, monkeypatch):
    """Windows refuses to sync what is open for reading alone."""
    fcntl = pytest.importorskip("fcntl")
    synced = []
    monkeypatch.setattr(os, "fsync", lambda number: synced.append(fcntl.fcntl(number, fcntl.F_GETFL) & os.O_ACCMODE))
    with replacing(tmp_path / "a.txt") as temporary:
        temporary.write_text("whole")
    assert (tmp_path / "a.txt").read_text() == "whole"
    assert synced == [os.O_RDWR]


def test_a_missing_folder_is_named(tmp_path):
    with pytest.raises(OutputError, match=r"none.a\.txt: cannot be written .*existing folder"):
        write_lines(tmp_path / "none" / "a.txt", ["a"])


def test_lines_and_json_are_read_back(tmp_path):
    write_lines(tmp_path / "a.txt", ["1", "\u00e9"])
    assert read_lines(tmp_path / "a.txt", "") == ["1", "\u00e9", ""]
    write_json(tmp_path / "a.json", {"a": [1]})
    assert (tmp_path / "a.json").read_bytes() == b'{\n  "a": [\n    1\n  ]\n}\n'


def test_what_cannot_be_read_is_named_with_the_remedy(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read .*Name one\."):
        read_lines(tmp_path / "none.csv", "Name one.")
    (tmp_path / "a.csv").write_bytes(b"a\xff")
    with pytest.raises(DataError, match=r"a\.csv: not UTF-8 text \(byte 1\)\. Name one\."):
        read_lines(tmp_path / "a.csv", "Name one.")


def test_a_line_is_added_at_the_end_of_a_file_in_a_new_folder(tmp_path):
    path = tmp_path / "new" / "a.jsonl"
    append_line(path, '{"a": "\u00e9"}')
    append_line(path, "{}")
    assert path.read_bytes() == '{"a": "\u00e9"}\n{}\n'.encode()
    with pytest.raises(OutputError, match=r"a\.jsonl.b: cannot be written"):
        append_line(path / "b", "{}")


def test_a_folder_is_there_whole_or_not_at_all(tmp_path):
    with making_folder(tmp_path / "a" / "b") as folder:
        (folder / "one").write_text("1")
        assert not (tmp_path / "a" / "b").exists()
    assert (tmp_path / "a" / "b" / "one").read_text() == "1"
    with pytest.raises(ZeroDivisionError), making_folder(tmp_path / "c") as folder:
        (folder / "half").write_text("1")
        raise ZeroDivisionError
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_the_folder_one_is_in_is_not_replaced(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    refused = pytest.raises(OutputError, match=r"cannot be written \(it is the folder that you are in\)")
    with refused, making_folder(Path(".")):
        pytest.fail("the work was begun")


def test_a_folder_starts_empty_and_replaces_none(tmp_path):
    (tmp_path / ".a.tmp").mkdir()
    (tmp_path / ".a.tmp" / "left").write_text("by a run that was killed")
    with making_folder(tmp_path / "a") as folder:
        assert not list(folder.iterdir())
        (folder / "one").write_text("1")
    refused = pytest.raises(OutputError, match=r"a: cannot be written \(.+\)\. Name another folder")
    with refused, making_folder(tmp_path / "a"):
        pytest.fail("the work was begun")
    assert [path.name for path in (tmp_path / "a").iterdir()] == ["one"]
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
