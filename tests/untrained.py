"""Generators that have learnt nothing, for tests of what is asked of them and not of their images."""

from __future__ import annotations

import torch

from reid_aug.config import GeneratorConfig
from reid_aug.generators.autoencoder import make_codec
from reid_aug.generators.pipeline import PosePipeline
from reid_aug.generators.schedulers import make_scheduler
from reid_aug.generators.systems import build_denoiser


def untrained_generator(config: GeneratorConfig, images: torch.Tensor) -> PosePipeline:
    """A generator whose zero-initialised layers are random, so that every input matters.

    Its codec, where it is fitted to images, is fitted to ``images``, uint8 [N, 3, H, W].
    """
    torch.manual_seed(0)
    codec = make_codec(config.model, images)
    denoiser = build_denoiser(config.model, config.noise, codec).eval()
    with torch.no_grad():
        for parameter in denoiser.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.1)
    sampling, size = config.sampling.model_dump(), config.model.image_size
    process = make_scheduler(config.noise, config.model.learned_variance)
    pipe = PosePipeline(denoiser, codec, process, sampling, size)
    pipe.set_progress_bar_config(disable=True)
    return pipe
