"""The diffusers schedulers: of the forward process, and of sampling."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
from diffusers import DDPMScheduler
from torch import Tensor

from reid_aug.config import NoiseConfig
from reid_aug.errors import ConfigError

OTHER_TASKS = ("CogVideoX", "Inverse", "LCM")  # in names: for shifted noise, from images to noise, for distilled models
LEAST_SIGNAL = 0.00466  # abar_T of Stable Diffusion, whose process such samplers are written for


def make_scheduler(noise: NoiseConfig, learned_variance: bool) -> DDPMScheduler:
    """The diffusers scheduler of the forward process; any other is made ``from_config`` of it for sampling."""
    # Stable Diffusion's range goes with its schedule, DDPM's with the others.
    first, last = (0.00085, 0.012) if noise.beta_schedule == "scaled_linear" else (0.0001, 0.02)
    return DDPMScheduler(
        num_train_timesteps=noise.timesteps,
        beta_start=first,
        beta_end=last,
        beta_schedule=noise.beta_schedule,
        prediction_type=noise.prediction,
        variance_type="learned_range" if learned_variance else "fixed_small",
        rescale_betas_zero_snr=noise.zero_terminal_snr,
        timestep_spacing="trailing",  # starts from t = T, without which a zero terminal SNR would be for nothing
        clip_sample=False,
    )


def make_sampler(name: str, process: DDPMScheduler) -> Any:
    """The diffusers scheduler class ``name`` for the forward process ``process``.

    Raises:
        ConfigError: diffusers has no such scheduler, it needs a package that is not installed, or it is not for this
            kind of process (flow matching, score SDEs, shifted noise), for distilled models, or from images to noise.
    """
    try:
        kind = getattr(diffusers, name, None)
        takes = inspect.signature(kind.__init__).parameters if hasattr(kind, "set_timesteps") else {}
    except ImportError as error:  # of a class that stands in for one whose package is missing
        raise ConfigError(f"`sampler`: {name} needs a package that is missing: {error}") from None
    if not {"prediction_type", "trained_betas"} <= set(takes) or any(part in name for part in OTHER_TASKS):
        raise ConfigError(
            f"`sampler`: diffusers has no scheduler {name!r} for this noise process and model. Use e.g. DDIMScheduler, "
            "DDPMScheduler, PNDMScheduler or DPMSolverMultistepScheduler."
        )
    if kind is type(process):
        return kind.from_config(process.config)
    others = {}
    if "variance_type" in takes:
        others["variance_type"] = "fixed_small"
    if "rescale_betas_zero_snr" not in takes:
        others["trained_betas"] = _betas(process.alphas_cumprod.double())
    return kind.from_config(process.config, **others)


def reads_variance(sampler: Any) -> bool:
    """Whether ``sampler`` wants the variance that a network has learnt, behind its prediction.

    Only DDPM does. Others made from its configuration keep the setting ``variance_type`` without reading it.
    """
    return isinstance(sampler, DDPMScheduler) and sampler.config.variance_type == "learned_range"


def _betas(alphas_bar: Tensor) -> list[float]:
    """Of the process if its signal ended at ``LEAST_SIGNAL``, for samplers that would divide by a smaller one."""
    least = max(LEAST_SIGNAL - float(alphas_bar[-1]), 0.0)
    alphas_bar = least + (1 - least) * alphas_bar
    return [1 - float(alphas_bar[0]), *(1 - alphas_bar[1:] / alphas_bar[:-1]).tolist()]
