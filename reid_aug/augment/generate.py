"""From a plan to images in a store, with anything that transfers a pose: a diffusion pipeline or an augmenter."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import torch
from PIL import Image

from reid_aug.augment.plan import PlannedImage
from reid_aug.augment.store import SETTINGS, Store
from reid_aug.config import AugmentConfig, Config, build_config
from reid_aug.deadline import Deadline
from reid_aug.errors import ConfigError, DataError, OutputError
from reid_aug.records import GeneratedImage, ImageSource, Pose, Samples

PAGE = "docs/own_generator.md"


class HasImages(Protocol):
    """What a call of a :class:`PoseTransfer` returns."""

    images: torch.Tensor | list[Image.Image]


class Description(Config):
    """What :meth:`PoseTransfer.describe` says, as :class:`~reid_aug.records.GeneratedImage` has it."""

    sampler: str
    steps: int
    guidance: str
    guidance_scale: Mapping[str, float]


class PoseTransfer(Protocol):
    """Draws the people of the sources in the target poses; every generator's pipeline is one.

    Image k depends on its own source, poses and seed, never on the rest of the batch. ``docs/own_generator.md`` writes
    one.
    """

    @property
    def digest(self) -> str:
        """Changes with the weights and whatever else changes the images; written into the manifest."""
        ...

    def describe(self, **sampling: Any) -> dict[str, Any]:
        """``sampler``, ``steps``, ``guidance`` and ``guidance_scale`` for the manifest."""
        ...

    def __call__(
        self,
        source: torch.Tensor | list[Image.Image],
        source_pose: list[Pose],
        target_pose: list[Pose],
        seeds: list[int],
        output_type: str = "pil",
        **sampling: Any,
    ) -> HasImages:
        """``source`` is uint8 [B, 3, H, W] or PIL images; ``output_type`` "uint8" returns such a tensor."""
        ...


def create_store(
    folder: str | Path,
    plan: Sequence[PlannedImage],
    samples: Samples,
    config: AugmentConfig,
    pipe: PoseTransfer,
    sampling: Mapping[str, Any],
) -> Store:
    """The store of this run in ``folder``, new or continued.

    ``per_identity`` may grow from one run to the next; whatever else changes the images (samples, poses, seed,
    generator, sampling) must be as it was.

    Raises:
        DataError: the plan names an image or pose that ``samples`` does not have.
        ConfigError: ``pipe`` is no :class:`PoseTransfer`, or does not describe itself as one.
        OutputError: the folder holds something else, or a set made otherwise.
    """
    _check_plan(plan, samples)
    _check_pipe(pipe, sampling)
    settings = {
        **_planned_settings(samples, config),
        "generator": pipe.digest,
        "sampling": pipe.describe(**sampling),
    }
    return Store.create(folder, settings, {image.target_pose: samples.poses[image.target_pose] for image in plan})


def finished_store(
    folder: str | Path, plan: Sequence[PlannedImage], samples: Samples, config: AugmentConfig
) -> Store | None:
    """The store in ``folder``, repaired, if it is of this plan and lacks none of its images: it needs no generator.

    Raises:
        OutputError: the store is damaged.
    """
    if not (Path(folder) / SETTINGS).exists():
        return None
    store = Store.open(folder)
    if not _planned_settings(samples, config).items() <= store.settings.items():
        return None
    store.repair()
    return store if is_finished(store, plan) else None


def is_finished(store: Store, plan: Sequence[PlannedImage]) -> bool:
    """Whether ``store`` has every image of ``plan``."""
    return all(image.name in store for image in plan)


def generate(
    plan: Sequence[PlannedImage],
    samples: Samples,
    images: ImageSource,
    pipe: PoseTransfer,
    store: Store,
    batch_size: int,
    sampling: Mapping[str, Any],
    progress: Callable[[int, int], None] = lambda done, total: None,
    minutes: float | None = None,
) -> Store:
    """Make the images of ``plan`` that ``store`` lacks, in the plan's order; after a kill, call it again.

    Several machines share a plan by slices, ``plan[i::n]``, each with its own store.

    Args:
        plan: what to make; see :func:`reid_aug.augment.plan.make_plan`.
        samples: the samples that were planned for, with the source and target poses.
        images: decoded images of ``samples``, by position.
        pipe: what draws the images.
        store: where they go; it is repaired first.
        batch_size: images a call of ``pipe``; no image depends on it.
        sampling: further arguments of ``pipe``, such as ``num_inference_steps``.
        progress: called with the images done, and all planned.
        minutes: no batch is begun after this long.

    Raises:
        DataError: the plan names an image or pose that ``samples`` does not have.
        OutputError: ``pipe`` returned something that is not these images.
    """
    store.repair()
    position = {sample.name: index for index, sample in enumerate(samples)}
    _check_plan(plan, samples)
    missing = [image for image in plan if image.name not in store]
    done = len(plan) - len(missing)
    progress(done, len(plan))
    deadline = Deadline(minutes)
    for start in range(0, len(missing), batch_size):
        if deadline.passed:
            break
        batch = missing[start : start + batch_size]
        with torch.inference_mode():
            pixels = pipe(
                source=images.batch([position[image.source] for image in batch]),
                source_pose=[samples.poses[image.source] for image in batch],
                target_pose=[replace(samples.poses[image.target_pose], camid=image.camid) for image in batch],
                seeds=[image.seed for image in batch],
                output_type="uint8",
                **sampling,
            ).images
        _check_images(pixels, batch)
        store.append(pixels, _lines(batch, pipe, sampling))
        done += len(batch)
        progress(done, len(plan))
    return store


def _planned_settings(samples: Samples, config: AugmentConfig) -> dict[str, Any]:
    """What determines a set's images before any generator is asked."""
    return {
        "samples": _digest(samples),
        "plan": config.model_dump(mode="json", include={"poses", "source_identity", "image_format", "seed"}),
    }


