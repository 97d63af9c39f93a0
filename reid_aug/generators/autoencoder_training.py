"""Training of a small autoencoder on the images themselves: a latent space of a quarter of the resolution.

The network is diffusers' ``AutoencoderTiny``, which has neither attention nor normalisation and so is cheap on a CPU.
It is trained for the squared error of random crops, and for latents of mean 0 and variance 1 in every channel, which
is what diffusion wants of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from diffusers import AutoencoderTiny
from diffusers.optimization import get_scheduler
from torch import Tensor
from torch.nn import functional

from reid_aug.config import AutoencoderConfig, save_config
from reid_aug.errors import DataError, OutputError
from reid_aug.files import making_folder, write_json
from reid_aug.generators.autoencoder import Codec, PatchPcaCodec, VaeCodec
from reid_aug.generators.loss_log import LOG_EVERY, LossLog
from reid_aug.records import ImageSource, Samples

SCORED_IMAGES = 2000  # that reconstructions are scored on, and the patch codec is fitted to, at most
FACTOR = 4

Progress = Callable[[int, float], None]


@dataclass(frozen=True)
class Reconstruction:
    """How well held-out images come back, mean of the images' PSNR in dB.

    Attributes:
        images: how many; 0 where no identity was held out.
        psnr: of the trained autoencoder.
        patch_pca: of the patch codec with as many channels, fitted to the same training images.
    """

    images: int
    psnr: float | None = None
    patch_pca: float | None = None


def train_autoencoder(
    samples: Samples,
    images: ImageSource,
    config: AutoencoderConfig,
    out: str | Path,
    progress: Progress | None = None,
) -> Reconstruction:
    """Train an autoencoder and save it as a diffusers folder, which ``codec_weights`` of a generator takes.

    It takes minutes, so there is nothing to resume: ``out`` appears when all is done, with ``train_config.yaml`` and
    ``reconstruction.json`` beside the weights.

    Args:
        samples: training images; of their identities, the share ``training.holdout`` is scored instead.
        images: their pixels, in the same order.
        config: shape and loop.
        out: folder to make.
        progress: called with (iterations done, loss).

    Raises:
        OutputError: ``out`` is there already.
        DataError: no images, or a single identity to hold out.
        TrainingError: the loss is no longer a number.
    """
    out = Path(out)
    if out.exists():
        raise OutputError(f"{out}: is there already. Remove it, or name another folder.")
    trained_on, held_out = split_identities(samples, config.training.holdout, config.training.seed)
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    torch.manual_seed(config.training.seed)  # of the initial weights
    vae = _untrained(config).to(device, memory_format=torch.channels_last)
    _fit(vae, samples, images, trained_on, config, progress)
    codec = VaeCodec.of(vae.eval())
    score = Reconstruction(0)
    if len(held_out):
        patches = PatchPcaCodec(FACTOR, config.latent_channels).fit(images.batch(_spread(trained_on)))
        scored = images.batch(_spread(held_out))
        score = Reconstruction(len(scored), psnr(codec, scored), psnr(patches, scored))
    _save(vae, config, score, out)
    return score


def split_identities(samples: Samples, share: float, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Positions to train on and positions held out, whole identities each; none held out where ``share`` is 0."""
    if len(samples) == 0:
        raise DataError("the autoencoder has no images to learn from. Give a training set that is not empty.")
    identities, person = np.unique(samples.pids, return_inverse=True)
    count = 0 if share == 0 else max(1, round(share * len(identities)))
    if count == len(identities):
        raise DataError(
            f"training set: {count} of {len(identities)} identities would be held out. Set training.holdout=0, or "
            "give more identities."
        )
    chosen = np.random.default_rng(seed).permutation(len(identities))[:count]
    held_out = np.isin(person, chosen)
    return np.flatnonzero(~held_out), np.flatnonzero(held_out)


@torch.inference_mode()
def psnr(codec: Codec, images: Tensor, batch_size: int = 64) -> float:
    """Mean PSNR in dB of uint8 images [N, 3, H, W] encoded, decoded and rounded to 8 bits."""
    device = next(codec.parameters()).device
    errors = []
    for batch in images.split(batch_size):
        pixels = batch.to(device).float()
        decoded = codec.decode(codec.encode(pixels / 127.5 - 1))
        errors.append(((decoded * 127.5 + 127.5).round() - pixels).square().mean((1, 2, 3)))
    return (10 * (255**2 / torch.cat(errors).clamp_min(1e-3)).log10()).mean().item()


