"""Key-point CSV files as the field exchanges them.

The format is one line an image under the header ``name:keypoints_y:keypoints_x``::

    0224_c6s1_055726_02.jpg: [8, 23, ..., 7, 8]: [39, 37, ..., 31, 47]

18 OpenPose joints, y first, in pixels of a 128x64 image, -1 in both for a joint that was not found. Here, at the
door, that becomes a :class:`~reid_aug.records.Pose` (x first, a visibility mask, 0 where not visible); -1 goes no
further.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import NoReturn

import numpy as np

from reid_aug.errors import DataError
from reid_aug.files import read_lines, write_lines
from reid_aug.pose.skeleton import JOINTS
from reid_aug.records import Pose

HEADER = "name:keypoints_y:keypoints_x"
IMAGE_SIZE = (128, 64)  # (height, width) the field's files count in

_parse = json.JSONDecoder(parse_int=float).decode  # every number a float, so that one type check is enough


def read_keypoints(
    csv: str | Path, image_size: tuple[int, int] = IMAGE_SIZE, folder: Path | Sequence[Path] | None = None
) -> dict[str, Pose]:
    """Read a key-point file.

    Args:
        csv: the file.
        image_size: (height, width) of the images its pixels count in.
        folder: the folder, or folders, with the images; where given, a row for an image in none of them is an error.

    Returns:
        The pose of each image by file name, in the file's order.

    Raises:
        DataError: no such file or header, or a row with other than 18 joints in each list, a coordinate that is not
            a number or lies outside the image, a name twice, or an image that is not there. Names the line.
    """
    csv = Path(csv)
    lines = read_lines(csv, f"Name a key-point file with the header `{HEADER}`.")
    if "".join(lines[0].split()) != HEADER:
        raise DataError(f"{csv}, line 1: {lines[0][:80]!r} is not the header. Put `{HEADER}` there.")
    rows = {}  # name -> (line number, y, x)
    for number, line in enumerate(lines[1:], start=2):
        if not line.strip():
            continue
        name, y, x = _parse_row(line, f"{csv}, line {number}")
        if name in rows:
            raise DataError(f"{csv}, line {number}: {name} is also on line {rows[name][0]}. Remove one of the rows.")
        rows[name] = (number, y, x)
    if folder is not None:
        _require_images(rows, csv, [folder] if isinstance(folder, (str, Path)) else folder)
    return _poses(rows, csv, image_size)


def write_keypoints(csv: str | Path, poses: Mapping[str, Pose]) -> None:
    """Write ``poses`` (by file name) as a key-point file; :func:`read_keypoints` gives them back exactly.

    Raises:
        DataError: poses of different image sizes, or a visible joint outside its image (the format has no room for
            either).
        OutputError: the file cannot be written.
    """
    csv = Path(csv)
    sizes = {pose.image_size for pose in poses.values()}
    if len(sizes) > 1:
        raise DataError(f"{csv}: poses of image sizes {sorted(sizes)}. Scale them to one size first.")
    lines = [HEADER]
    for name, pose in poses.items():
        limits = np.array(pose.image_size[::-1])
        inside = ((pose.xy >= 0) & (pose.xy < limits)).all(1)
        if (pose.visible & ~inside).any():
            joint = int(np.flatnonzero(pose.visible & ~inside)[0])
            raise DataError(f"{csv}: {name}: {JOINTS[joint]} is visible outside the image. Mark it as not visible.")
        x, y = np.where(pose.visible[:, None], pose.xy, -1).T
        lines.append(f"{name}: {_list(y)}: {_list(x)}")
    write_lines(csv, lines)


def _parse_row(line: str, where: str) -> tuple[str, list[float], list[float]]:
    name, *lists = line.split(":")
    name = name.strip()
    if len(lists) != 2 or not name:
        raise DataError(f"{where}: {line[:80]!r} is not `name: [y, ...]: [x, ...]`. Correct the row.")
    coordinates = []
    for field, text in zip(("keypoints_y", "keypoints_x"), lists):
        try:
            values = _parse(text.strip())
        except (ValueError, RecursionError):
            values = None
        if not isinstance(values, list) or not set(map(type, values)) <= {float}:
            raise DataError(f"{where}: {field} of {name} is not a list of numbers. Write it as [12, 30, ..., -1].")
        if len(values) != len(JOINTS):
            raise DataError(
                f"{where}: {field} of {name} has {len(values)} joints, expected {len(JOINTS)} (OpenPose order). "
                "Write -1 for a joint that was not found."
            )
        coordinates.append(values)
    return name, coordinates[0], coordinates[1]


def _require_images(rows: Mapping[str, tuple], csv: Path, folders: Iterable[Path]) -> None:
    folders = [Path(folder) for folder in folders]
    there = {path.name for folder in folders for path in folder.iterdir()}
    for name, (number, *_) in rows.items():
        if name not in there:
            places = " or ".join(str(folder) for folder in folders)
            raise DataError(f"{csv}, line {number}: {name} is not in {places}. Add the image or remove the row.")


def _poses(rows: Mapping[str, tuple], csv: Path, image_size: tuple[int, int]) -> dict[str, Pose]:
    """Check the coordinates of all rows at once, and make them poses."""
    height, width = image_size
    y, x = (np.array([row[axis] for row in rows.values()]).reshape(-1, len(JOINTS)) for axis in (1, 2))
    missing = (y == -1) & (x == -1)
    inside = (y >= 0) & (y < height) & (x >= 0) & (x < width)  # false for NaN
    if not (missing | inside).all():
        row, joint = np.argwhere(~(missing | inside))[0]
        name = list(rows)[row]
        _reject_joint(f"{csv}, line {rows[name][0]}: {name}", joint, y[row, joint], x[row, joint], image_size)
    xy = np.stack([x, y], axis=2).astype(np.float32)
    xy[missing] = 0
    return {name: Pose(xy[row], ~missing[row], image_size) for row, name in enumerate(rows)}


def _reject_joint(where: str, joint: int, y: float, x: float, image_size: tuple[int, int]) -> NoReturn:
    point = f"{where}: joint {joint} ({JOINTS[joint]}) at y {y:g}, x {x:g}"
    if np.isnan(y) or np.isnan(x):
        raise DataError(f"{point} is not a number. Write -1 in both lists for a joint that was not found.")
    if (y == -1) != (x == -1):
        raise DataError(f"{point} is missing in one list only. Write -1 in both lists, or both coordinates.")
    height, width = image_size
    raise DataError(
        f"{point} is outside the image of height {height}, width {width}. "
        "Scale the key points to that size, or write -1 in both lists for a joint that was not found."
    )


def _list(values: np.ndarray) -> str:
    """[8, 23.5, -1]: whole numbers as the field writes them, others with the digits that give the float32 back."""
    return f"[{', '.join(np.format_float_positional(value, trim='-') for value in values.astype(np.float32))}]"
