"""Data sets written as Market-1501 folders, for other libraries and for other experiments."""

from __future__ import annotations

import shutil
from pathlib import Path

from reid_aug.data.keypoints import write_keypoints
from reid_aug.data.market1501 import FOLDERS, KEYPOINT_FILES, PARTS_FOLDER, Market1501, load_market1501
from reid_aug.files import making_folder
from reid_aug.records import Samples


def write_market1501(path: str | Path, train: Samples, query: Samples, gallery: Samples) -> Market1501:
    """Copy images into a Market-1501 folder, with the key points and part maps known for them, and load it.

    Args:
        path: folder to make; written whole or not at all.
        train: ``bounding_box_train``; generated images may be among them.
        query: ``query``.
        gallery: ``bounding_box_test``.

    Raises:
        OutputError: ``path`` is not empty, or cannot be written.
    """
    with making_folder(Path(path)) as folder:
        for split, samples in (("train", train), ("query", query), ("gallery", gallery)):
            _copy(samples, folder, FOLDERS[split])
        for file, samples in zip(KEYPOINT_FILES, (train, query + gallery)):
            names = [sample.name for sample in samples]
            poses = {name: samples.poses[name] for name in names if name in samples.poses}
            if poses:
                write_keypoints(folder / file, poses)
    return load_market1501(path)


def _copy(samples: Samples, root: Path, folder: str) -> None:
    """Images, and those part maps that there are."""
    images, maps = root / folder, root / PARTS_FOLDER / folder
    images.mkdir()
    for sample in samples:
        shutil.copyfile(sample.path, images / sample.name)
        pose = samples.poses.get(sample.name)
        if pose is not None and pose.part_file is not None and pose.part_file.exists():
            maps.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(pose.part_file, maps / pose.part_file.name)