def moments_penalty(latents: Tensor) -> Tensor:
    """KL divergence from N(0, 1) of a Gaussian with a channel's moments, mean of the channels; [B, C, h, w]."""
    variance, mean = torch.var_mean(latents, (0, 2, 3), correction=0)
    return 0.5 * (variance + mean.square() - 1 - variance.clamp_min(1e-8).log()).mean()


def _untrained(config: AutoencoderConfig) -> AutoencoderTiny:
    widths = (config.width,) * len(config.blocks)
    return AutoencoderTiny(
        encoder_block_out_channels=widths,
        decoder_block_out_channels=widths,
        num_encoder_blocks=config.blocks,
        num_decoder_blocks=config.blocks[::-1],
        latent_channels=config.latent_channels,
        scaling_factor=1.0,  # the latents are trained to variance 1
    )


def _fit(
    vae: AutoencoderTiny,
    samples: Samples,
    images: ImageSource,
    trained_on: np.ndarray,
    config: AutoencoderConfig,
    progress: Progress | None,
) -> None:
    """Train ``vae`` in place."""
    loop = config.training
    optimiser = torch.optim.AdamW(vae.parameters(), lr=loop.learning_rate, weight_decay=0.0)
    warmup = min(100, loop.iterations // 10)
    rate = get_scheduler("cosine", optimiser, num_warmup_steps=warmup, num_training_steps=loop.iterations)

    def names(iteration: int) -> str:
        return ", ".join(samples[int(row)].name for row in _draw(trained_on, config, iteration)[0])

    losses = LossLog(0, names, progress or (lambda done, loss: None), lambda: "Lower training.learning_rate.")
    for iteration in range(loop.iterations):
        pixels = _crops(images, *_draw(trained_on, config, iteration), loop.crop).to(vae.device)
        latents = vae.encode(pixels).latents
        loss = functional.mse_loss(vae.decode(latents).sample, pixels) + loop.moments_weight * moments_penalty(latents)
        optimiser.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(vae.parameters(), loop.gradient_clip)
        optimiser.step()
        rate.step()
        losses.add(loss.detach())
        if (iteration + 1) % LOG_EVERY == 0 or iteration + 1 == loop.iterations:
            losses.flush()


def _draw(trained_on: np.ndarray, config: AutoencoderConfig, iteration: int) -> tuple[np.ndarray, ...]:
    """Positions of images [B], top and left of their crops [B], and which are flipped [B]: by seed and iteration."""
    loop = config.training
    rng = np.random.default_rng((loop.seed, iteration))
    top, left = (rng.integers(side - loop.crop + 1, size=loop.batch_size) for side in config.image_size)
    rows = trained_on[rng.integers(len(trained_on), size=loop.batch_size)]
    return rows, top, left, rng.random(loop.batch_size) < loop.flip


def _crops(
    images: ImageSource, rows: np.ndarray, top: np.ndarray, left: np.ndarray, flipped: np.ndarray, side: int
) -> Tensor:
    """Square crops [B, 3, side, side] in [-1, 1], channels last in memory."""
    pixels = images.batch(rows).permute(0, 2, 3, 1)
    down = torch.from_numpy(top)[:, None] + torch.arange(side)
    across = torch.from_numpy(left)[:, None] + torch.arange(side)
    across = torch.where(torch.from_numpy(flipped)[:, None], across.flip(1), across)
    cut = pixels[torch.arange(len(rows))[:, None, None], down[:, :, None], across[:, None, :]]  # [B, side, side, 3]
    return (cut.float() / 127.5 - 1).permute(0, 3, 1, 2)


def _save(vae: AutoencoderTiny, config: AutoencoderConfig, score: Reconstruction, out: Path) -> None:
    """Write the folder whole or not at all."""
    with making_folder(out) as folder:
        vae.save_pretrained(folder)
        save_config(config, folder / "train_config.yaml")
        write_json(folder / "reconstruction.json", vars(score))


def _spread(positions: np.ndarray) -> np.ndarray:
    """At most ``SCORED_IMAGES`` of the positions, evenly spread."""
    return positions[:: -(-len(positions) // SCORED_IMAGES)]
