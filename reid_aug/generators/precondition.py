"""Preconditioning by the data's variance: the network only learns what a linear denoiser cannot know.

EDM (Karras et al. 2022, Sec. 5) gives this for data of one standard deviation, and v-prediction is its case of 1. Here
every channel has its own, s_c, as the components of patches do. With ``y_t = alpha y + sigma eps``, the best linear
guess of the target from ``y_t`` alone and the deviation that it leaves are, channel by channel,

    v:    k = alpha sigma (1 - s^2) / (alpha^2 s^2 + sigma^2),    m = s / sqrt(alpha^2 s^2 + sigma^2)
    eps:  k = sigma / (alpha^2 s^2 + sigma^2),                    m = alpha s / sqrt(alpha^2 s^2 + sigma^2)

and the prediction is ``k y_t + m F``, F the network's output of about unit variance. An untrained network is then the
Wiener filter: it errs on the smooth side, where a plain one leaves grain.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from reid_aug.config import NoiseConfig
from reid_aug.generators.schedulers import make_scheduler


class Precondition(nn.Module):
    """``k y_t + m F`` for the targets of a forward process.

    Args:
        std: standard deviation of each channel of clean data, [C].
        noise: the forward process and what is predicted.
    """

    def __init__(self, std: Sequence[float], noise: NoiseConfig):
        super().__init__()
        alphas_bar = make_scheduler(noise, learned_variance=False).alphas_cumprod.double()[:, None]
        variance = torch.tensor(list(std), dtype=torch.float64).square()[None]
        total = alphas_bar * variance + 1 - alphas_bar
        if noise.prediction == "v_prediction":
            skip = (alphas_bar * (1 - alphas_bar)).sqrt() * (1 - variance) / total
            scale = (variance / total).sqrt()
        else:
            skip = (1 - alphas_bar).sqrt() / total
            scale = (alphas_bar * variance / total).sqrt()
        self.register_buffer("skip", skip.float()[..., None, None], persistent=False)  # [T, C, 1, 1]
        self.register_buffer("scale", scale.float()[..., None, None], persistent=False)
        self.register_buffer("unit", total.rsqrt().float()[..., None, None], persistent=False)

    def inputs(self, noisy: Tensor, timestep: Tensor) -> Tensor:
        """The noisy data scaled to unit variance, channel by channel: what the network sees. [B, C, h, w]."""
        return noisy * self.unit[timestep]

    def outputs(self, noisy: Tensor, timestep: Tensor, network: Tensor) -> Tensor:
        """The prediction from the network's output, all [B, C, h, w]."""
        return self.skip[timestep] * noisy + self.scale[timestep] * network
