"""A folder of any images: nested, hidden and damaged files, none at all."""

from __future__ import annotations

import pytest
from PIL import Image

from reid_aug.data.folder import load_folder
from reid_aug.errors import DataError


@pytest.fixture
def folder(tmp_path):
    for name in ("b.jpg", "a/b.PNG", "a/c/d.jpeg", ".hidden/e.jpg", "a/.f.png"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (8, 16)).save(tmp_path / name)
    (tmp_path / "notes.txt").write_text("no image")
    (tmp_path / "folder.jpg").mkdir()
    return tmp_path


def test_nested_images_by_path(folder):
    names = [sample.path.relative_to(folder).as_posix() for sample in load_folder(folder)]
    assert names == ["a/b.PNG", "a/c/d.jpeg", "b.jpg"]
    assert set(load_folder(folder).pids) == {-1}


def test_bad_images_are_left_out_on_request(folder):
    (folder / "b.jpg").write_bytes(b"torn")
    assert len(load_folder(folder)) == 3
    with pytest.warns(UserWarning, match=rf"left out, for they cannot be decoded: {folder / 'b.jpg'}"):
        assert len(load_folder(folder, skip_bad=True)) == 2


def test_a_folder_without_images_is_refused(tmp_path):
    with pytest.raises(DataError, match=r"none: no such folder\. Name one with"):
        load_folder(tmp_path / "none")
    with pytest.raises(DataError, match=r"holds no \.jpg or \.png image.*Name another"):
        load_folder(tmp_path)
