"""The diffusers schedulers: of the forward process, and of sampling."""

from __future__ import annotations

import inspect
from typing import Any

import diffusers
from diffusers import DDPMScheduler

from reid_aug.config import NoiseConfig
from reid_aug.errors import ConfigError


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


def make_sampler(name: str, process: Any) -> Any:
    """The diffusers scheduler class ``name`` for the forward process of ``process``.

    Raises:
        ConfigError: diffusers has no such scheduler, it needs a package that is not installed, or it is not for this
            kind of process (flow matching, score SDEs).
    """
    kind = getattr(diffusers, name, None)
    takes = inspect.signature(kind.__init__).parameters if hasattr(kind, "set_timesteps") else {}
    if "prediction_type" not in takes or "trained_betas" not in takes:
        raise ConfigError(
            f"`sampler`: diffusers has no scheduler {name!r} for this noise process. Use e.g. DDIMScheduler, "
            "DDPMScheduler, PNDMScheduler or DPMSolverMultistepScheduler."
        )
    if kind is type(process):
        return kind.from_config(process.config)
    # Only DDPM reads the learned variance; the others get the prediction alone. A class that does not know the zero
    # terminal SNR starts from the betas before that change: it would divide by the signal's zero.
    try:
        return kind.from_config({**process.config, "variance_type": "fixed_small"})
    except ImportError as error:
        raise ConfigError(f"`sampler`: {name} needs a package that is missing: {error}") from None
