"""The generators by name: a configuration's ``system`` to its denoiser."""

from __future__ import annotations

from reid_aug.config import GeneratorModelConfig, NoiseConfig
from reid_aug.generators.autoencoder import Codec
from reid_aug.generators.cfld import CfldDenoiser
from reid_aug.generators.imagpose import ImagposeDenoiser
from reid_aug.generators.pidm import PidmDenoiser
from reid_aug.generators.pocold import PocoldDenoiser
from reid_aug.generators.unet import check_grid

SYSTEMS = {"pidm": PidmDenoiser, "pocold": PocoldDenoiser, "cfld": CfldDenoiser, "imagpose": ImagposeDenoiser}

Denoiser = PidmDenoiser | PocoldDenoiser | CfldDenoiser | ImagposeDenoiser


def build_denoiser(config: GeneratorModelConfig, noise: NoiseConfig, codec: Codec) -> Denoiser:
    """A denoiser of ``config.system`` for what ``codec`` encodes; untrained but for the parts that ``config`` names.

    Raises:
        ConfigError: the codec's grid does not go with the size of the images or the network's shape.
    """
    check_grid(config, codec)
    return SYSTEMS[config.system].build(config, noise, codec)
