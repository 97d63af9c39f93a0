from __future__ import annotations

import re

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from market_files import STANDING, row

from reid_aug.data.keypoints import HEADER, read_keypoints, write_keypoints
from reid_aug.errors import DataError, OutputError
from reid_aug.records import Pose

NAME = "0224_c6s1_055726_02.jpg"


def changed(values, joint, value):
    return [*values[:joint], value, *values[joint + 1 :]]


def read(tmp_path, *lines, **options):
    csv = tmp_path / "keypoints.csv"
    csv.write_text("\n".join(lines))
    return read_keypoints(csv, **options)


def test_a_row_of_the_real_file(tmp_path):
    # The second row of market-annotation-train.csv.
    line = (
        "1123_c2s2_161352_01.jpg: [-1, 25, 24, 40, 43, 24, 42, 47, 61, 90, 120, 60, 85, 112, -1, -1, 11, 11]: "
        "[-1, 35, 49, 58, 46, 21, 15, 5, 42, 41, 43, 22, 15, 27, -1, -1, 39, 26]"
    )
    (name, pose), *others = read(tmp_path, HEADER, line, "").items()
    assert (name, others) == ("1123_c2s2_161352_01.jpg", [])
    assert pose.image_size == (128, 64)
    assert pose.xy.dtype == np.float32
    assert pose.visible.dtype == bool
    assert pose.visible.tolist() == [joint not in (0, 14, 15) for joint in range(18)]
    assert pose.xy[1].tolist() == [35, 25]  # x first
    assert pose.xy[0].tolist() == [0, 0]  # -1 goes no further


def test_border_pixels_are_inside(tmp_path):
    y, x = changed(STANDING[0], 10, 127), changed(STANDING[1], 10, 63)
    y, x = changed(y, 0, 0), changed(x, 0, 0)
    pose = read(tmp_path, HEADER, row(NAME, y, x))[NAME]
    assert pose.xy[[0, 10]].tolist() == [[0, 0], [63, 127]]
    assert pose.visible.all()


def test_windows_line_ends_blank_lines_and_a_byte_order_mark(tmp_path):
    csv = tmp_path / "keypoints.csv"
    csv.write_bytes(f"\ufeff{HEADER}\r\n\r\n{row(NAME)}\r\n".encode())
    assert list(read_keypoints(csv)) == [NAME]


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (row(NAME, STANDING[0][:17]), "keypoints_y of {name} has 17 joints, expected 18"),
        (row(NAME, STANDING[0], STANDING[1][:17]), "keypoints_x of {name} has 17 joints, expected 18"),
        (row(NAME, STANDING[0] * 2, STANDING[1]), "keypoints_y of {name} has 36 joints, expected 18"),
        (row(NAME, []), "keypoints_y of {name} has 0 joints"),
        (row(NAME, changed(STANDING[0], 3, float("nan"))).replace("nan", "NaN"), "(right_elbow) at y nan, x 12"),
        (row(NAME, changed(STANDING[0], 3, float("inf"))).replace("inf", "Infinity"), "{name}: joint 3 (right_elbow)"),
        (row(NAME, changed(STANDING[0], 3, 128)), "joint 3 (right_elbow) at y 128, x 12 is outside the image"),
        (row(NAME, STANDING[0], changed(STANDING[1], 17, 64)), "joint 17 (left_ear) at y 8, x 64 is outside the image"),
        (row(NAME, changed(STANDING[0], 3, -2)), "joint 3 (right_elbow) at y -2, x 12 is outside the image"),
        (row(NAME, changed(STANDING[0], 3, "1" + "0" * 400)).replace("'", ""), "joint 3 (right_elbow) at y inf"),
        (row(NAME, changed(STANDING[0], 3, -1)), "joint 3 (right_elbow) at y -1, x 12 is missing in one list only"),
        (row(NAME, changed(STANDING[0], 3, None)).replace("None", "null"), "keypoints_y of {name} is not a list"),
        (row(NAME, changed(STANDING[0], 3, "12")).replace("'", '"'), "keypoints_y of {name} is not a list of numbers"),
        (row(NAME, STANDING[0], 12), "keypoints_x of {name} is not a list of numbers"),
        (f"{NAME}: nonsense: [1]", "keypoints_y of {name} is not a list of numbers"),
        (f"{NAME}: {'[' * 100_000}: [1]", "keypoints_y of {name} is not a list of numbers"),
        (f"{NAME}: {STANDING[0]}", "is not `name: [y, ...]: [x, ...]`"),
        (f"{row(NAME)}: [1]", "is not `name: [y, ...]: [x, ...]`"),
        (row(" "), "is not `name: [y, ...]: [x, ...]`"),
        (row("first.jpg"), "first.jpg is also on line 2"),
    ],
)
def test_bad_rows_are_named_by_file_line_and_field_with_the_remedy(tmp_path, line, message):
    with pytest.raises(DataError) as caught:
        read(tmp_path, HEADER, row("first.jpg"), "", line, row("last.jpg"))
    text = str(caught.value)
    assert text.startswith(f"{tmp_path / 'keypoints.csv'}, line 4: ")
    assert message.format(name=NAME) in text
    assert re.search(r"\. (Write|Scale|Correct|Remove) .*\.$", text)  # the remedy


