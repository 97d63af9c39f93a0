"""P x K batches of real and generated images for torchreid, iteration by iteration as a schedule says."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

from reid_aug.errors import ConfigError
from reid_aug.records import Schedule

Item = tuple[str, int, int, int]  # torchreid's: path, pid, camera from 0, dsetid
REAL, SYNTHETIC = 0, 1  # the dsetid of a registered data set's images


class MixingSampler(Sampler[list[int]]):
    """A ``batch_sampler``: each batch holds P identities, and of each the images that the iteration's mix asks for.

    Images of an identity are drawn without replacement where it has enough. Where it has no generated image, real ones
    take their place. Batch i depends on the seed and i alone, so a run resumes anywhere (:meth:`set_epoch`).

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
        self._pools = [
            (np.flatnonzero((pids == pid) & ~synthetic), np.flatnonzero((pids == pid) & synthetic))
            for pid in np.unique(pids)
        ]
        if not 2 <= identities <= len(self._pools):
            raise ConfigError(
                f"identities={identities}: a batch can have from 2 to {len(self._pools)} identities, as many as the "
                "training set has. Pass a number in that range."
            )
        self.schedule, self.identities, self.batches, self.seed = schedule, identities, batches, seed
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
        mix = self.schedule(iteration)
        if mix.per_identity < 1:
            raise ConfigError(f"schedule: iteration {iteration} asks for no image. Set one of real, synthetic, either.")
        rng = np.random.default_rng([self.seed, iteration])
        batch: list[int] = []
        for identity in rng.choice(len(self._pools), self.identities, replace=False):
            real, synthetic = self._pools[identity]
            # One draw where real images stand in for generated ones, so that none is drawn twice needlessly.
            stand_in = 0 if len(synthetic) else mix.synthetic
            batch += _draw(rng, real, mix.real + stand_in)
            batch += _draw(rng, synthetic, mix.synthetic - stand_in)
            batch += _draw(rng, np.concatenate([real, synthetic]), mix.either)
        return batch


def _draw(rng: np.random.Generator, pool: np.ndarray, count: int) -> list[int]:
    return rng.choice(pool, count, replace=count > len(pool)).tolist() if count else []
