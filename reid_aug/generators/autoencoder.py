"""The space that is diffused: pixels themselves, the leading components of small patches, or a VAE's latents.

A codec maps images [B, 3, H, W] in [-1, 1] to a grid and back; ``std`` is its channels' standard deviation.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from diffusers import AutoencoderKL, AutoencoderTiny, ModelMixin
from diffusers.configuration_utils import ConfigMixin, register_to_config
from huggingface_hub.errors import LocalEntryNotFoundError
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.config import GeneratorModelConfig
from reid_aug.errors import CheckpointError, DataError

VAES = {"AutoencoderKL": AutoencoderKL, "AutoencoderTiny": AutoencoderTiny}
VAE_IMAGES = 256  # that the deviation of a VAE's latents is measured on


class PixelCodec(ModelMixin, ConfigMixin):
    """Diffuse pixels: nothing to encode."""

    factor = 1
    channels = 3
    std = (0.5, 0.5, 0.5)  # of photographs in [-1, 1], as EDM takes it

    @register_to_config
    def __init__(self):
        super().__init__()
        self.anchor = nn.Parameter(torch.zeros(1), requires_grad=False)  # a diffusers model has at least one weight

    def encode(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1], unchanged."""
        return images

    def decode(self, latents: Tensor) -> Tensor:
        """[B, 3, H, W], clamped to [-1, 1]."""
        return latents.clamp(-1, 1)


class PatchPcaCodec(ModelMixin, ConfigMixin):
    """Principal components of non-overlapping patches: closed form, fitted in seconds.

    16 of the 48 components of 4x4 patches reconstruct Market-1501 at 45 dB (mean of the images' PSNR; 43 dB of their
    mean squared error). The basis is orthonormal up to one common factor, which gives the leading component unit
    variance, so errors weigh as they do in pixels and noise drowns fine detail first.
    """

    @register_to_config
    def __init__(self, factor: int = 4, channels: int = 16):
        super().__init__()
        self.factor, self.channels = factor, channels
        size = 3 * factor * factor
        self.mean = nn.Parameter(torch.zeros(size), requires_grad=False)
        self.basis = nn.Parameter(torch.eye(size)[:, :channels].clone(), requires_grad=False)  # [patch, component]
        self.component_std = nn.Parameter(torch.ones(channels), requires_grad=False)  # in pixels, descending

    @property
    def std(self) -> list[float]:
        """Standard deviation of each channel of the latents, the first 1."""
        return (self.component_std / self.component_std[0]).tolist()

    @torch.no_grad()
    def fit(self, images: Tensor) -> PatchPcaCodec:
        """Fit to uint8 images [N, 3, H, W]; a few thousand are plenty."""
        if len(images) == 0:
            raise DataError("the patch codec has no images to fit to. Give a training set that is not empty.")
        total, products, count = 0.0, 0.0, 0
        for chunk in images.split(256):
            patches = self._patches(chunk.float() / 127.5 - 1).double()
            total, products = total + patches.sum(0), products + patches.T @ patches
            count += len(patches)
        mean = total / count
        variances, vectors = torch.linalg.eigh(products / count - mean.outer(mean))
        order = variances.argsort(descending=True)[: self.channels]
        basis = vectors[:, order]
        basis = torch.where(basis.sum(0) < 0, -basis, basis)  # eigenvectors have no sign of their own; fix one
        self.mean.copy_(mean)
        self.basis.copy_(basis)
        self.component_std.copy_(variances[order].clamp_min(1e-8).sqrt())
        return self

    def encode(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] to [B, channels, H / factor, W / factor]."""
        patches = functional.pixel_unshuffle(images, self.factor) - self.mean[:, None, None]
        return torch.einsum("bphw,pc->bchw", patches, self.basis / self.component_std[0])

    def decode(self, latents: Tensor) -> Tensor:
        """[B, channels, h, w] to [B, 3, H, W], clamped to [-1, 1]."""
        patches = torch.einsum("bchw,pc->bphw", latents, self.basis * self.component_std[0]) + self.mean[:, None, None]
        return functional.pixel_shuffle(patches, self.factor).clamp(-1, 1)

    def _patches(self, images: Tensor) -> Tensor:
        return functional.pixel_unshuffle(images, self.factor).permute(0, 2, 3, 1).flatten(0, 2)


class VaeCodec(ModelMixin, ConfigMixin):
    """The latents of a trained VAE, frozen: the mean of its posterior, scaled and shifted as the VAE's settings say.

    A generator is saved with the VAE's weights in it, so sampling from it needs nothing else.

    Args:
        kind: AutoencoderKL or AutoencoderTiny, the class in diffusers.
        shape: that class's configuration.
        std: standard deviation of each channel of the latents; measured by :meth:`fit`.
    """

    @register_to_config
    def __init__(self, kind: str, shape: dict[str, Any], std: Sequence[float] | None = None):
        super().__init__()
        self.vae = VAES[kind].from_config(shape).requires_grad_(False)
        settings = self.vae.config
        self.channels = settings.latent_channels
        self.std = [1.0] * self.channels if std is None else list(std)
        widths = settings.block_out_channels if kind == "AutoencoderKL" else settings.encoder_block_out_channels
        self.factor = 2 ** (len(widths) - 1)
        self.scale, self.shift = settings.scaling_factor, settings.shift_factor or 0.0

    @classmethod
    def open(cls, weights: str | Path) -> VaeCodec:
        """Load a VAE: a diffusers folder, that of a whole pipeline with one in ``vae/``, or the hub's name of either.

        Raises:
            CheckpointError: not there, not reachable, or not an AutoencoderKL or AutoencoderTiny.
        """
        try:
            place = model_folder(weights, "vae")
            shape, inside = _vae_settings(place)
            kind = shape.get("_class_name")
            if kind not in VAES:
                raise ValueError(f"it is of class {kind}, not {' or '.join(VAES)}")
            vae = VAES[kind].from_pretrained(place, subfolder=inside, low_cpu_mem_usage=False)
        except (OSError, ValueError, RuntimeError) as error:
            raise CheckpointError(
                f"`model.codec_weights` {str(weights)!r}: no VAE loaded: {why_not_loaded(error)} Give a local folder "
                "with config.json and diffusion_pytorch_model.safetensors, e.g. of stabilityai/sd-vae-ft-mse, or that "
                "of a pipeline with both in vae/."
            ) from error
        return cls.of(vae)

    @classmethod
    def of(cls, vae: AutoencoderKL | AutoencoderTiny) -> VaeCodec:
        """The codec of a VAE in memory, with a frozen copy of its weights; on its device."""
        codec = cls(type(vae).__name__, plain_settings(vae.config))
        codec.vae.load_state_dict(vae.state_dict())
        return codec.to(vae.device)

    @torch.no_grad()
    def fit(self, images: Tensor) -> VaeCodec:
        """Measure the latents' deviation on uint8 images [N, 3, H, W]."""
        latents = torch.cat([self.encode(chunk.float() / 127.5 - 1) for chunk in images.split(32)])
        self.std = latents.std((0, 2, 3), correction=0).tolist()
        self.register_to_config(std=self.std)
        return self

    def encode(self, images: Tensor) -> Tensor:
        """[B, 3, H, W] in [-1, 1] to [B, channels, H / factor, W / factor]."""
        encoded = self.vae.encode(images)
        latents = encoded.latents if isinstance(self.vae, AutoencoderTiny) else encoded.latent_dist.mode()
        return (latents - self.shift) * self.scale

    def decode(self, latents: Tensor) -> Tensor:
        """[B, channels, h, w] to [B, 3, H, W], clamped to [-1, 1]."""
        return self.vae.decode(latents / self.scale + self.shift).sample.clamp(-1, 1)


