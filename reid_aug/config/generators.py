"""A generator: its model, forward process, training loop and sampling."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import Field, PositiveFloat, PositiveInt, field_validator

from reid_aug.config.base import Config, Precision
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

    sampler: str = "DDIMScheduler"  # any diffusers scheduler class
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
