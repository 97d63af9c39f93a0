"""The shipped recipes parse, and the reference's is the defaults."""

from __future__ import annotations

from pathlib import Path

import pytest

from reid_aug.config import ReidConfig, ReidLossConfig, build_config, load_config
from reid_aug.errors import ConfigError

FOLDER = Path(__file__).parents[2] / "configs" / "reid"


@pytest.mark.parametrize("path", sorted(FOLDER.glob("*.yaml")), ids=lambda path: path.stem)
def test_a_shipped_recipe_parses(path):
    config = load_config(ReidConfig, path)
    assert config.model.backbone.partition(".")[0] in path.stem  # timm names the weights behind the dot


def test_the_reference_recipe_is_the_defaults():
    shipped = load_config(ReidConfig, FOLDER / "bot_resnet50.yaml")
    default = ReidConfig()
    assert (shipped.loss, shipped.augmentation, shipped.training) == (
        default.loss,
        default.augmentation,
        default.training,
    )
    assert shipped.loss == ReidLossConfig(label_smoothing=0.1, triplet_margin=0.3, center_weight=0.0005)


@pytest.mark.parametrize(
    "values, message",
    [
        ({"augmentation": {"erasing_area": [0.4, 0.02]}}, "augmentation.erasing_area.*smallest <= largest"),
        ({"augmentation": {"erasing_area": [0.1, 1.5]}}, "augmentation.erasing_area"),
        ({"training": {"warm_up": 3}}, "unknown key `training.warm_up`.*warmup"),
        ({"model": {"last_stride": 3}}, "model.last_stride"),
    ],
)
def test_a_wrong_recipe_is_refused_by_field(values, message):
    with pytest.raises(ConfigError, match=message):
        build_config(ReidConfig, values)
