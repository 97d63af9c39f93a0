"""The generators by name: a configuration's ``system`` to its denoiser."""

from __future__ import annotations

from reid_aug.config import NoiseConfig, PidmConfig
from reid_aug.generators.autoencoder import Codec
from reid_aug.generators.pidm import PidmDenoiser

SYSTEMS = {"pidm": PidmDenoiser}


def build_denoiser(config: PidmConfig, noise: NoiseConfig, codec: Codec) -> PidmDenoiser:
    """An untrained denoiser of ``config.system`` for what ``codec`` encodes."""
    return SYSTEMS[config.system].build(config, noise, codec)
