"""What a call of the pipeline may ask for, checked and put into tensors.

Every system takes the same arguments: no source (pose only), one or several sources of a person, one or several target
poses, a reference that shines through a mask, a second source to go towards.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.nn import functional

from reid_aug.errors import DataError
from reid_aug.generators.condition import Condition
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import part_map
from reid_aug.pose.skeleton import PARTS
from reid_aug.records import Pose

Sources = Tensor | Sequence[Image.Image] | Sequence[Sequence[Image.Image]]
Poses = Sequence[Pose] | Sequence[Sequence[Pose]]
Seeds = Sequence[int] | Sequence[Sequence[int]]

REGIONS = {"head": ("head",), "upper": ("torso", "_arm"), "lower": ("_leg",), "person": ("",)}
"""What a mask may be called instead of drawn: the ends of the names of the parts that it covers."""


@dataclass(frozen=True)
class Blend:
    """Style interpolation: a second source, and how far to go towards it.

    Attributes:
        source, source_pose: as those of the call, equally many.
        amount: 0 for the call's source, 1 for this one; one number, or one for each of the B people.
        seeds: of the second start noise, as those of the call; None starts from the call's.
    """

    source: Sources
    source_pose: Poses
    amount: float | Sequence[float]
    seeds: Seeds | None = None

    def amounts(self, people: int) -> Tensor:
        """[B] float32.

        Raises:
            DataError: an amount outside 0..1, or not one for each person.
        """
        amounts = torch.as_tensor(self.amount, dtype=torch.float32)
        if amounts.shape not in ((), (people,)) or not ((amounts >= 0) & (amounts <= 1)).all():
            raise DataError(
                f"blend.amount: {self.amount}. Give one number from 0 to 1, or one for each of {people} people."
            )
        return amounts.expand(people)


@dataclass(frozen=True)
class Reference:
    """Masked appearance transfer: what stays of the images made, and where.

    Attributes:
        pixels: uint8 [N, 3, H, W].
        mask: float32 [N, 1, H, W] in [0, 1]; 0 where the reference stays.
    """

    pixels: Tensor
    mask: Tensor

    def around(self, made: Tensor) -> Tensor:
        """The images made, uint8 [N, 3, H, W], with the reference's own pixels where it stays."""
        return torch.lerp(self.pixels.float(), made.float(), self.mask).round().to(torch.uint8)


@dataclass(frozen=True)
class Request:
    """A checked call.

    Attributes:
        source: uint8 [B, S, 3, H, W]; grey where the call has no source.
        source_pose, target_pose: B x S and B x T poses in images of H x W, on the CPU.
        seeds: B x T.
        has_source: false for pose-only generation.
        nested: whether the images of a person are asked for as a list of their own.
    """

    source: Tensor
    source_pose: PoseBatch
    target_pose: PoseBatch
    seeds: tuple[int, ...]
    has_source: bool
    nested: bool

    @property
    def people(self) -> int:
        """B."""
        return len(self.source)

    @property
    def targets(self) -> int:
        """T."""
        return len(self.seeds) // self.people

    def condition(self, device: torch.device, dtype: torch.dtype) -> Condition:
        """The same as a denoiser takes it."""
        pixels = self.source.to(device=device, dtype=dtype) / 127.5 - 1
        return Condition(pixels, self.source_pose.to(device), self.target_pose.to(device))

    def one_by_one(self) -> Request:
        """Every target on its own, for a denoiser that makes one image of a person at a time."""
        if self.targets == 1:
            return self
        sources = self.source.shape[1]
        person = torch.arange(self.people).repeat_interleave(self.targets)
        rows = person[:, None] * sources + torch.arange(sources)
        return replace(self, source=self.source[person], source_pose=self.source_pose.at(rows.flatten()))


