"""Market-1501 (Zheng et al., ICCV 2015), and data sets in its folders: DukeMTMC-reID, CUHK03-NP, or your own."""

from __future__ import annotations

import re
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path, PurePath

from reid_aug.data.images import find_undecodable
from reid_aug.data.keypoints import read_keypoints
from reid_aug.errors import DataError
from reid_aug.records import Pose, Sample, Samples

FOLDERS = {"train": "bounding_box_train", "query": "query", "gallery": "bounding_box_test"}
PARTS_FOLDER = "parts"  # of part maps: parts/bounding_box_train/0002_c1s1_000451_03.png
KEYPOINT_FILES = ("market-annotation-train.csv", "market-annotation-test.csv")  # the names the field gives them
JUNK_PID = -1  # detections that are no person or a poor box; part of no protocol
DISTRACTOR_PID = 0  # people of none of the identities; negatives in the gallery

_SUFFIXES = {".jpg", ".jpeg", ".png"}
_NAME = re.compile(
    r"(?P<pid>-1|\d+)_c(?P<camid>0*[1-9]\d*)(s\d+)?(_[a-z0-9-]+)+"
    r"(\.(jpe?g|png))+",  # the published query folder has names that end in .jpg.jpg
    re.ASCII | re.IGNORECASE,
)


@dataclass(frozen=True)
class Market1501:
    """A loaded data set; samples are sorted by file name and without junk (pid -1).

    Attributes:
        root: the folder it was read from.
        train: ``bounding_box_train``.
        query: ``query``.
        gallery: ``bounding_box_test``, with its distractors (pid 0).
    """

    root: Path
    train: Samples
    query: Samples
    gallery: Samples


def parse_name(name: str) -> tuple[int, int]:
    """Identity and camera in a file name.

    >>> parse_name("0002_c1s1_000451_03.jpg")
    (2, 1)
    >>> parse_name("-1_c5s3_086412_11.jpg")
    (-1, 5)
    >>> parse_name("0002_c1s1_000451_03_g0007.png")  # a generated image
    (2, 1)
    >>> parse_name("0005_c2_f0046985.jpg")  # DukeMTMC-reID
    (5, 2)

    Raises:
        DataError: the name does not begin with an identity and a camera.
    """
    match = _NAME.fullmatch(name)
    if match is None:
        raise DataError(
            f"{name}: not a Market-1501 file name. Rename it like 0002_c1s1_000451_03.jpg or 0002_c1_000451.jpg "
            "(identity, camera, and what else tells images apart), or move it out of the folder."
        )
    return int(match["pid"]), int(match["camid"])


def load_market1501(
    root: str | Path, keypoints: str | Path | Sequence[str | Path] | None = None, skip_bad: bool = False
) -> Market1501:
    """Load a data set in Market-1501's folders.

    Poses have the camera of their image, and name the part map that it may have,
    ``parts/bounding_box_train/<image's stem>.png``; see :mod:`reid_aug.pose.parts`. Nothing reads either but a
    generator that asks for it.

    Args:
        root: the folder with ``bounding_box_train``, ``bounding_box_test`` and ``query``.
        keypoints: key-point file or files, absolute or relative to ``root``, for images of any of the folders. None
            takes those of :data:`KEYPOINT_FILES` that ``root`` has.
        skip_bad: decode every image once and leave out those that cannot be; a warning lists them.

    Raises:
        DataError: a folder or key-point file is missing, empty or not in its form.
    """
    root = Path(root)
    return Market1501(root, **_load(root, list_splits(root), read_poses(root, keypoints), skip_bad))


def load_training_set(
    root: str | Path, keypoints: str | Path | Sequence[str | Path] | None = None, skip_bad: bool = False
) -> Samples:
    """``bounding_box_train`` alone, as :func:`load_market1501` has it; no other folder is needed.

    ``keypoints`` None takes the first of :data:`KEYPOINT_FILES`; a file that is named may have rows of other folders.

    Raises:
        DataError: as :func:`load_market1501`.
    """
    root = Path(root)
    splits = {"train": list_images(root / FOLDERS["train"])}
    return _load(root, splits, read_poses(root, keypoints, KEYPOINT_FILES[:1]), skip_bad)["train"]


