"""How a subset is augmented, and how generated images enter training."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveInt

from reid_aug.config.base import Config


class FilterConfig(Config):
    """The identity filter: what a generated image must show to be kept."""

    neighbours: PositiveInt = 5  # real images of an identity that vote
    min_margin: float = 0.0  # similarity to its own identity less that to the nearest other one


class AugmentConfig(Config):
    """How a subset is augmented."""

    per_identity: PositiveInt = 8
    poses: Literal["random", "diverse", "other_view", "other_camera"] = "random"
    source_identity: Literal["same", "other"] = "same"  # "other" is the wrong-identity control
    batch_size: PositiveInt = 64
    image_format: Literal["jpg", "png"] = "jpg"  # plain Market-1501 readers look for *.jpg
    seed: int = Field(0, ge=0)
    filter: FilterConfig | None = FilterConfig()


class ScheduleConfig(Config):
    """How generated images enter re-ID training; see ``augment.schedule``."""

    policy: Literal["none", "concat", "fixed_ratio", "finetune", "auxiliary"] = "none"
    synthetic: PositiveInt = 1  # generated images of each identity in a batch (fixed_ratio, auxiliary)
    start: float = Field(0.5, ge=0.0, le=1.0)  # share of the iterations on real images alone (finetune)
    weight: float = Field(1.0, ge=0.0)
    smoothing: float | None = Field(None, ge=0.0, lt=1.0)
    in_triplet: bool = True