@pytest.mark.parametrize("first", ["", "name,y,x", row(NAME)])
def test_missing_header(tmp_path, first):
    with pytest.raises(DataError, match=r"keypoints\.csv, line 1: .* is not the header\. Put `name:keypoints_y"):
        read(tmp_path, first, row(NAME))


def test_missing_and_binary_files(tmp_path):
    with pytest.raises(DataError, match=r"none\.csv: cannot be read \(No such file.*Name a key-point file"):
        read_keypoints(tmp_path / "none.csv")
    (tmp_path / "image.csv").write_bytes(b"\xff\xd8\xff\xe0")
    with pytest.raises(DataError, match=r"image\.csv: not UTF-8 text \(byte 0\)\. Name a key-point file"):
        read_keypoints(tmp_path / "image.csv")


def test_a_row_for_a_file_that_is_not_there(tmp_path):
    images = tmp_path / "images"
    images.mkdir()
    (images / "first.jpg").touch()
    lines = [HEADER, row("first.jpg"), row(NAME)]
    assert len(read(tmp_path, *lines)) == 2
    with pytest.raises(DataError, match=rf"keypoints\.csv, line 3: {NAME} is not in .*images\. Add the image or"):
        read(tmp_path, *lines, folder=images)
    more = tmp_path / "more"
    more.mkdir()
    (more / NAME).touch()
    assert len(read(tmp_path, *lines, folder=[images, more])) == 2


def test_the_image_size_is_the_callers(tmp_path):
    lines = HEADER, row(NAME, changed(STANDING[0], 3, 255))
    assert read(tmp_path, *lines, image_size=(256, 128))[NAME].image_size == (256, 128)


coordinate = st.floats(0, 1, exclude_max=True, width=32)
joints = st.lists(st.tuples(coordinate, coordinate, st.booleans()), min_size=18, max_size=18)


@settings(max_examples=30)
@given(people=st.lists(joints, max_size=3), height=st.integers(1, 512), width=st.integers(1, 512))
def test_writing_and_reading_gives_the_same_poses(tmp_path_factory, people, height, width):
    poses = {}
    for number, person in enumerate(people):
        x, y, visible = (np.array(values) for values in zip(*person))
        # The product may round up to the border itself, which is outside.
        x = np.minimum((x * width).astype(np.float32), np.nextafter(np.float32(width), np.float32(0)))
        y = np.minimum((y * height).astype(np.float32), np.nextafter(np.float32(height), np.float32(0)))
        poses[f"{number}.jpg"] = Pose(np.stack([x, y], 1) * visible[:, None], visible, (height, width))
    csv = tmp_path_factory.mktemp("poses") / "keypoints.csv"
    write_keypoints(csv, poses)
    again = read_keypoints(csv, image_size=(height, width))
    assert list(again) == list(poses)
    for name, pose in poses.items():
        np.testing.assert_array_equal(again[name].xy, pose.xy)
        np.testing.assert_array_equal(again[name].visible, pose.visible)


def test_whole_numbers_are_written_as_the_field_writes_them(tmp_path):
    lines = [HEADER, row(NAME, changed(STANDING[0], 0, -1), changed(STANDING[1], 0, -1)), row("b.jpg")]
    write_keypoints(tmp_path / "out.csv", read(tmp_path, *lines))
    assert (tmp_path / "out.csv").read_text() == "\n".join(lines) + "\n"


def test_what_the_format_cannot_hold_is_not_written(tmp_path):
    inside = Pose(np.full((18, 2), 5, np.float32), np.ones(18, bool), (128, 64))
    outside = Pose(np.full((18, 2), 70, np.float32), np.ones(18, bool), (128, 64))
    larger = Pose(np.full((18, 2), 5, np.float32), np.ones(18, bool), (256, 128))
    csv = tmp_path / "out.csv"
    with pytest.raises(DataError, match=r"out\.csv: b\.jpg: nose is visible outside the image\. Mark it"):
        write_keypoints(csv, {"a.jpg": inside, "b.jpg": outside})
    with pytest.raises(DataError, match=r"out\.csv: poses of image sizes \[\(128, 64\), \(256, 128\)\]\. Scale"):
        write_keypoints(csv, {"a.jpg": inside, "b.jpg": larger})
    with pytest.raises(OutputError, match=r"gone/out\.csv: cannot be written \(No such file.*existing folder"):
        write_keypoints(tmp_path / "gone" / "out.csv", {"a.jpg": inside})
    assert list(tmp_path.iterdir()) == []
