"""The tasks of a generator on images of a data set, asked for by name, and what came of it as one labelled sheet."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from reid_aug.data.images import decode
from reid_aug.data.market1501 import Market1501
from reid_aug.errors import DataError
from reid_aug.generators.pipeline import PosePipeline
from reid_aug.generators.tasks import REGIONS, Blend, region_mask
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import limb_picture
from reid_aug.records import Pose, Sample
from reid_aug.study.sheets import column_sheet, write_sheet


@dataclass(frozen=True)
class Drawing:
    """What a generator made.

    Attributes:
        images: uint8 [N, 3, H, W], one for each pose, or for each step towards the second person.
        sheet: what was given and what was made, a column each, poses above.
    """

    images: torch.Tensor
    sheet: Image.Image

    def write(self, sheet: str | Path, folder: str | Path | None = None) -> None:
        """Write the sheet as PNG, and the images, where a folder is given, as 1.png, 2.png, ... in it."""
        write_sheet(self.sheet, sheet)
        if folder is not None:
            for number, image in enumerate(self.images, start=1):
                write_sheet(Image.fromarray(image.permute(1, 2, 0).numpy()), Path(folder) / f"{number}.png")


@dataclass(frozen=True)
class Album:
    """Images and poses of a data set by file name, for a generator of ``size`` (height, width)."""

    market: Market1501
    size: tuple[int, int]

    @cached_property
    def _shown(self) -> dict[str, tuple[Sample, Pose | None]]:
        splits = (self.market.gallery, self.market.query, self.market.train)
        return {sample.name: (sample, samples.poses.get(sample.name)) for samples in splits for sample in samples}

    def find(self, name: str) -> tuple[Sample, Pose]:
        """The image and its pose.

        Raises:
            DataError: no such image (with the names most alike), no key points of it, or none that is visible.
        """
        if name not in self._shown:
            same = [other for other in self._shown if other[:4] == name[:4]]  # of one person: all would take seconds
            alike = ", ".join(difflib.get_close_matches(name, same or self._shown, n=3, cutoff=0.0))
            raise DataError(f"{name}: no such image in {self.market.root}. Closest names: {alike}.")
        sample, pose = self._shown[name]
        if pose is None or not pose.visible.any():
            what = "have no line for it" if pose is None else "mark all its joints as missing"
            raise DataError(
                f"{name}: the key-point files of {self.market.root} {what}. Name another image, or find the key points "
                "with `reid-aug pose extract`."
            )
        return sample, pose

    def image(self, name: str) -> torch.Tensor:
        """uint8 [3, H, W]."""
        return decode(self.find(name)[0].path, self.size)

    def pose(self, name: str) -> Pose:
        """Of the image."""
        return self.find(name)[1]

    def person(self, names: Sequence[str], times: int) -> tuple[torch.Tensor | None, list[list[Pose]] | None]:
        """Images [times, S, 3, H, W] of one person and their poses, ``times`` times over; None for no names.

        Raises:
            DataError: they show several people.
        """
        if not names:
            return None, None
        if len({self.find(name)[0].pid for name in names}) > 1:
            raise DataError(f"{', '.join(names)}: images of several people. Name images of one.")
        images = torch.stack([self.image(name) for name in names])
        return images.expand(times, *images.shape), [[self.pose(name) for name in names]] * times

    def limbs(self, name: str) -> torch.Tensor:
        """The pose of an image as a picture, uint8 [3, H, W]."""
        return limb_picture(PoseBatch.stack([self.pose(name)]), self.size)[0]

    def mask(self, mask: str, name: str) -> torch.Tensor:
        """[H, W] in [0, 1]: a region of the body, around the key points of an image, or the mask in a file.

        Raises:
            DataError: neither a region nor a file, or a file of another size.
        """
        if mask in REGIONS:
            return region_mask(PoseBatch.stack([self.pose(name)]), mask, self.size)[0, 0]
        if not Path(mask).is_file():
            raise DataError(f"mask: {mask} is no file, and none of {', '.join(REGIONS)}. Name one of them.")
        pixels = decode(mask)
        if tuple(pixels.shape[1:]) != self.size:
            raise DataError(
                f"{mask}: a mask of {pixels.shape[1]}x{pixels.shape[2]}, the generator's images are "
                f"{self.size[0]}x{self.size[1]} (height x width). Resize it."
            )
        return pixels.float().mean(0) / 255


def draw(
    pipe: PosePipeline,
    market: Market1501,
    *,
    sources: Sequence[str] = (),
    poses: Sequence[str] = (),
    reference: str | None = None,
    mask: str | None = None,
    towards: Sequence[str] = (),
    frames: int = 5,
    seed: int = 0,
    **sampling: Any,
) -> Drawing:
    """Do a generator's tasks on images of a data set, named by their files.

    Args:
        pipe: the generator.
        market: whose train, query and gallery images can be named.
        sources: images of the person to show; without any, people are made from their poses alone.
        poses: images whose poses to take; one image is made for each.
        reference, mask: masked appearance transfer: an image, whose pose is taken, and where to make it anew: "head",
            "upper", "lower", "person", or a picture of the generator's size that is white there.
        towards: style interpolation: images of a second person, as many as ``sources``.
        frames: images from the one person to the other, both ends included.
        seed: of the first image's noise; the others count on from it.
        **sampling: settings of the pipeline, such as ``num_inference_steps``.

    Raises:
        DataError: an unknown name, an image without key points, a mask of another size, images of two people as one,
            more sources and poses than the generator takes, or arguments that do not go together.
    """
    _check(sources, poses, reference, mask, towards, frames)
    album = Album(market, tuple(pipe.config.image_size))
    poses = poses if reference is None else [reference]
    times, each = (frames if towards else 1), len(poses)  # a person a frame, each in every pose
    columns = [("source", album.limbs(name), album.image(name)) for name in sources]
    masked: dict[str, torch.Tensor] = {}
    if reference is not None:
        image, where = album.image(reference), album.mask(mask, reference)
        masked = {"reference": image.expand(times, -1, -1, -1), "mask": where}
        columns.append(("reference", (where * 255).to(torch.uint8).expand(3, -1, -1), image))
    amounts, blend = [], None
    if towards:
        amounts = [frame / (frames - 1) for frame in range(frames)]
        blend = Blend(*album.person(towards, times), amounts, [[*range(seed + each, seed + 2 * each)]] * times)
    made = pipe(
        *album.person(sources, times),
        target_pose=[[album.pose(name) for name in poses]] * times,
        seeds=[[*range(seed, seed + each)]] * times,
        output_type="uint8",
        blend=blend,
        **masked,
        **sampling,
    ).images.flatten(0, 1)
    labels = [f"{amount:.2g}" for amount in amounts for _ in poses] or ["made"] * each
    columns += [(label, album.limbs(name), image) for label, name, image in zip(labels, [*poses] * times, made)]
    columns += [("towards", album.limbs(name), album.image(name)) for name in towards]
    labels, above, below = zip(*columns)
    return Drawing(made, column_sheet(labels, torch.stack(above), torch.stack(below)))


def _check(
    sources: Sequence[str],
    poses: Sequence[str],
    reference: str | None,
    mask: str | None,
    towards: Sequence[str],
    frames: int,
) -> None:
    """Raises DataError for arguments that do not go together."""
    if bool(poses) == (reference is not None):
        raise DataError("poses, reference: name the images whose poses to take, or one reference to change.")
    if (reference is None) != (mask is None):
        raise DataError("reference, mask: one given without the other. Masked appearance transfer needs both.")
    if len(towards) not in (0, len(sources)):
        raise DataError(f"towards: {len(towards)} images for {len(sources)} of the source. Name equally many.")
    if frames < 2:
        raise DataError(f"frames: {frames}. Ask for 2, which are the two ends, or more.")