def list_splits(root: Path) -> dict[str, list[Sample]]:
    """Every image of "train", "query" and "gallery", junk too, sorted by name.

    Files that are no images (``Thumbs.db``) are passed over.

    Raises:
        DataError: a folder is missing or without an image, or a name is not in Market-1501 form.
    """
    if not root.is_dir():
        raise DataError(f"{root}: no such folder. Name the one that holds {', '.join(FOLDERS.values())}.")
    return {split: list_images(root / folder) for split, folder in FOLDERS.items()}


def list_images(folder: Path) -> list[Sample]:
    """Every image of one folder, sorted by name; raises as :func:`list_splits` does."""
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Market-1501 has {', '.join(FOLDERS.values())}; unpack it whole.")
    paths = sorted(
        (path for path in folder.iterdir() if path.suffix.lower() in _SUFFIXES and not path.name.startswith(".")),
        key=lambda path: path.name,
    )
    if not paths:
        raise DataError(f"{folder}: holds no .jpg or .png image. Unpack Market-1501 into {folder.parent}.")
    try:
        return [Sample(path, *parse_name(path.name)) for path in paths]
    except DataError as error:
        raise DataError(f"{folder}/{error}") from None


def leave_out_undecodable(samples: Sequence[Sample]) -> list[Sample]:
    """Those of ``samples`` that can be decoded; reads every one of them, and warns with the names of the others."""
    bad = dict.fromkeys(find_undecodable(samples))
    if bad:
        warnings.warn(f"left out, for they cannot be decoded: {', '.join(map(str, bad))}", stacklevel=2)
    return [sample for sample in samples if sample.path not in bad]


def _load(
    root: Path, splits: Mapping[str, list[Sample]], poses: Mapping[str, Pose], skip_bad: bool
) -> dict[str, Samples]:
    if skip_bad:
        splits = {split: leave_out_undecodable(samples) for split, samples in splits.items()}
    return {split: _samples(root, split, samples, poses) for split, samples in splits.items()}


def _samples(root: Path, split: str, samples: list[Sample], poses: Mapping[str, Pose]) -> Samples:
    kept = [sample for sample in samples if sample.pid != JUNK_PID]
    if not kept:
        raise DataError(f"{root / FOLDERS[split]}: holds only junk (pid -1) or undecodable images. Unpack it again.")
    maps = root / PARTS_FOLDER / FOLDERS[split]
    own = {
        sample.name: replace(
            poses[sample.name], part_file=maps / f"{PurePath(sample.name).stem}.png", camid=sample.camid
        )
        for sample in kept
        if sample.name in poses
    }
    return Samples(kept, own)


def read_poses(
    root: Path,
    keypoints: str | Path | Sequence[str | Path] | None = None,
    default: Sequence[str] = KEYPOINT_FILES,
) -> dict[str, Pose]:
    """Poses by file name from the key-point files that ``keypoints`` of :func:`load_market1501` stands for.

    None takes those of ``default`` that ``root`` has.

    Raises:
        DataError: a file is missing or not in its form, or has a row for an image in none of the folders (for which a
            file that is named is only checked where all folders are there).
    """
    folders = [root / folder for folder in FOLDERS.values()]
    there = [folder for folder in folders if folder.is_dir()]
    checked = there if keypoints is None or there == folders else None
    if keypoints is None:
        keypoints = [name for name in default if (root / name).is_file()]
    elif isinstance(keypoints, (str, Path)):
        keypoints = [keypoints]
    poses: dict[str, Pose] = {}
    for csv in keypoints:
        poses |= read_keypoints(root / csv, folder=checked)
    return poses
