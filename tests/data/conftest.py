from __future__ import annotations

from pathlib import Path

import pytest
from market_files import NAMES, row, save_image

from reid_aug.data.keypoints import HEADER


@pytest.fixture
def market_root(tmp_path: Path) -> Path:
    """A data set of eleven images in Market-1501's folders, with key points of the training images."""
    for folder, names in NAMES.items():
        (tmp_path / folder).mkdir()
        for seed, name in enumerate(names):
            save_image(tmp_path / folder / name, seed=seed)
    lines = [HEADER, *(row(name) for name in NAMES["bounding_box_train"])]
    (tmp_path / "market-annotation-train.csv").write_text("\n".join(lines) + "\n")
    return tmp_path
