"""P x K batches of real and generated images, as a pure function of the seed and the batch's number.

Of this package's trainer and of torchreid's engines alike.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from reid_aug.errors import ConfigError, DataError
from reid_aug.records import Mix

_IDENTITY_STREAM, _IMAGE_STREAM = 0, 1  # keep the two kinds of draws independent under one seed


@dataclass(frozen=True, eq=False)
class Batch:
    """Which images make up a batch of B.

    Attributes:
        indices: [B] int64, position in the generated set where ``synthetic``, else in the real set.
        synthetic: [B] bool.
        labels: [B] int64, 0..N-1 in the order of the real set's sorted pids.
    """

    indices: np.ndarray
    synthetic: np.ndarray
    labels: np.ndarray


class PKSampler:
    """Batches of P identities, each with the images a :class:`Mix` asks for.

    A pass visits the identities in a random order, ``ceil(N / P)`` batches long; where P does not divide N, the last
    batch is filled up from the beginning of the same order. Within an identity images are drawn without replacement;
    one with fewer images than asked for gives all of them and then repeats some. Batch number i depends on the seed
    and i alone, so training resumes anywhere.

    Args:
        real_pids: [M] pid of each real image; they define the labels.
        synthetic_pids: [S] pid of each generated image; every one must be a real pid too.
        identities: P.
        seed: of every draw.

    Raises:
        DataError: no or a single real identity; a generated image of an identity that has no real one.
        ConfigError: P is 1, or more than there are identities.
    """

    def __init__(self, real_pids: np.ndarray, synthetic_pids: np.ndarray, identities: int, seed: int):
        self.pids = np.unique(real_pids)
        self.identities = identities
        self.seed = seed
        if len(self.pids) < 2:
            raise DataError(
                f"training set: {len(real_pids)} images of {len(self.pids)} identity; re-ID training tells identities "
                "apart. Give it images of at least two."
            )
        if not 2 <= identities <= len(self.pids):
            raise ConfigError(
                f"identities={identities} (P; training.identities of a recipe): the training set has "
                f"{len(self.pids)} and a triplet needs 2. Set it between 2 and {len(self.pids)}."
            )
        unknown = np.setdiff1d(synthetic_pids, self.pids)
        if len(unknown):
            raise DataError(
                f"generated set: pid {unknown[0]} (and {len(unknown) - 1} more) has no real image in the training set, "
                "so it has no label. Generate from the subset that is trained on."
            )
        self._real = [np.flatnonzero(real_pids == pid) for pid in self.pids]
        self._synthetic = [np.flatnonzero(synthetic_pids == pid) for pid in self.pids]

    @property
    def num_classes(self) -> int:
        """N, the number of real identities."""
        return len(self.pids)

    @property
    def batches_per_pass(self) -> int:
        """Batches after which every identity has been visited."""
        return -(-self.num_classes // self.identities)

    def draw(self, iteration: int, mix: Mix) -> Batch:
        """Batch number ``iteration`` (from 0), of P x ``mix.per_identity`` images, an identity's beside each other.

        Raises:
            ConfigError: the mix asks for no image at all.
        """
        if mix.per_identity < 1:
            raise ConfigError(f"schedule: iteration {iteration} asks for no image. Set one of real, synthetic, either.")
        rng = np.random.default_rng([self.seed, _IMAGE_STREAM, iteration])
        labels = self._labels(iteration)
        drawn = [self._draw_identity(label, mix, rng) for label in labels]
        return Batch(
            indices=np.concatenate([indices for indices, _ in drawn]),
            synthetic=np.concatenate([synthetic for _, synthetic in drawn]),
            labels=np.repeat(labels, mix.per_identity),
        )

    def _labels(self, iteration: int) -> np.ndarray:
        number, position = divmod(iteration, self.batches_per_pass)
        order = np.random.default_rng([self.seed, _IDENTITY_STREAM, number]).permutation(self.num_classes)
        return np.resize(order, self.batches_per_pass * self.identities).reshape(-1, self.identities)[position]

    def _draw_identity(self, label: int, mix: Mix, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
        """``indices`` and ``synthetic`` of one identity's images."""
        real = rng.permutation(self._real[label])
        synthetic = rng.permutation(self._synthetic[label])
        asked_synthetic = mix.synthetic if len(synthetic) else 0
        asked_real = mix.real + mix.synthetic - asked_synthetic
        parts = [(_take(real, asked_real, rng), False), (_take(synthetic, asked_synthetic, rng), True)]
        if mix.either:
            # What the first two parts left over, so that no image comes twice while another is unused.
            left = np.concatenate([real[asked_real:], synthetic[asked_synthetic:]])
            of_synthetic = np.arange(len(left)) >= len(real[asked_real:])
            if len(left) == 0:
                left, of_synthetic = real, np.zeros(len(real), bool)
            chosen = _take(rng.permutation(len(left)), mix.either, rng)
            parts += [(left[[place]], of_synthetic[place]) for place in chosen]
        indices = np.concatenate([part for part, _ in parts])
        return indices, np.concatenate([np.full(len(part), mark) for part, mark in parts])


def iterations_per_epoch(pids: np.ndarray, identities: int, images: int) -> int:
    """Batches of P x K in one pass over the images, as the reference's sampler counts them (186 for Market-1501).

    An identity gives ``floor(n / K)`` groups of K images, and one where it has fewer than K.
    """
    counts = np.unique(pids, return_counts=True)[1]
    return math.ceil(np.maximum(counts // images, 1).sum() / identities)


def _take(shuffled: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """``count`` of ``shuffled``: the first ones, and random repeats where there are too few."""
    missing = count - len(shuffled)
    return shuffled[:count] if missing <= 0 else np.concatenate([shuffled, rng.choice(shuffled, missing)])