Codec = PixelCodec | PatchPcaCodec | VaeCodec


def make_codec(config: GeneratorModelConfig, images: Tensor) -> Codec:
    """The configured codec, fitted to uint8 ``images`` [N, 3, H, W] where it has something to fit."""
    if config.codec == "pixels":
        return PixelCodec()
    if config.codec == "vae":
        return VaeCodec.open(config.codec_weights).fit(images[:: max(1, len(images) // VAE_IMAGES)])
    return PatchPcaCodec(factor=4, channels=config.codec_components).fit(images)


def model_folder(weights: str | Path, part: str) -> str | Path:
    """The folder of a diffusers model: ``weights``, or its ``part`` where it is a whole pipeline's; or a hub's name.

    Raises:
        FileNotFoundError: a path that is not there and cannot be a hub's name, ``model`` or ``owner/model``.
    """
    if (Path(weights) / part / "config.json").is_file():
        return Path(weights) / part
    a_path = Path(weights).is_absolute() or str(weights).startswith((".", "~")) or len(Path(weights).parts) > 2
    if a_path and not Path(weights).is_dir():
        raise FileNotFoundError("no such folder.")
    return weights


def why_not_loaded(error: Exception) -> str:
    """A sentence on why diffusers did not load a model: an unreachable hub reads as a missing file there."""
    if isinstance(error.__context__, LocalEntryNotFoundError):
        return "there is no such folder, and the hub is not reachable."
    return str(error).splitlines()[0]


def _vae_settings(place: str | Path) -> tuple[dict[str, Any], str | None]:
    """A VAE's settings, and the subfolder that it is in where ``place`` is the hub's name of a whole pipeline."""
    try:
        return AutoencoderKL.load_config(place), None
    except OSError:
        if Path(place).is_dir():
            raise
        return AutoencoderKL.load_config(place, subfolder="vae"), "vae"


def plain_settings(settings: Mapping[str, Any]) -> dict[str, Any]:
    """A diffusers configuration without its private entries, such as the folder it was read from."""
    return {key: value for key, value in settings.items() if not key.startswith("_")}
