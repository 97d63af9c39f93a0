"""IMAGPose: one model for several sources and several target poses (Shen et al., NeurIPS 2024).

Four images of a person share a canvas: the given sources first, then the images to be made. Where a call has fewer than
four, its sources are repeated (T2 of the paper's Fig. 7, the better of its two ways). Choices of this package: a given
slot holds its clean latents in place of noise, so the noisy images alone are diffused; a dropped source leaves its
slots empty and a learned token in place of its tokens; ``warp_prior``, ``cameras`` (of given slots, too) and
``latent_std`` are as in PIDM.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import Any

import torch
from diffusers import ModelMixin, UNet2DConditionModel
from diffusers.configuration_utils import ConfigMixin, register_to_config
from diffusers.models.controlnets.controlnet import ControlNetConditioningEmbedding
from torch import Tensor, nn
from torch.nn import functional

from reid_aug.config import ImagposeConfig, NoiseConfig
from reid_aug.errors import ConfigError
from reid_aug.generators.autoencoder import Codec
from reid_aug.generators.canvas import SLOTS, join, load_trained, make_canvas_unet, split
from reid_aug.generators.condition import Condition, Encoded
from reid_aug.generators.image_tokens import ImageTokens
from reid_aug.generators.precondition import Precondition
from reid_aug.generators.stable_diffusion import open_unet, unet_shape
from reid_aug.generators.unet import all_kept, check_grid
from reid_aug.pose.batch import PoseBatch, table
from reid_aug.pose.render import camera_planes, limb_image

POSE_CHANNELS = (16, 32, 96, 256)  # of ControlNet's condition embedding; each after the first halves the grid


class ImagposeDenoiser(ModelMixin, ConfigMixin):
    """The UNet on the joint canvas with its three conditions: canvas, context tokens, pose."""

    slots = SLOTS  # sources and targets of a person, together

    @register_to_config
    def __init__(
        self,
        latent_channels: int = 4,
        factor: int = 8,
        image_size: Sequence[int] = (128, 64),
        channels: Sequence[int] = (320, 640, 1280, 1280),
        layers_per_level: int = 2,
        heads: int = 8,
        context_channels: int = 768,
        patch: int = 4,
        image_encoder: str | None = None,
        warp_prior: bool = False,
        cameras: int = 0,
        latent_std: Sequence[float] | None = None,
        noise: dict[str, Any] | None = None,
    ):
        super().__init__()
        self.precondition = None if latent_std is None else Precondition(latent_std, NoiseConfig(**noise))
        prior_channels = latent_channels + 1 if warp_prior else 0
        seen_channels = 2 * latent_channels + 1 + prior_channels  # noisy, masked source, binary mask
        shape = unet_shape(seen_channels, latent_channels, channels, layers_per_level, heads, context_channels)
        self.unet = make_canvas_unet(shape, image_size[0] / image_size[1])
        pose_channels = POSE_CHANNELS[: factor.bit_length()]  # a halving for each 2 between image and codec's grid
        self.pose_encoder = ControlNetConditioningEmbedding(channels[0], 3 + cameras, pose_channels)
        self.tokenizer = nn.Conv2d(latent_channels, context_channels, patch, stride=patch)
        self.image_tokens = None if image_encoder is None else ImageTokens(image_encoder, context_channels)
        self.no_source = nn.Parameter(torch.zeros(context_channels))

    @classmethod
    def build(cls, config: ImagposeConfig, noise: NoiseConfig, codec: Codec) -> ImagposeDenoiser:
        """The denoiser of a configuration, for what ``codec`` encodes; pretrained parts are loaded.

        Raises:
            CheckpointError: weights that are named cannot be loaded.
            ConfigError: a trained UNet for other latents than the codec's, or of another shape than Stable Diffusion's.
        """
        trained = None if config.unet is None else open_unet(config.unet, codec)
        if trained is not None:
            config = shaped_as(trained, config)
            check_grid(config, codec)
        arguments = inspect.signature(cls.__init__).parameters
        shape = {name: value for name, value in config.model_dump().items() if name in arguments}
        if config.precondition:
            shape |= {"latent_std": codec.std, "noise": noise.model_dump()}
        denoiser = cls(latent_channels=codec.channels, factor=codec.factor, **shape)
        if trained is not None:
            load_trained(denoiser.unet, trained)
        if config.image_encoder is not None:
            denoiser.image_tokens.load(config.image_encoder_weights)
        return denoiser

    def encode(self, condition: Condition, codec: Codec) -> Encoded:
        """Everything that stays the same over the sampling steps.

        Args:
            condition: S sources and T targets of each person, S + T at most 4; without sources (a grey one stands in
                and is dropped) T at most 4.

        Returns:
            ``known``: latents of the given slots, [B, 4 - T, C, h, w]; ``pose``: features of every slot's pose, the
            given slots first, [B, 4, E, h, w]; ``context``: tokens [B, N, D]; with the prior, ``warp`` of the targets,
            [B, T, C + 1, h, w].
        """
        people, sources = condition.source.shape[:2]
        targets = len(condition.target_pose) // people
        repeated = table([slot % sources for slot in range(SLOTS - targets)], condition.source.device, torch.long)
        pixels = condition.source.flatten(0, 1)
        latents = condition.encoded_source(codec)
        size = tuple(pixels.shape[-2:])
        given, wanted = (  # [B, S or T, E, h, w]
            self.pose_encoder(self._pose_image(poses, size).to(pixels)).unflatten(0, (people, -1))
            for poses in (condition.source_pose, condition.target_pose)
        )
        context = [self.tokenizer(latents).flatten(2).transpose(1, 2)]
        if self.image_tokens is not None:
            context.append(self.image_tokens(pixels))
        tensors = {
            "known": latents.unflatten(0, (people, sources))[:, repeated],
            "pose": torch.cat([given[:, repeated], wanted], 1),
            "context": torch.cat(context, 1).unflatten(0, (people, sources)).flatten(1, 2),
        }
        if self.config.warp_prior:
            image, coverage = condition.warped_source()
            coverage = functional.adaptive_avg_pool2d(coverage, latents.shape[-2:])
            tensors["warp"] = torch.cat([codec.encode(image), coverage], 1).unflatten(0, (people, targets))
        return all_kept(tensors)

    def _pose_image(self, poses: PoseBatch, size: tuple[int, int]) -> Tensor:
        """The limbs and the camera's planes, [B, 3 + cameras, H, W] in [0, 1]."""
        return torch.cat([(limb_image(poses, size) + 1) / 2, camera_planes(poses, size, self.config.cameras)], 1)

    def forward(self, noisy: Tensor, timestep: Tensor, condition: Encoded) -> Tensor:
        """Predict what the objective asks for (noise or v).

        Args:
            noisy: [B T, C, h, w] in the codec's space, the T images of a person next to each other.
            timestep: [B T] integers, 0..T-1, one timestep a person.
            condition: of B people.

        Returns:
            [B T, C, h, w].
        """
        tensors, people = condition.tensors, len(condition.keep_pose)
        keep_pose, keep_source = (
            keep[:, None, None, None, None].to(noisy.dtype) for keep in (condition.keep_pose, condition.keep_source)
        )
        seen = noisy if self.precondition is None else self.precondition.inputs(noisy, timestep)
        wanted = seen.unflatten(0, (people, -1))  # [B, T, C, h, w]
        known = tensors["known"] * keep_source
        given, targets = known.shape[1], wanted.shape[1]
        layers = [
            torch.cat([known, wanted], 1),
            torch.cat([known, torch.zeros_like(wanted)], 1),
            torch.cat([torch.ones_like(known[:, :, :1]) * keep_source, torch.zeros_like(wanted[:, :, :1])], 1),
        ]
        if self.config.warp_prior:
            warp = tensors["warp"] * keep_source
            layers.append(torch.cat([torch.zeros_like(warp[:, :1]).expand(-1, given, -1, -1, -1), warp], 1))
        keep = torch.cat([keep_source.expand(-1, given, 1, 1, 1), keep_pose.expand(-1, targets, 1, 1, 1)], 1)
        layers.append(tensors["pose"] * keep)
        canvas = join(torch.cat(layers, 2)).contiguous(memory_format=torch.channels_last)
        context = torch.where(condition.keep_source[:, None, None], tensors["context"], self.no_source)
        output = self.unet(canvas, timestep[::targets], context, return_dict=False)[0]
        output = split(output)[:, given:].flatten(0, 1)
        return output if self.precondition is None else self.precondition.outputs(noisy, timestep, output)


