"""A generator: its model, forward process, training loop and sampling; and the autoencoder it may work in."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, NonNegativeInt, PositiveFloat, PositiveInt, field_validator, model_validator

from reid_aug.config.base import Config, ImageSize, Precision
from reid_aug.config.generator_models import GeneratorModel, PidmConfig


class NoiseConfig(Config):
    """The forward process and what the network predicts."""

    timesteps: PositiveInt = 1000
    beta_schedule: Literal["linear", "scaled_linear", "squaredcos_cap_v2"] = "linear"
    zero_terminal_snr: bool = False
    prediction: Literal["epsilon", "v_prediction"] = "epsilon"
    timestep_sampling: Literal["uniform", "cubic"] = "uniform"  # cubic favours large t (CFLD, Sec. 3.3)
    min_snr_gamma: PositiveFloat | None = None  # Hang et al. 2023; None weights every timestep alike
    variance_weight: float = Field(0.001, ge=0.0)  # of L_vlb in the hybrid objective


class GeneratorTrainingConfig(Config):
    """The loop that trains a generator."""

    iterations: PositiveInt = 300_000
    batch_size: PositiveInt = 8  # on each process
    accumulation: PositiveInt = 1
    learning_rate: PositiveFloat = 2e-5
    weight_decay: float = Field(0.0, ge=0.0)
    schedule: Literal["constant", "cosine"] = "constant"
    warmup: int = Field(0, ge=0)
    gradient_clip: PositiveFloat = 1.0
    ema_decay: float = Field(0.9999, ge=0.0, lt=1.0)
    drop: float = Field(0.1, ge=0.0, lt=1.0)  # share of samples that lose the source, the pose, or both (a third each)
    flip: float = Field(0.5, ge=0.0, le=1.0)
    reconstruction: bool = False  # train each pair also from the source to itself (L_rec, Eq. 5 of CFLD)
    precision: Precision = "no"
    compile: bool = False
    seed: int = Field(0, ge=0)
    checkpoint_every: PositiveInt = 1000
    sample_every: PositiveInt = 1000


class SamplingConfig(Config):
    """How images are drawn from a trained generator."""

    sampler: str = "DDIMScheduler"  # a diffusers scheduler class
    steps: PositiveInt = 20
    guidance: Literal["disentangled", "cumulative", "joint", "source"] = "disentangled"
    guidance_scale: dict[str, float] = {"pose": 2.0, "source": 2.0}


class GeneratorConfig(Config):
    """A generator and everything needed to train it again; saved beside the weights as ``train_config.yaml``."""

    model: GeneratorModel = PidmConfig()
    noise: NoiseConfig = NoiseConfig()
    training: GeneratorTrainingConfig = GeneratorTrainingConfig()
    sampling: SamplingConfig = SamplingConfig()

    @field_validator("model", mode="before")
    @classmethod
    def _pidm_unless_said(cls, model: Any) -> Any:
        return {"system": "pidm", **model} if isinstance(model, dict) else model


class AutoencoderTrainingConfig(Config):
    """The loop that trains an autoencoder, on random crops of the images."""

    iterations: PositiveInt = 3000
    batch_size: PositiveInt = 32
    crop: PositiveInt = 32  # side of a crop, pixels
    learning_rate: PositiveFloat = 2e-3  # falls to 0 along a cosine
    moments_weight: float = Field(0.01, ge=0.0)  # of the term that keeps each latent channel at mean 0, variance 1
    gradient_clip: PositiveFloat = 1.0
    flip: float = Field(0.5, ge=0.0, le=1.0)
    holdout: float = Field(0.05, ge=0.0, lt=1.0)  # share of the identities that are not trained on but scored
    seed: int = Field(0, ge=0)


class AutoencoderConfig(Config):
    """A small autoencoder with factor 4 (a diffusers ``AutoencoderTiny``) and how it is trained."""

    image_size: ImageSize = (128, 64)
    latent_channels: int = Field(16, ge=1, le=48)  # of a 4x4 patch's 3 x 16 numbers
    width: PositiveInt = 32  # channels of every convolution
    # Residual blocks at the resolutions 1, 1/2 and 1/4 of the encoder; the decoder has them the other way round.
    blocks: tuple[NonNegativeInt, NonNegativeInt, NonNegativeInt] = (0, 1, 2)
    training: AutoencoderTrainingConfig = AutoencoderTrainingConfig()

    @model_validator(mode="after")
    def _whole_cells(self) -> AutoencoderConfig:
        if any(side % 4 for side in (*self.image_size, self.training.crop)):
            raise ValueError("`image_size` and `training.crop`: multiples of 4, the factor of the autoencoder")
        if self.training.crop > min(self.image_size):
            raise ValueError("`training.crop`: at most the smaller side of `image_size`")
        return self
