"""The records that travel between rooms: images and who is on them, poses, generated images, and a batch's make-up."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch


@dataclass(frozen=True, slots=True)
class Sample:
    """One image of a person.

    Attributes:
        path: the image file.
        pid: person identity as the data set numbers it (0 is a distractor in the Market-1501 gallery).
        camid: camera as the file name numbers it, from 1.
    """

    path: Path
    pid: int
    camid: int

    @property
    def name(self) -> str:
        """The file's name, the key under which key points and manifests know the image."""
        return self.path.name


@dataclass(frozen=True, eq=False)
class Pose:
    """Key points of one person.

    Attributes:
        xy: [K, 2] float32, x then y, pixels of ``image_size``; (0, 0) where not visible.
        visible: [K] bool.
        image_size: (height, width) of the image the pixels count in.
        part_file: where the image's part map is, if it has one (see ``pose.parts``); only what asks for it reads it.
        camid: camera that saw the person, from 1; None where it is not known. Only a generator that is told cameras
            (``model.cameras``) looks at it: it draws the person as that camera would.
    """

    xy: np.ndarray
    visible: np.ndarray
    image_size: tuple[int, int]
    part_file: Path | None = None
    camid: int | None = None


class Samples(Sequence[Sample]):
    """An ordered, immutable list of samples with the poses known for them (by file name).

    Slicing, :meth:`where` and :meth:`at` keep the poses, so a subset is used like the whole.
    """

    def __init__(self, samples: Iterable[Sample], poses: Mapping[str, Pose] | None = None):
        self._samples = tuple(samples)
        self.poses: Mapping[str, Pose] = {} if poses is None else poses

    def __getitem__(self, index):
        if isinstance(index, slice):
            return Samples(self._samples[index], self.poses)
        return self._samples[index]

    def __len__(self) -> int:
        return len(self._samples)

    def __iter__(self) -> Iterator[Sample]:
        return iter(self._samples)

    def __add__(self, other: Samples) -> Samples:
        return Samples((*self._samples, *other._samples), {**self.poses, **other.poses})

    def __repr__(self) -> str:
        return f"Samples({len(self)} images, {len(set(self.pids.tolist()))} identities, {len(self.poses)} poses)"

    def where(self, keep: Callable[[Sample], bool]) -> Samples:
        """The samples for which ``keep`` is true, in order."""
        return Samples((sample for sample in self._samples if keep(sample)), self.poses)

    def at(self, indices: Iterable[int]) -> Samples:
        """The samples at ``indices``, in that order."""
        return Samples((self._samples[index] for index in indices), self.poses)

    @property
    def pids(self) -> np.ndarray:
        """[N] int64."""
        return np.fromiter((sample.pid for sample in self._samples), np.int64, len(self))

    @property
    def camids(self) -> np.ndarray:
        """[N] int64."""
        return np.fromiter((sample.camid for sample in self._samples), np.int64, len(self))


class ImageSource(Protocol):
    """Decoded images of a list of samples, by position; ``data.images.Images`` is the one of this package."""

    def __len__(self) -> int: ...

    def batch(self, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
        """uint8 [B, 3, H, W]."""
        ...


@dataclass(frozen=True, slots=True)
class GeneratedImage:
    """One line of a generated set's ``manifest.jsonl``: everything needed to make the image again, and its verdict.

    Attributes:
        name: file name in the store, Market-1501 style, ``0002_c1s1_000451_03_g0007.png``.
        pid: identity the image is labelled with.
        camid: camera it is labelled with: the source's, or another one that the plan asked for.
        source: file name of the source image.
        source_pose: name of the pose of the source image.
        target_pose: name of the image whose pose was asked for.
        seed: seed of this image's noise.
        generator: digest of the generator's weights and configuration.
        sampler: scheduler class, or the augmenter's name where nothing is sampled.
        steps: sampling steps.
        guidance: name of the guidance function.
        guidance_scale: scale by condition.
        identity_score: margin of the identity filter, see ``augment.identity``; None before filtering.
        verdict: "keep", "reject", or "unfiltered".
        reason: why, in words.
    """

    name: str
    pid: int
    camid: int
    source: str
    source_pose: str
    target_pose: str
    seed: int
    generator: str
    sampler: str
    steps: int
    guidance: str
    guidance_scale: Mapping[str, float] = field(default_factory=dict)
    identity_score: float | None = None
    verdict: str = "unfiltered"
    reason: str = ""

    def judged(self, score: float, verdict: str, reason: str) -> GeneratedImage:
        """The same image with the filter's verdict."""
        return replace(self, identity_score=score, verdict=verdict, reason=reason)


@dataclass(frozen=True, slots=True)
class Mix:
    """How one re-ID training iteration is composed; a schedule returns one for each iteration.

    The sampler draws, for each of the P identities of a batch, ``real`` images from the real set, ``synthetic`` ones
    from the generated set and ``either`` from the union of both. Where an identity has no generated image, real ones
    take their place, so a batch is always P x (real + synthetic + either) images.

    Attributes:
        real, synthetic, either: images of each identity.
        weight: weight of a generated image in the classification loss, >= 0.
        smoothing: label smoothing of generated images; None takes the real images' own.
        in_triplet: whether generated images enter the triplet (and center) loss.
    """

    real: int = 0
    synthetic: int = 0
    either: int = 0
    weight: float = 1.0
    smoothing: float | None = None
    in_triplet: bool = True

    @property
    def per_identity(self) -> int:
        """K of the P x K batch."""
        return self.real + self.synthetic + self.either


class Schedule(Protocol):
    """A mixing policy: iteration (from 0) -> make-up of the batch. Has no state, so a run resumes anywhere."""

    def __call__(self, iteration: int) -> Mix: ...