def shaped_as(trained: UNet2DConditionModel, config: ImagposeConfig) -> ImagposeConfig:
    """The configuration from scratch whose UNet takes the weights of ``trained``.

    Raises:
        ConfigError: ``trained`` has not the shape of Stable Diffusion 1.5's, whatever its size.
    """
    has = trained.config
    taken = {
        "channels": tuple(has.block_out_channels), "layers_per_level": has.layers_per_block,
        "heads": has.attention_head_dim, "context_channels": has.cross_attention_dim,
    }  # fmt: skip
    shape = unet_shape(has.in_channels, has.out_channels, *taken.values())
    defaults = inspect.signature(UNet2DConditionModel.__init__).parameters
    others = {name: parameter.default for name, parameter in defaults.items() if name not in ("self", "sample_size")}
    expected = {**others, **shape}
    differs = [name for name in expected if _plain(has.get(name)) != _plain(expected[name])]
    differs += [name for name in ("layers_per_block", "attention_head_dim") if not isinstance(has[name], int)]
    if differs:
        raise ConfigError(
            f"`model.unet` {config.unet!r}: other than Stable Diffusion 1.5's UNet in {', '.join(sorted(differs))}. "
            "Give the folder of Stable Diffusion 1.5, or of a model trained on from it."
        )
    return config.model_copy(update={**taken, "unet": None})


def _plain(value: Any) -> Any:
    """A setting as JSON has it."""
    return list(value) if isinstance(value, tuple) else value