def _lines(batch: Iterable[PlannedImage], pipe: PoseTransfer, sampling: Mapping[str, Any]) -> list[GeneratedImage]:
    how = {"generator": pipe.digest, **pipe.describe(**sampling)}
    return [
        GeneratedImage(
            name=image.name,
            pid=image.pid,
            camid=image.camid,
            source=image.source,
            source_pose=image.source,
            target_pose=image.target_pose,
            seed=image.seed,
            **how,
        )
        for image in batch
    ]


def _check_plan(plan: Sequence[PlannedImage], samples: Samples) -> None:
    known = {sample.name for sample in samples}
    for image in plan:
        if image.source not in known:
            raise DataError(f"plan: {image.name} has the source {image.source}, which is not a sample. Plan again.")
        for name in (image.source, image.target_pose):
            if name not in samples.poses:
                raise DataError(f"plan: {image.name} needs the pose of {name}, which has no key points. Plan again.")


def _check_pipe(pipe: Any, sampling: Mapping[str, Any]) -> None:
    """Now, rather than when images are drawn and cannot be written down."""
    if isinstance(pipe, type):
        raise ConfigError(f"generator: {pipe.__name__} is a class. Give an object of it, {pipe.__name__}(...).")
    name = type(pipe).__name__
    lacking = [f"`{member}`" for member in ("digest", "describe", "__call__") if getattr(pipe, member, None) is None]
    if lacking:
        raise ConfigError(f"generator: {name} has no {', '.join(lacking)}. Write them as {PAGE} does.")
    if not isinstance(pipe.digest, str):
        raise ConfigError(f"generator: {name}.digest is {pipe.digest!r}, expected text. Write it as {PAGE} does.")
    build_config(Description, pipe.describe(**sampling), where=f"{name}.describe() (see {PAGE})")


def _check_images(pixels: torch.Tensor, batch: Sequence[PlannedImage]) -> None:
    if not isinstance(pixels, torch.Tensor) or pixels.ndim != 4 or pixels.shape[:2] != (len(batch), 3):
        shape = list(pixels.shape) if isinstance(pixels, torch.Tensor) else type(pixels).__name__
        raise OutputError(
            f"{batch[0].name}: the generator returned {shape} for its batch, expected uint8 [{len(batch)}, 3, height, "
            'width]. Return one image for each source when output_type is "uint8".'
        )
    if pixels.is_floating_point():
        broken = (~pixels.isfinite()).flatten(1).any(1).tolist()
        name = batch[broken.index(True)].name if any(broken) else batch[0].name
        fault = "NaN or infinite values" if any(broken) else f"{pixels.dtype} values"
        raise OutputError(
            f"{name}: the generator returned {fault}, expected uint8. Sample in float32, or check its weights."
        )
    if pixels.dtype != torch.uint8:
        raise OutputError(f"{batch[0].name}: the generator returned {pixels.dtype}, expected uint8. Convert to it.")


def _digest(samples: Samples) -> str:
    """Of the names, identities, cameras and poses of ``samples``, in order."""
    sha = hashlib.sha256()
    for sample in samples:
        sha.update(f"{sample.name} {sample.pid} {sample.camid}\n".encode())
        pose = samples.poses.get(sample.name)
        if pose is not None:
            sha.update(np.asarray(pose.xy, np.float32).tobytes())
            sha.update(np.asarray(pose.visible, bool).tobytes())
    return sha.hexdigest()[:16]
