"""Sampling: a diffusers pipeline from source images and poses to the same people in other poses."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput
from PIL import Image
from torch import Tensor

from reid_aug.config import SamplingConfig, build_config
from reid_aug.errors import CheckpointError, ConfigError, DataError
from reid_aug.generators.condition import Condition, Encoded
from reid_aug.generators.guidance import GUIDANCE
from reid_aug.pose.batch import PoseBatch
from reid_aug.records import Pose


SHIPPED = Path(__file__).parents[1] / "weights"  # generators that come with the package, one folder each


@dataclass
class PoseTransferOutput(BaseOutput):
    """Generated images: a list of PIL images, or uint8 [B, 3, H, W], as asked for."""

    images: list[Image.Image] | Tensor


class PosePipeline(DiffusionPipeline):
    """Pose transfer with a trained denoiser; saved and loaded with ``save_pretrained`` / ``from_pretrained``.

    Args:
        denoiser: the trained network.
        codec: between pixels and what is diffused.
        scheduler: the forward process; the sampler is made from its configuration.
        sampling: default sampling settings, as in :class:`~reid_aug.config.SamplingConfig`.
        image_size: (height, width) of the images.
    """

    model_cpu_offload_seq = "denoiser->codec"

    # No annotations: diffusers takes those of a pipeline's arguments for its modules' classes.
    def __init__(self, denoiser, codec, scheduler, sampling=None, image_size=(128, 64)):
        super().__init__()
        self.register_modules(denoiser=denoiser, codec=codec, scheduler=scheduler)
        self.register_to_config(sampling=dict(sampling or {}), image_size=tuple(image_size))

    @cached_property
    def digest(self) -> str:
        """First 16 hex digits of the SHA-256 of weights and configuration: names the generator in a manifest."""
        digest = hashlib.sha256()
        for module in (self.denoiser, self.codec):
            shape = {key: value for key, value in sorted(module.config.items()) if not key.startswith("_")}
            digest.update(json.dumps(shape, sort_keys=True).encode())
            for name, tensor in sorted(module.state_dict().items()):
                digest.update(name.encode())
                digest.update(np.ascontiguousarray(tensor.float().cpu().numpy()).tobytes())
        return digest.hexdigest()[:16]

    def describe(self, **settings: Any) -> dict[str, Any]:
        """The sampling settings in force (defaults where not given), as a manifest records them."""
        return self._settings(settings).model_dump()

    @torch.inference_mode()
    def __call__(
        self,
        source: Tensor | Sequence[Image.Image],
        source_pose: Sequence[Pose],
        target_pose: Sequence[Pose],
        seeds: Sequence[int],
        output_type: str = "pil",
        **settings: Any,
    ) -> PoseTransferOutput:
        """Generate one image for each source and target pose.

        Args:
            source: B images, uint8 [B, 3, H, W] or PIL (resized to the pipeline's size).
            source_pose, target_pose: B poses each.
            seeds: B seeds; image k depends on seed k and its own inputs, not on the rest of the batch.
            output_type: "pil", or "uint8" for a [B, 3, H, W] tensor on the CPU.
            **settings: ``sampler`` (any diffusers scheduler class), ``num_inference_steps``, ``guidance``,
                ``guidance_scale`` such as ``{"pose": 2.0, "source": 2.0}``; the pipeline's own where left out.

        Raises:
            DataError: unequal numbers of images, poses and seeds, or images of another size.
            ConfigError: unknown sampler, guidance or scale.
        """
        sampling = self._settings(settings)
        if output_type not in ("pil", "uint8"):
            raise ConfigError(f"`output_type`: {output_type!r} is unknown. Use pil or uint8.")
        encoded = self._encode(source, source_pose, target_pose, seeds)
        latents = self._sample(encoded, seeds, sampling)
        images = (self.codec.decode(latents).float() * 127.5 + 127.5).round().to(torch.uint8).cpu()
        if output_type == "uint8":
            return PoseTransferOutput(images=images)
        return PoseTransferOutput(images=[Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()])

    def _settings(self, settings: Mapping[str, Any]) -> SamplingConfig:
        """Given settings over the pipeline's defaults; ``num_inference_steps`` is diffusers' name of ``steps``."""
        given = dict(settings)
        if "num_inference_steps" in given:
            given["steps"] = given.pop("num_inference_steps")
        given = {key: value for key, value in given.items() if value is not None}
        sampling = build_config(SamplingConfig, {**self.config.sampling, **given}, where="sampling settings")
        GUIDANCE[sampling.guidance].arguments(sampling.guidance_scale)
        make_sampler(sampling.sampler, self.scheduler)
        return sampling

    def _encode(
        self,
        source: Tensor | Sequence[Image.Image],
        source_pose: Sequence[Pose],
        target_pose: Sequence[Pose],
        seeds: Sequence[int],
    ) -> Encoded:
        height, width = self.config.image_size
        if not torch.is_tensor(source):
            source = torch.stack([_to_tensor(image, (height, width)) for image in source])
        counts = {len(source), len(source_pose), len(target_pose), len(seeds)}
        if len(counts) != 1:
            raise DataError(
                f"source, source_pose, target_pose, seeds: {len(source)}, {len(source_pose)}, {len(target_pose)} and "
                f"{len(seeds)} given. Give one pose of each kind and one seed for each source image."
            )
        if source.dtype != torch.uint8 or tuple(source.shape[1:]) != (3, height, width):
            raise DataError(
                f"source: {source.dtype} {tuple(source.shape)}, expected torch.uint8 [B, 3, {height}, {width}]. "
                "Resize the images, or pass PIL images."
            )
        device, dtype = self.device, self.denoiser.dtype
        pixels = source.to(device=device, dtype=dtype) / 127.5 - 1
        condition = Condition(
            source=pixels[:, None],
            source_pose=PoseBatch.stack(source_pose).scaled((height, width)).to(device),
            target_pose=PoseBatch.stack(target_pose).scaled((height, width)).to(device),
        )
        return self.denoiser.encode(condition, self.codec)

    def _sample(self, encoded: Encoded, seeds: Sequence[int], sampling: SamplingConfig) -> Tensor:
        """The reverse process; all guidance branches go through the denoiser as one batch."""
        device, dtype, channels = self.device, self.denoiser.dtype, self.codec.channels
        grid = [side // self.codec.factor for side in self.config.image_size]
        # Noise is drawn on the CPU, image by image, so that a seed gives the same image on every device.
        generators = [torch.Generator().manual_seed(seed) for seed in seeds]
        noise = torch.stack([torch.randn(channels, *grid, generator=generator) for generator in generators])
        guidance = GUIDANCE[sampling.guidance]
        scale = guidance.arguments(sampling.guidance_scale)
        branches = Encoded.cat([encoded.kept(pose, source) for pose, source in guidance.branches])
        scheduler = make_sampler(sampling.sampler, self.scheduler)
        try:
            scheduler.set_timesteps(sampling.steps, device=device)
        except ValueError as error:
            raise ConfigError(f"`steps`: {sampling.sampler} cannot do {sampling.steps} ({error}). Ask for more.") from None
        takes_generator = "generator" in scheduler.step.__code__.co_varnames
        extra = {"generator": generators} if takes_generator else {}
        takes_variance = getattr(scheduler.config, "variance_type", "") == "learned_range"
        latents = noise.to(device, dtype) * scheduler.init_noise_sigma
        for timestep in self.progress_bar(scheduler.timesteps):
            inputs = scheduler.scale_model_input(latents, timestep)
            inputs = inputs.repeat(len(guidance.branches), 1, 1, 1)
            steps = timestep.expand(len(inputs))
            outputs = self.denoiser(inputs, steps, branches).chunk(len(guidance.branches))
            prediction = guidance.combine(*(output[:, :channels] for output in outputs), **scale)
            if takes_variance:
                prediction = torch.cat([prediction, outputs[-1][:, channels:]], 1)
            latents = scheduler.step(prediction, timestep, latents, **extra).prev_sample
        return latents


def make_sampler(name: str, process: Any) -> Any:
    """The diffusers scheduler class ``name`` for the forward process of ``process``.

    Raises:
        ConfigError: diffusers has no such scheduler.
    """
    kind = getattr(diffusers, name, None)
    if kind is None or not hasattr(kind, "set_timesteps"):
        raise ConfigError(
            f"`sampler`: diffusers has no scheduler {name!r}. Use e.g. DDIMScheduler, DDPMScheduler, PNDMScheduler "
            "or DPMSolverMultistepScheduler."
        )
    if kind is type(process):
        return kind.from_config(process.config)
    # Only DDPM reads the learned variance; the others get the prediction alone.
    return kind.from_config(process.config, variance_type="fixed_small")


def load_generator(folder: str | Path, device: str | torch.device = "cpu") -> PosePipeline:
    """Load a generator folder (``model_index.json`` and safetensors) for sampling, in float32.

    ``folder`` may also be the name of a generator that the package ships, ``pidm_toy``.

    Raises:
        CheckpointError: no such folder, not a generator, or weights of another architecture.
    """
    folder = SHIPPED / folder if (SHIPPED / folder / "model_index.json").is_file() else Path(folder)
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(
            f"{folder}: no model_index.json. Name a folder written by `reid-aug train-generator` or save_pretrained."
        )
    try:
        pipe = PosePipeline.from_pretrained(folder, local_files_only=True)
    except (OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder}: cannot be loaded: {error}. Its weights are damaged or belong to another architecture; train "
            "or copy the generator again."
        ) from error
    pipe.to(device, torch.float32)
    pipe.denoiser.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _to_tensor(image: Image.Image, size: tuple[int, int]) -> Tensor:
    height, width = size
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)
