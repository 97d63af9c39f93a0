"""Feature files, read back as any user would, and what is refused before there are features."""

from __future__ import annotations

import json

import numpy as np
import pytest
import torch
from safetensors import safe_open

from reid_aug.errors import ConfigError, OutputError
from reid_aug.reid.feature_file import feature_writer

NAMES = ["a/0002_c1s1_000451_03.jpg", "Zürich.png"]
FEATURES = torch.randn(2, 5, generator=torch.Generator().manual_seed(0))


def test_npz_is_read_by_numpy_without_pickle(tmp_path):
    feature_writer(tmp_path / "f.npz")(NAMES, FEATURES)
    with np.load(tmp_path / "f.npz", allow_pickle=False) as file:
        assert file["names"].tolist() == NAMES
        np.testing.assert_array_equal(file["features"], FEATURES.numpy())
    assert [path.name for path in tmp_path.iterdir()] == ["f.npz"]


def test_safetensors_has_the_names_in_its_metadata(tmp_path):
    feature_writer(tmp_path / "f.safetensors")(NAMES, FEATURES)
    with safe_open(tmp_path / "f.safetensors", "pt") as file:
        assert json.loads(file.metadata()["names"]) == NAMES
        assert torch.equal(file.get_tensor("features"), FEATURES)


def test_what_cannot_be_written_is_refused_at_once(tmp_path):
    with pytest.raises(ConfigError, match=r"f\.csv: features are written as \.npz or \.safetensors"):
        feature_writer(tmp_path / "f.csv")
    with pytest.raises(OutputError, match=r"f\.npz: the folder .*none does not exist\. Make it"):
        feature_writer(tmp_path / "none" / "f.npz")
