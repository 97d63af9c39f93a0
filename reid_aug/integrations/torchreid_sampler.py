"""P x K batches of real and generated images for torchreid, iteration by iteration as a schedule says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from reid_aug.records import Schedule
from reid_aug.sampler import PKSampler

Item = tuple[str, int, int, int]  # torchreid's: path, pid, camera from 0, dsetid
REAL, SYNTHETIC = 0, 1  # the dsetid of a registered data set's images


class MixingSampler(Sampler[list[int]]):
    """The batches of :class:`~reid_aug.sampler.PKSampler` as a ``batch_sampler`` of torch's DataLoader.

    Batch i depends on the seed and i alone, so a run resumes anywhere (:meth:`set_epoch`).

    Args:
        items: torchreid's training tuples; generated ones have dsetid 1.
        schedule: iteration, counted from 0 over all epochs -> ``Mix``.
        identities: P, at least 2.
        batches: batches of an epoch.
        seed: of the draws.

    Raises:
        ConfigError: fewer than ``identities`` identities, or fewer than two asked for.
    """

    def __init__(self, items: Sequence[Item], schedule: Schedule, identities: int, batches: int, seed: int = 0):
        pids = np.array([pid for _, pid, _, _ in items])
        synthetic = np.array([dsetid == SYNTHETIC for *_, dsetid in items])
        self._real, self._synthetic = np.flatnonzero(~synthetic), np.flatnonzero(synthetic)
        self._sampler = PKSampler(pids[self._real], pids[self._synthetic], identities, seed)
        self.schedule, self.batches = schedule, batches
        self._epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Let the next pass be that of ``epoch`` (from 0); without a call passes follow each other."""
        self._epoch = epoch

    def __len__(self) -> int:
        return self.batches

    def __iter__(self) -> Iterator[list[int]]:
        first = self._epoch * self.batches
        self._epoch += 1
        return (self.batch(iteration) for iteration in range(first, first + self.batches))

    def batch(self, iteration: int) -> list[int]:
        """Positions in ``items`` of the P x K images of ``iteration``, identity by identity."""
        drawn = self._sampler.draw(iteration, self.schedule(iteration))
        positions = np.empty_like(drawn.indices)
        positions[~drawn.synthetic] = self._real[drawn.indices[~drawn.synthetic]]
        positions[drawn.synthetic] = self._synthetic[drawn.indices[drawn.synthetic]]
        return positions.tolist()