def read_request(
    source: Sources | None,
    source_pose: Poses | None,
    target_pose: Poses,
    seeds: Seeds,
    size: tuple[int, int],
    slots: int | None,
    part_maps: bool = False,
) -> Request:
    """Check the arguments of a call.

    Args:
        source: see :meth:`~reid_aug.generators.pipeline.PosePipeline.__call__`, like the next three.
        size: (height, width) of the images.
        slots: how many images of a person, sources and targets together, the denoiser takes; None for any number of
            sources, and targets one by one.
        part_maps: whether the denoiser needs the part maps that the poses' files have.

    Raises:
        DataError: unequal numbers, images of another size, a pose outside its image, more images than there are slots,
            a pose without its part map where that is needed.
    """
    targets, per_person = _flat(target_pose, "target_pose")
    seeds, seeds_per_person = _flat(seeds, "seeds")
    people = len(targets) // (per_person or 1)
    if source is None:
        if source_pose is not None:
            raise DataError("source_pose: given without a source. Leave it None for pose-only generation.")
        pixels, sources = torch.full((people, 3, *size), 127, dtype=torch.uint8), None
        poses = targets[:: per_person or 1]  # any will do: the source is dropped
    else:
        pixels, sources = read_images(source, size, "source")
        poses, poses_per_person = _flat(source_pose or (), "source_pose")
        if poses_per_person != sources:
            raise DataError(
                f"source, source_pose: {sources or 1} images and {poses_per_person or 1} poses a person, or only one "
                "of them as a list for each person. Give every source image its pose, in the same arrangement."
            )
    counts = [len(pixels) // (sources or 1), len(poses) // (sources or 1), people, len(seeds) // (per_person or 1)]
    if len(set(counts)) != 1 or seeds_per_person != per_person:
        raise DataError(
            f"source, source_pose, target_pose, seeds: {counts[0]}, {counts[1]}, {counts[2]} and {len(seeds)} given. "
            "Give one pose of each kind and one seed for each source image; with several target poses for a person, a "
            "list of poses and a list of as many seeds."
        )
    given = 0 if source is None else sources or 1
    if slots is not None and given + (per_person or 1) > slots:
        raise DataError(
            f"source, target_pose: {given} source images and {per_person or 1} target poses a person. This generator "
            f"takes {slots} in all. Leave out sources, or ask for some of the poses in another call."
        )
    return Request(
        pixels.unflatten(0, (people, sources or 1)),
        _read_poses(poses, size, "source_pose", part_maps),
        _read_poses(targets, size, "target_pose", part_maps),
        tuple(seeds),
        source is not None,
        per_person is not None,
    )


def read_images(images: Sources, size: tuple[int, int], what: str) -> tuple[Tensor, int | None]:
    """Images as uint8 [B x N, 3, H, W], and N where they come as N for each person.

    Raises:
        DataError: not uint8 images of ``size``, nor PIL images; lists of unequal length.
    """
    height, width = size
    if torch.is_tensor(images):
        per_person = images.shape[1] if images.ndim == 5 else None
        if images.dtype != torch.uint8 or images.ndim not in (4, 5) or tuple(images.shape[-3:]) != (3, *size):
            raise DataError(
                f"{what}: {images.dtype} {tuple(images.shape)}, expected torch.uint8 [B, 3, {height}, {width}], or "
                f"[B, N, 3, {height}, {width}] for N images a person. Resize the images, or pass PIL images."
            )
        return images.flatten(0, -4), per_person
    flat, per_person = _flat(images, what)
    pixels = [_to_tensor(image, size, what) for image in flat]
    return torch.stack(pixels) if pixels else torch.empty(0, 3, *size, dtype=torch.uint8), per_person


def read_reference(reference: Sources | None, mask: Any, poses: PoseBatch, size: tuple[int, int]) -> Reference | None:
    """Check the reference and mask of a call that makes one image for each of ``poses``; None where it has neither.

    Raises:
        DataError: one without the other, not one reference for each image, a mask that is no array, of another size
            or not in 0..1, an unknown region.
    """
    if (reference is None) != (mask is None):
        raise DataError("reference, mask: one given without the other. Masked appearance transfer needs both.")
    if reference is None:
        return None
    pixels = read_images(reference, size, "reference")[0].cpu()
    if len(pixels) != len(poses):
        raise DataError(f"reference: {len(pixels)} images for the {len(poses)} that are made. Give each its own.")
    if isinstance(mask, str):
        return Reference(pixels, region_mask(poses, mask, size))
    try:
        mask = torch.as_tensor(mask).cpu()
    except (TypeError, ValueError, RuntimeError):
        raise DataError(
            f"mask: a {type(mask).__name__}. Give a tensor [{size[0]}, {size[1]}] of numbers from 0 to 1, one such "
            f"mask for each image, or one of {', '.join(REGIONS)}."
        ) from None
    if tuple(mask.shape[-2:]) != size or mask.ndim not in (2, 3, 4) or mask.shape[:-2].numel() not in (1, len(poses)):
        raise DataError(
            f"mask: {tuple(mask.shape)}, expected ({size[0]}, {size[1]}), or one such mask for each of {len(poses)} "
            "images. Resize it."
        )
    mask = mask.float().reshape(-1, 1, *size)
    if not ((mask >= 0) & (mask <= 1)).all():
        raise DataError("mask: values outside 0..1. Give 1 where the image is to be made, 0 where the reference stays.")
    return Reference(pixels, mask.expand(len(poses), -1, -1, -1))


def region_mask(poses: PoseBatch, region: str, size: tuple[int, int]) -> Tensor:
    """Float32 [B, 1, H, W], 1 on the parts of the body that :data:`REGIONS` has under ``region``.

    Raises:
        DataError: there is no such region.
    """
    if region not in REGIONS:
        raise DataError(f"mask: {region!r} is no region of the body. Use {', '.join(REGIONS)}, or give a mask.")
    numbers = torch.tensor([1 + index for index, part in enumerate(PARTS) if part.name.endswith(REGIONS[region])])
    return torch.isin(part_map(poses, size), numbers)[:, None].float()


def slerp(first: Tensor, second: Tensor, amount: Tensor) -> Tensor:
    """Spherical interpolation of each sample, which keeps the length that noise has: [N, ...] with ``amount`` [N].

    ``sin((1 - a) w) / sin(w) first + sin(a w) / sin(w) second``, w the angle between the two; the straight line where
    they point the same way.
    """
    one, two = first.flatten(1).double(), second.flatten(1).double()
    weight = amount.to(one.device).double()[:, None]
    cosine = functional.cosine_similarity(one, two)[:, None]
    angle = cosine.clamp(-1, 1).arccos()
    straight = angle.sin() < 1e-6
    sine = torch.where(straight, 1.0, angle.sin())
    mixed = torch.where(
        straight,
        torch.lerp(one, two, weight.expand_as(one)),
        ((1 - weight) * angle).sin() / sine * one + (weight * angle).sin() / sine * two,
    )
    return mixed.reshape(first.shape).to(first.dtype)


def _flat(values: Any, what: str) -> tuple[list, int | None]:
    """The items of a list, or of a list of lists; and how many each of the lists has."""
    try:
        values = list(values)
    except TypeError:
        raise DataError(f"{what}: a {type(values).__name__}. Give a list, with an item for each person.") from None
    lists = [isinstance(value, (list, tuple)) for value in values]
    if not any(lists):
        return values, None
    lengths = {len(value) for value in values} if all(lists) else {0}
    if len(lengths) != 1 or 0 in lengths:
        raise DataError(f"{what}: lists of different length, or none. Give every person of a call equally many.")
    return [item for value in values for item in value], lengths.pop()


def _read_poses(poses: Sequence[Pose], size: tuple[int, int], what: str, part_maps: bool) -> PoseBatch:
    """The poses in images of ``size``, each with a visible joint inside."""
    try:
        batch = PoseBatch.stack(poses, part_maps)
    except DataError as error:
        raise DataError(f"{what}: {error}") from None
    height, width = batch.image_size
    limit = torch.tensor([width - 0.5, height - 0.5])
    inside = (batch.visible & ((batch.xy >= -0.5) & (batch.xy <= limit)).all(-1)).any(1)
    if not inside.all():
        index = int((~inside).nonzero()[0])
        raise DataError(
            f"{what}: pose {index} lies outside its image of {height}x{width}: none of its visible joints is inside. "
            "Give key points in pixels of the pose's image_size."
        )
    return batch.scaled(size)


def _to_tensor(image: Image.Image, size: tuple[int, int], what: str) -> Tensor:
    height, width = size
    if not isinstance(image, Image.Image):
        raise DataError(
            f"{what}: a {type(image).__name__}. Give PIL images, or all in one uint8 tensor [B, 3, {height}, {width}]."
        )
    resized = image.convert("RGB").resize((width, height), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(resized)).permute(2, 0, 1)
