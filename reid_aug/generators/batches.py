"""Training batches of same-identity pairs: what iteration i sees depends on the seed and i alone.

Having no state, batches need no saving: a run resumed at iteration i continues exactly, and every process of several
draws its own share.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
import torch
from torch import Tensor

from reid_aug.config import GeneratorTrainingConfig, NoiseConfig
from reid_aug.errors import DataError
from reid_aug.generators.autoencoder import Codec
from reid_aug.generators.condition import Condition
from reid_aug.generators.latents import TrainingImages, send
from reid_aug.generators.objective import draw_timesteps
from reid_aug.pose.batch import PoseBatch
from reid_aug.records import ImageSource, Samples


@dataclass(frozen=True)
class PairBatch:
    """One training batch.

    Attributes:
        target: latents [B, C, h, w]; [B T, C, h, w] for a denoiser that makes T images of a person at once.
        condition: source images with their latents, source and target poses.
        keep_pose, keep_source: [B] bool; what the sample's condition keeps.
        timestep: as many int64 as targets, those of a person alike.
        generator: random state of this batch, on its device, for the noise.
        names: of each person's images, B pairs (source file names, target file names).
    """

    target: Tensor
    condition: Condition
    keep_pose: Tensor
    keep_source: Tensor
    timestep: Tensor
    generator: torch.Generator
    names: tuple[tuple[tuple[str, ...], tuple[str, ...]], ...]


class PairBatches:
    """Batches drawn uniformly from ordered pairs of images of the same person.

    Args:
        samples: the training images; every image of a pair must have a pose.
        images: their pixels, in the same order.
        pairs: (source name, target name), as ``data.pairs`` makes them.
        config: batch size, shares of flips and dropped conditions, seed. With ``reconstruction``, a batch has twice
            the size: its pairs, then for each of them the source and itself, so that the mean loss is that of
            Eq. 6 of CFLD, ``L_mse + L_rec``, halved.
        noise: the forward process, for the timesteps.
        codec: to the space that is diffused, on the device that batches are wanted on.
        process, processes: which of how many processes draws.
        part_maps: whether the poses carry the part maps of their files.
        slots: of a denoiser that sees several images of a person at once. Each batch has 1 to ``slots`` targets and 1
            to as many sources as then fit; those beyond the pair are any images of the same person.

    Raises:
        DataError: no pairs; a pair names an image that is not among the samples or has no pose, or no part map
            though it is asked for.
    """

    def __init__(
        self,
        samples: Samples,
        images: ImageSource,
        pairs: Sequence[tuple[str, str]],
        config: GeneratorTrainingConfig,
        noise: NoiseConfig,
        codec: Codec,
        process: int = 0,
        processes: int = 1,
        slots: int | None = None,
        part_maps: bool = False,
    ):
        if not pairs:
            raise DataError(
                "training pairs: none. A pair needs two images of one identity that both show both shoulders and "
                "both hips; check the key-point file with `reid-aug data check`."
            )
        positions = {sample.name: index for index, sample in enumerate(samples)}
        used = sorted({name for pair in pairs for name in pair})
        for name in used:
            if name not in positions or name not in samples.poses:
                raise DataError(f"training pairs: {name} is not a training image with a pose. Remove its pairs.")
        rows = {name: row for row, name in enumerate(used)}
        self.names = used
        self.pairs = np.array([(rows[source], rows[target]) for source, target in pairs], np.int32)
        self.positions = np.array([positions[name] for name in used])
        poses = PoseBatch.stack([samples.poses[name] for name in used], part_maps)
        self.poses = replace(poses, camids=torch.from_numpy(samples.camids[self.positions]))
        self.samples = samples
        self.images, self.config, self.noise, self.device = images, config, noise, codec.device
        self.encoded = TrainingImages(images, self.positions, used, codec)
        self.process, self.processes, self.slots = process, processes, slots
        pids = np.array([samples[position].pid for position in self.positions])
        self.by_person = np.argsort(pids, kind="stable")  # rows, those of a person next to each other
        _, person, count = np.unique(pids, return_inverse=True, return_counts=True)
        self.first, self.count = np.searchsorted(pids[self.by_person], pids), count[person]

    def encode_images(self, progress: Callable[[int, int], None] | None = None) -> None:
        """Encode every image once, here and now, so that no batch has to.

        Args:
            progress: called with (images encoded, of how many).
        """
        self.encoded.encode_all(mirrored=self.config.flip > 0, progress=progress)

    @cached_property
    def digest(self) -> str:
        """Of the images' names, their poses and the pairs, in order: what a run must find again to be resumed."""
        sha = hashlib.sha256("\n".join(self.names).encode())
        arrays = [self.pairs, self.poses.xy.numpy(), self.poses.visible.numpy()]
        for array in arrays if self.poses.parts is None else [*arrays, self.poses.parts.numpy()]:
            sha.update(np.ascontiguousarray(array).tobytes())
        return sha.hexdigest()[:16]

    def at(self, iteration: int, part: int = 0) -> PairBatch:
        """The batch of an iteration; ``part`` counts the accumulated batches within it."""
        config = self.config
        key = (config.seed, iteration, part, self.process)
        rng = np.random.default_rng(key)
        chosen = self.pairs[rng.integers(len(self.pairs), size=config.batch_size)]
        if config.reconstruction:
            chosen = np.concatenate([chosen, chosen[:, [0, 0]]])
        count = len(chosen)
        flip = rng.random(count) < config.flip
        # A third each of the dropped samples loses the pose, the source, or both: every guidance branch is trained.
        dropped = np.where(rng.random(count) < config.drop, rng.integers(3, size=count), -1)
        timestep = draw_timesteps(self.noise, count, rng)
        source, target = self._views(chosen, rng)
        sources, targets = source.shape[1], target.shape[1]
        rows, flips = source.flatten(), flip.repeat(sources)
        wanted, wanted_flips = target.flatten(), flip.repeat(targets)
        # A camera is forgotten as often as a condition is dropped, so that one that is not known can be asked for.
        forgotten, wanted_forgotten = (rng.random(len(of)) < config.drop for of in (rows, wanted))
        condition = Condition(
            source=self.encoded.pixels(rows, flips).unflatten(0, (count, sources)),
            source_pose=self._poses(rows, flips, forgotten),
            target_pose=self._poses(wanted, wanted_flips, wanted_forgotten),
            latents=self.encoded.latents(rows, flips).unflatten(0, (count, sources)),
        )
        seed = int(np.random.SeedSequence(key).generate_state(1, np.uint64)[0] >> 1)
        return PairBatch(
            target=self.encoded.latents(wanted, wanted_flips),
            condition=condition,
            keep_pose=send((dropped != 0) & (dropped != 2), self.device),
            keep_source=send((dropped != 1) & (dropped != 2), self.device),
            timestep=send(timestep.repeat(targets), self.device),
            generator=torch.Generator(self.device).manual_seed(seed),
            names=tuple(zip(self._names(source), self._names(target))),
        )

    def _names(self, rows: np.ndarray) -> list[tuple[str, ...]]:
        """The file names of rows [B, N], person by person."""
        return [tuple(self.names[row] for row in person) for person in rows]

    def _poses(self, rows: np.ndarray, flip: np.ndarray, forgotten: np.ndarray) -> PoseBatch:
        """The poses of ``rows``, mirrored where ``flip`` is true, without their camera where ``forgotten`` is."""
        poses = self.poses.at(rows).mirrored_where(torch.from_numpy(flip))
        return poses.unseen_where(torch.from_numpy(forgotten)).to(self.device)

    def _views(self, chosen: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """The rows of sources [B, S] and of targets [B, T] for pairs [B, 2]."""
        source, target = chosen[:, :1], chosen[:, 1:]
        if self.slots is None:
            return source, target
        targets = rng.integers(1, self.slots, endpoint=True)
        sources = rng.integers(1, max(self.slots - targets, 1), endpoint=True)
        drawn = rng.random((len(chosen), sources + targets - 2)) * self.count[source]
        others = self.by_person[self.first[source] + drawn.astype(np.int64)]
        return np.hstack([source, others[:, : sources - 1]]), np.hstack([target, others[:, sources - 1 :]])
