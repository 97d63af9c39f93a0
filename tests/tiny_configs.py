"""Configurations of the real classes, small enough to train within a test."""

from __future__ import annotations

from typing import Any

from reid_aug.config import StudyConfig, build_config

SIZE = (64, 32)  # not that of the data set's images, 128x64
REID: dict[str, Any] = {
    "model": {"backbone": "osnet_x0_25", "image_size": list(SIZE)},
    "augmentation": {"pad": 2},
    "training": {"iterations": 2, "identities": 4, "images": 2, "checkpoint_every": 1},
}
GENERATOR: dict[str, Any] = {
    "model": {
        "system": "pidm", "image_size": list(SIZE), "codec": "patch_pca", "channels": [16, 32], "texture_levels": [1],
        "layers_per_level": 1, "dropout": 0.0, "learned_variance": False,
    },
    "noise": {"prediction": "v_prediction", "zero_terminal_snr": True},
    "training": {"iterations": 2, "batch_size": 2, "checkpoint_every": 1, "sample_every": 2},
    "sampling": {"steps": 2, "guidance": "cumulative"},
}  # fmt: skip


def arm(images: str, policy: str, **changes: Any) -> dict[str, Any]:
    """An arm that adds two images to each identity, a batch of three at a time."""
    return {
        "images": images, "augment": {"per_identity": 2, "batch_size": 3}, "schedule": {"policy": policy}, **changes
    }  # fmt: skip


ARMS: dict[str, Any] = {
    "standard": {},
    "warp": arm("warp", "concat"),
    "copies": arm("copies", "fixed_ratio"),
    "own": arm("generator", "finetune", generator="own"),
    "whole": arm("generator", "auxiliary", generator="whole"),
    "inpaint-whole": arm("inpaint", "concat", generator="whole"),
}


def study(**changes: Any) -> StudyConfig:
    """Every kind of arm at half of the images; both generators are trained by the study."""
    values = {
        "data_set": "toy",
        "fractions": [0.5],
        "seeds": [0],
        "arms": ARMS,
        "generators": {"own": {"config": GENERATOR}, "whole": {"config": GENERATOR, "sees": "train"}},
        "reid": REID,
    }
    return build_config(StudyConfig, {**values, **changes})
