"""A study: fractions, arms, generators and seeds."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, PositiveInt, model_validator

from reid_aug.config.augment import AugmentConfig, ScheduleConfig
from reid_aug.config.base import Config
from reid_aug.config.generators import GeneratorConfig
from reid_aug.config.reid import ReidConfig


class SamplingOverrides(Config):
    """How a study samples otherwise than its generators do by themselves; None leaves a setting as it is theirs."""

    sampler: str | None = None
    steps: PositiveInt | None = None
    guidance: str | None = None
    guidance_scale: dict[str, float] | None = None


class GeneratorSource(Config):
    """A generator of a study: one that is trained already, or the configuration to train it with."""

    sees: Literal["subset", "train", "other"] = "subset"  # the images it learns from: D_tr, all identities, another set
    folder: str | None = None  # a generator folder, or the name of one that the package ships
    config: GeneratorConfig | None = None

    @model_validator(mode="after")
    def _one_origin(self) -> GeneratorSource:
        if (self.folder is None) == (self.config is None):
            raise ValueError("give either `folder` (a trained generator) or `config` (to train one)")
        if self.folder is not None and "sees" not in self.model_fields_set:
            raise ValueError("say what the generator in `folder` has learnt from: `sees` subset, train or other")
        if self.sees == "other" and self.config is not None:
            raise ValueError("`sees` other is for a trained generator (`folder`); to train one here: subset or train")
        if self.sees == "subset" and self.config is not None and self.config.training.seed != 0:
            raise ValueError("`config.training.seed`: a subset's generator takes the seed of its subset; give `seeds`")
        return self


class ArmConfig(Config):
    """One arm of a study: where its extra images come from, and how they enter training."""

    images: Literal["none", "generator", "inpaint", "warp", "copies"] = "none"  # inpaint: a generator around the warp
    generator: str | None = None  # which of the study's generators
    augment: AugmentConfig = AugmentConfig()
    schedule: ScheduleConfig = ScheduleConfig()

    @model_validator(mode="after")
    def _consistent(self) -> ArmConfig:
        if (self.images in ("generator", "inpaint")) != (self.generator is not None):
            raise ValueError("`generator` names one of the study's exactly where `images` is generator or inpaint")
        if (self.images == "none") != (self.schedule.policy == "none"):
            raise ValueError("`schedule.policy` is none exactly where `images` is none")
        return self

    @property
    def drawn_by(self) -> str | None:
        """What draws the arm's images, as results call it: ``warp``, a generator, ``inpaint-`` and a generator."""
        if self.images == "none":
            return None
        return f"inpaint-{self.generator}" if self.images == "inpaint" else self.generator or self.images


class StudyConfig(Config):
    """Fractions x arms x seeds, every arm trained for the same number of iterations."""

    data_set: str = "market1501"  # its name in the results
    fractions: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = (0.2, 0.4, 0.6, 0.8, 1.0)
    seeds: tuple[Annotated[int, Field(ge=0)], ...] = (0, 1, 2)
    arms: dict[str, ArmConfig] = {"standard": ArmConfig()}
    generators: dict[str, GeneratorSource] = {}
    sampling: SamplingOverrides = SamplingOverrides()
    reid: ReidConfig = ReidConfig()

    @model_validator(mode="after")
    def _complete(self) -> StudyConfig:
        if "standard" not in self.arms or self.arms["standard"].images != "none":
            raise ValueError("`arms` needs `standard` without extra images: it is the baseline and judges the filter")
        if self.reid.training.epochs is not None:
            raise ValueError("`reid.training.epochs` depends on the fraction; give `iterations`, equal for all cells")
        if self.reid.training.seed != 0:
            raise ValueError("`reid.training.seed`: every cell takes the seed of its subset; give `seeds`")
        for name, arm in self.arms.items():
            if arm.augment.seed != 0:
                raise ValueError(f"`arms.{name}.augment.seed`: every cell takes the seed of its subset; give `seeds`")
            if arm.generator is not None and arm.generator not in self.generators:
                raise ValueError(f"`arms.{name}.generator` {arm.generator!r} is not among `generators`")
        return self
