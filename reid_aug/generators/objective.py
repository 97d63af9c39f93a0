"""The forward process and the training loss. One object owns both, so that training and sampling cannot drift apart.

Notation: ``abar_t`` the cumulative product of alphas, ``snr_t = abar_t / (1 - abar_t)``, ``y_t`` the noisy image.
"""

from __future__ import annotations

import math

import numpy as np
import torch
from torch import Tensor, nn

from reid_aug.config import NoiseConfig
from reid_aug.errors import ConfigError
from reid_aug.generators.schedulers import make_scheduler


def draw_timesteps(noise: NoiseConfig, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` training timesteps, int64 in 0..T-1: uniform, or CFLD's cubic ``t = (1 - (u / T)^3) T`` (Sec. 3.3)."""
    total = noise.timesteps
    if noise.timestep_sampling == "uniform":
        return rng.integers(total, size=count)
    drawn = (1 - rng.random(count) ** 3) * total
    return np.minimum(drawn.astype(np.int64), total - 1)  # u = 0 is t = T


def pose_constraint(attention: Tensor, match: Tensor) -> Tensor:
    """Eq. 8 of PoCoLD: ``sum_ij A_ij^2`` over the pairs of another body part, ``C_ij = 0``.

    A query whose part the source does not show has to attend somewhere, so rows of C without any match are left out
    (the released code counts them).

    Args:
        attention: A, [B, heads, N_q, N_k]; heads are averaged.
        match: C, [B, N_q, N_k] bool: whether target position i and source position j show the same part.

    Returns:
        [B].
    """
    counted = ~match & match.any(-1, keepdim=True)
    return (attention.float().square().mean(1) * counted).sum((1, 2))


class Objective(nn.Module):
    """Diffusion loss: MSE on the noise or on v, optionally min-SNR weighted and with the learned variance's L_vlb.

    Raises:
        ConfigError: settings that contradict each other.
    """

    def __init__(self, noise: NoiseConfig, learned_variance: bool = False):
        super().__init__()
        if learned_variance and noise.prediction != "epsilon":
            raise ConfigError(
                "`noise.prediction`: a learned variance needs epsilon prediction. "
                "Set noise.prediction=epsilon or model.learned_variance=false."
            )
        if noise.zero_terminal_snr and noise.prediction == "epsilon":
            raise ConfigError(
                "`noise.zero_terminal_snr`: noise without signal cannot be told from its own prediction. "
                "Set noise.prediction=v_prediction."
            )
        self.noise, self.learned_variance = noise, learned_variance
        self.scheduler = make_scheduler(noise, learned_variance)
        betas = self.scheduler.betas.double()
        alphas_bar = (1 - betas).cumprod(0)  # in double: 1 - abar_0 is 1e-4
        previous = torch.cat([torch.ones(1, dtype=torch.float64), alphas_bar[:-1]])
        self.register_buffer("alphas_bar", alphas_bar.float(), persistent=False)
        self.register_buffer("loss_weights", self._weights(alphas_bar).float(), persistent=False)
        # Posterior q(y_{t-1} | y_t, y_0), Eq. 6 and 7 of DDPM; its variance is 0 at t = 0, so the next one stands in.
        variance = betas * (1 - previous) / (1 - alphas_bar)
        variance[0] = variance[1]
        self.register_buffer("log_beta", betas.log().float(), persistent=False)
        self.register_buffer("log_posterior", variance.log().float(), persistent=False)
        self.register_buffer("mean_clean", (betas * previous.sqrt() / (1 - alphas_bar)).float(), persistent=False)
        self.register_buffer(
            "mean_noisy", ((1 - previous) * (1 - betas).sqrt() / (1 - alphas_bar)).float(), persistent=False
        )

    def add_noise(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """``y_t = sqrt(abar_t) y + sqrt(1 - abar_t) eps``; [B, C, h, w] with timestep [B]."""
        abar = _at(self.alphas_bar, timestep)
        return abar.sqrt() * clean + (1 - abar).sqrt() * noise

    def target(self, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """What the network predicts: ``eps``, or ``v = sqrt(abar_t) eps - sqrt(1 - abar_t) y`` (Salimans & Ho 2022)."""
        if self.noise.prediction == "epsilon":
            return noise
        abar = _at(self.alphas_bar, timestep)
        return abar.sqrt() * noise - (1 - abar).sqrt() * clean

    def loss(self, output: Tensor, clean: Tensor, noise: Tensor, timestep: Tensor) -> Tensor:
        """Loss of every sample, [B]: ``L_simple``, plus ``variance_weight * L_vlb`` where the variance is learned."""
        channels = clean.shape[1]
        output = output.float()
        error = (output[:, :channels] - self.target(clean, noise, timestep)).square().mean((1, 2, 3))
        error = error * self.loss_weights[timestep]
        if not self.learned_variance:
            return error
        noisy = self.add_noise(clean, noise, timestep)
        bound = self.variational_bound(output[:, :channels].detach(), output[:, channels:], clean, noisy, timestep)
        return error + self.noise.variance_weight * bound

    def variational_bound(
        self, predicted_noise: Tensor, interpolation: Tensor, clean: Tensor, noisy: Tensor, timestep: Tensor
    ) -> Tensor:
        """One term of ``L_vlb`` in bits a dimension times T, [B] (Eq. 14 to 16 of improved DDPM).

        KL between the true posterior and the model's at t > 0, the likelihood of 8-bit pixels at t = 0. The model's
        log variance lies between ``log posterior`` (-1) and ``log beta`` (1), as ``interpolation`` says.
        """
        abar = _at(self.alphas_bar, timestep)
        predicted_clean = (noisy - (1 - abar).sqrt() * predicted_noise) / abar.sqrt()
        mean_clean, mean_noisy = _at(self.mean_clean, timestep), _at(self.mean_noisy, timestep)
        mean = mean_clean * predicted_clean + mean_noisy * noisy
        true_mean = mean_clean * clean + mean_noisy * noisy
        low, high = _at(self.log_posterior, timestep), _at(self.log_beta, timestep)
        log_variance = low + (interpolation + 1) / 2 * (high - low)
        divergence = 0.5 * (
            log_variance - low - 1 + (low - log_variance).exp() + (true_mean - mean).square() * (-log_variance).exp()
        )
        likelihood = -_discretised_gaussian(clean, mean, 0.5 * log_variance)
        bound = torch.where(_at(timestep, slice(None)) == 0, likelihood, divergence)
        return bound.mean((1, 2, 3)) / math.log(2.0) * self.noise.timesteps

    def _weights(self, alphas_bar: Tensor) -> Tensor:
        """Min-SNR-gamma weights (Hang et al. 2023, Sec. 3.4): ``min(snr, gamma)`` of the clean image's error."""
        gamma = self.noise.min_snr_gamma
        if gamma is None:
            return torch.ones_like(alphas_bar)
        snr = alphas_bar / (1 - alphas_bar)
        if self.noise.prediction == "epsilon":
            return snr.clamp(max=gamma) / snr
        return snr.clamp(max=gamma) / (snr + 1)


def _at(values: Tensor, timestep: Tensor | slice) -> Tensor:
    """Values at the timesteps, shaped to broadcast over images."""
    return values[timestep][:, None, None, None]


def _discretised_gaussian(pixels: Tensor, mean: Tensor, log_std: Tensor) -> Tensor:
    """Log likelihood of 8-bit pixels scaled to [-1, 1] under a Gaussian, bin by bin (Sec. 3.3 of DDPM)."""
    inverse = (-log_std).exp()
    upper = torch.special.ndtr((pixels - mean + 1 / 255) * inverse)
    lower = torch.special.ndtr((pixels - mean - 1 / 255) * inverse)
    inside = (upper - lower).clamp_min(1e-12).log()
    darkest, brightest = upper.clamp_min(1e-12).log(), (1 - lower).clamp_min(1e-12).log()
    return torch.where(pixels < -0.999, darkest, torch.where(pixels > 0.999, brightest, inside))
