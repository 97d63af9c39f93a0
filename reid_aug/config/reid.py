"""A re-ID model and its training: the BoT recipe (Luo et al., 2019)."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator, model_validator

from reid_aug.config.base import Config, ImageSize, Precision


class ReidModelConfig(Config):
    """Backbone, BNNeck and classifier (Luo et al., "Bag of Tricks", 2019)."""

    backbone: str = "resnet50"  # a timm model; else one of torchreid's zoo
    weights: str | None = None  # None: from scratch; "imagenet": the zoo's own by name; else a local weight file
    image_size: ImageSize = (256, 128)
    last_stride: Literal[1, 2] = 1  # of a ResNet's last stage; other families keep their own
    neck: bool = True


class ReidLossConfig(Config):
    """Cross-entropy on the neck's output, triplet and center loss on the feature before it."""

    label_smoothing: float = Field(0.1, ge=0.0, lt=1.0)
    triplet_margin: PositiveFloat | None = 0.3  # None is the soft margin
    triplet_weight: float = Field(1.0, ge=0.0)
    center_weight: float = Field(0.0005, ge=0.0)  # 0 leaves the center loss out
    center_learning_rate: PositiveFloat = 0.5


class ReidAugmentationConfig(Config):
    """Training-time image augmentation."""

    flip: float = Field(0.5, ge=0.0, le=1.0)
    pad: int = Field(10, ge=0)  # black pixels on each side, then a random crop back to size
    erasing: float = Field(0.5, ge=0.0, le=1.0)  # share of images that lose a rectangle to the ImageNet mean
    erasing_area: tuple[PositiveFloat, PositiveFloat] = (0.02, 0.4)  # shares of the image, smallest and largest
    erasing_aspect: float = Field(0.3, gt=0.0, le=1.0)  # smallest height / width; its inverse is the largest
    colour_jitter: float = Field(0.0, ge=0.0, le=1.0)  # strength of brightness, contrast and saturation changes

    @field_validator("erasing_area")
    @classmethod
    def _smallest_first(cls, area: tuple[float, float]) -> tuple[float, float]:
        if not area[0] <= area[1] <= 1.0:
            raise ValueError("expected [smallest, largest] shares of the image with smallest <= largest <= 1")
        return area


class ReidTrainingConfig(Config):
    """The re-ID loop, in iterations so that arms with more images train equally long."""

    iterations: PositiveInt = 22_320  # 120 epochs of 186 on the whole Market-1501
    epochs: PositiveInt | None = None  # instead of iterations: passes over the real images, converted at the start
    identities: PositiveInt = 16  # P, on each process
    images: PositiveInt = 4  # K
    learning_rate: PositiveFloat = 3.5e-4
    weight_decay: float = Field(5e-4, ge=0.0)
    warmup: float = Field(1 / 12, ge=0.0, le=1.0)  # share of the iterations, from 0.01 of the rate
    milestones: tuple[float, ...] = (1 / 3, 7 / 12)  # shares of the iterations at which the rate drops to a tenth
    precision: Precision = "no"
    accumulation: PositiveInt = 1
    ema_decay: float | None = Field(None, gt=0.0, lt=1.0)
    seed: int = Field(0, ge=0)
    checkpoint_every: PositiveInt = 1000
    evaluate_every: PositiveInt | None = None  # iterations between early evaluations, where one is given

    @model_validator(mode="after")
    def _one_length(self) -> ReidTrainingConfig:
        if self.epochs is not None and "iterations" in self.model_fields_set:
            raise ValueError("`epochs` and `iterations` both give the length; keep one")
        return self


class ReidConfig(Config):
    """A re-ID model and how it is trained; saved beside its weights."""

    model: ReidModelConfig = ReidModelConfig()
    loss: ReidLossConfig = ReidLossConfig()
    augmentation: ReidAugmentationConfig = ReidAugmentationConfig()
    training: ReidTrainingConfig = ReidTrainingConfig()
