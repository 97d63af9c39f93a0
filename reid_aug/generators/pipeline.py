"""Sampling: a diffusers pipeline from source images and poses to the same people in other poses."""

from __future__ import annotations

import hashlib
import json
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from diffusers import DiffusionPipeline
from diffusers.utils import BaseOutput, logging
from PIL import Image
from torch import Tensor
from torch.nn import functional

from reid_aug.config import SamplingConfig, build_config
from reid_aug.errors import CheckpointError, ConfigError, DataError
from reid_aug.generators import systems  # noqa: F401 - diffusers loads only classes whose modules are imported
from reid_aug.generators.condition import Encoded
from reid_aug.generators.guidance import GUIDANCE
from reid_aug.generators.schedulers import make_sampler, reads_variance
from reid_aug.generators.tasks import (
    Blend,
    Poses,
    Reference,
    Request,
    Seeds,
    Sources,
    read_reference,
    read_request,
    slerp,
)

SHIPPED = Path(__file__).parents[1] / "weights"  # generators that come with the package, one folder each
CHECKPOINT = "checkpoint.pt"  # beside a generator that is not trained to its end


@dataclass
class PoseTransferOutput(BaseOutput):
    """Generated images, as asked for: PIL or uint8, in one row or person by person."""

    images: list[Image.Image] | list[list[Image.Image]] | Tensor


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
            if shape.get("cameras") == 0:  # as in generators saved before there was the option, which keep their digest
                del shape["cameras"]
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
        source: Sources | None,
        source_pose: Poses | None,
        target_pose: Poses,
        seeds: Seeds,
        output_type: str = "pil",
        reference: Sources | None = None,
        mask: Tensor | str | None = None,
        blend: Blend | None = None,
        **settings: Any,
    ) -> PoseTransferOutput:
        """Generate one image for each target pose.

        Args:
            source: B images, uint8 [B, 3, H, W] or PIL (resized to the pipeline's size). Several images of each person
                are [B, S, 3, H, W] or B lists of PIL images; None makes people from their poses alone.
            source_pose: B poses, or B lists of S; None without a source.
            target_pose: B poses, or B lists of T to make T images of each person.
            seeds: one for each target pose, in the same arrangement. Image k depends on seed k and its own inputs, not
                on the rest of the batch; a system that makes a person's T images together (IMAGPose) lets these see
                each other.
            output_type: "pil", or "uint8" for a [B, 3, H, W] tensor on the CPU. Where target_pose holds lists, so do
                the images: B lists of PIL images, or [B, T, 3, H, W].
            reference, mask: masked appearance transfer. The reference (arranged as the images made) stays, pixel by
                pixel, where the mask, [H, W] or one for each image, in [0, 1], is 0. "head", "upper", "lower" and
                "person" are masks drawn around the target pose.
            blend: style interpolation with a second source. With a sampler that draws noise at every step, that noise
                stays the first source's.
            **settings: ``sampler`` (a diffusers scheduler class), ``num_inference_steps``, ``guidance``,
                ``guidance_scale`` such as ``{"pose": 2.0, "source": 2.0}``; the pipeline's own where left out.

        Raises:
            DataError: unequal numbers of images, poses and seeds, images or masks of another size, a pose outside its
                image, more sources and poses than the system takes.
            ConfigError: unknown sampler, guidance or scale.
            CheckpointError: sampling ends in values that are no numbers.
        """
        sampling = self._settings(settings)
        if output_type not in ("pil", "uint8"):
            raise ConfigError(f"`output_type`: {output_type!r} is unknown. Use pil or uint8.")
        request = self._request(source, source_pose, target_pose, seeds)
        kept = read_reference(reference, mask, request.target_pose, tuple(self.config.image_size))
        generators = [torch.Generator().manual_seed(seed) for seed in request.seeds]
        noise, encoded = self._noise(generators), self._encode(request)
        if blend is not None:
            noise, encoded = self._blend(blend, target_pose, seeds, request, noise, encoded)
        if not request.has_source:
            encoded = encoded.kept(True, False)
        images = self._decode(self._sample(encoded, noise, generators, sampling, kept))
        if kept is not None:
            images = kept.around(images)
        pictures = images
        if output_type == "pil":
            pictures = [Image.fromarray(image) for image in images.permute(0, 2, 3, 1).numpy()]
        if request.nested:
            pictures = _by_person(pictures, len(images) // len(target_pose))
        return PoseTransferOutput(images=pictures)

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

    def _request(self, source: Sources | None, source_pose: Poses | None, target_pose: Poses, seeds: Seeds) -> Request:
        """The checked call; person by person for a denoiser with slots, else image by image."""
        slots, part_maps = getattr(self.denoiser, "slots", None), getattr(self.denoiser, "reads_part_maps", False)
        size = tuple(self.config.image_size)
        request = read_request(source, source_pose, target_pose, seeds, size, slots, part_maps)
        return request.one_by_one() if slots is None else request

    def _encode(self, request: Request) -> Encoded:
        return self.denoiser.encode(request.condition(self.device, self.denoiser.dtype), self.codec)

    def _noise(self, generators: Sequence[torch.Generator]) -> Tensor:
        """Float32 whatever the weights are; drawn on the CPU, so that a seed gives the same image on every device."""
        shape = self.codec.channels, *(side // self.codec.factor for side in self.config.image_size)
        noise = torch.stack([torch.randn(shape, generator=generator) for generator in generators])
        return noise.to(self.device)

    def _blend(
        self, blend: Blend, target_pose: Poses, seeds: Seeds, request: Request, noise: Tensor, encoded: Encoded
    ) -> tuple[Tensor, Encoded]:
        """Start noise and condition on the way to the second source: slerp of the one, lerp of the other."""
        second_seeds = seeds if blend.seeds is None else blend.seeds
        second = self._request(blend.source, blend.source_pose, target_pose, second_seeds)
        if not request.has_source or second.source.shape != request.source.shape:
            raise DataError(
                f"blend.source: {tuple(second.source.shape[:2])} people and images of each, the source has "
                f"{tuple(request.source.shape[:2]) if request.has_source else 'none'}. Give equally many."
            )
        amounts = blend.amounts(len(target_pose))
        second_noise = self._noise([torch.Generator().manual_seed(seed) for seed in second.seeds])
        by_image = amounts.repeat_interleave(len(noise) // len(amounts))
        by_condition = amounts.repeat_interleave(request.people // len(amounts))
        return slerp(noise, second_noise, by_image), encoded.lerp(self._encode(second), by_condition)

    def _latents(self, kept: Reference) -> tuple[Tensor, Tensor]:
        """What stays, [N, C, h, w] in the codec's space, and the mask on its grid, [N, 1, h, w]."""
        pixels = kept.pixels.to(self.device, self.denoiser.dtype) / 127.5 - 1
        latents = self.codec.encode(pixels).float()
        return latents, functional.adaptive_avg_pool2d(kept.mask, latents.shape[-2:]).to(latents)

    def _sample(
        self,
        encoded: Encoded,
        noise: Tensor,
        generators: Sequence[torch.Generator],
        sampling: SamplingConfig,
        kept: Reference | None,
    ) -> Tensor:
        """The reverse process, in float32; all guidance branches go through the denoiser as one batch."""
        channels = self.codec.channels
        guidance = GUIDANCE[sampling.guidance]
        scale = guidance.arguments(sampling.guidance_scale)
        # A condition that is not there makes some branches the same; each is evaluated once.
        wanted = [(pose, source and bool(encoded.keep_source.any())) for pose, source in guidance.branches]
        distinct = list(dict.fromkeys(wanted))
        branches = Encoded.cat([encoded.kept(pose, source) for pose, source in distinct])
        scheduler = make_sampler(sampling.sampler, self.scheduler)
        try:
            scheduler.set_timesteps(sampling.steps)  # on the CPU, since a scheduler looks at their values at each step
        except ValueError as error:
            raise ConfigError(
                f"`steps`: {sampling.sampler} cannot do {sampling.steps} ({error}). Ask for more."
            ) from None
        takes_generator = "generator" in scheduler.step.__code__.co_varnames
        extra = {"generator": list(generators)} if takes_generator else {}
        takes_variance = reads_variance(scheduler)
        latents = noise * scheduler.init_noise_sigma
        staying, mask = (None, None) if kept is None else self._latents(kept)
        for timestep in self.progress_bar(scheduler.timesteps):
            if kept is not None:  # y_t = m y_t + (1 - m) yref_t
                reference = scheduler.add_noise(staying, noise, timestep.expand(len(noise)))
                latents = torch.lerp(reference, latents, mask)
            inputs = scheduler.scale_model_input(latents, timestep)
            inputs = inputs.repeat(len(distinct), 1, 1, 1).to(self.denoiser.dtype)
            steps = torch.full((len(inputs),), int(timestep), device=noise.device)  # Euler's are whole numbers in float
            outputs = self.denoiser(inputs, steps, branches).float().chunk(len(distinct))
            outputs = [outputs[distinct.index(branch)] for branch in wanted]
            prediction = guidance.combine(*(output[:, :channels] for output in outputs), **scale)
            if takes_variance:  # no paper says how guidance goes with it: the last branch's
                prediction = torch.cat([prediction, outputs[-1][:, channels:]], 1)
            latents = scheduler.step(prediction, timestep, latents, **extra).prev_sample
        return latents

    def _decode(self, latents: Tensor) -> Tensor:
        """uint8 [N, 3, H, W] on the CPU."""
        broken = (~latents.isfinite()).flatten(1).any(1)
        if broken.any():
            index = int(broken.nonzero()[0])
            raise CheckpointError(
                f"image {index}: sampling ended in NaN or infinite values. Sample in float32 and with a moderate "
                "guidance_scale; if that does not help, the weights are damaged: take an earlier checkpoint."
            )
        pixels = self.codec.decode(latents.to(self.denoiser.dtype)).float()
        return (pixels * 127.5 + 127.5).round().to(torch.uint8).cpu()


def _by_person(pictures: Tensor | list[Image.Image], count: int) -> Tensor | list[list[Image.Image]]:
    """``count`` images a person, from all in one row."""
    if torch.is_tensor(pictures):
        return pictures.unflatten(0, (-1, count))
    return [pictures[start : start + count] for start in range(0, len(pictures), count)]


def load_generator(folder: str | Path, device: str | torch.device | None = None) -> PosePipeline:
    """Load a generator folder (``model_index.json`` and safetensors) for sampling, in float32.

    ``folder`` may also be the name of a generator that the package ships, ``pidm_toy``. ``device`` None is the GPU
    where there is one. Warns of a generator that is not trained to its end.

    Raises:
        CheckpointError: no such folder, not a generator, or weights of another architecture.
    """
    folder = SHIPPED / folder if (SHIPPED / folder / "model_index.json").is_file() else Path(folder)
    if not (folder / "model_index.json").is_file():
        raise CheckpointError(
            f"{folder}: no model_index.json. Name a folder written by `reid-aug train-generator` or save_pretrained."
        )
    if (folder / CHECKPOINT).exists():
        warnings.warn(
            f"{folder}: not trained to its end ({CHECKPOINT} is there). Run the command that trains it again to go on.",
            stacklevel=2,
        )
    bars = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()  # its three components load in a moment
    try:
        pipe = PosePipeline.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    except (OSError, ValueError, RuntimeError, TypeError, AttributeError) as error:
        raise CheckpointError(
            f"{folder}: cannot be loaded: {error}. Its weights are damaged or belong to another architecture; train "
            "or copy the generator again."
        ) from error
    finally:
        if bars:
            logging.enable_progress_bar()
    pipe.to(device or ("cuda" if torch.cuda.is_available() else "cpu"))
    pipe.denoiser.to(memory_format=torch.channels_last)
    pipe.set_progress_bar_config(disable=True)
    return pipe
