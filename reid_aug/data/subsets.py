"""Fractions of a training set: seeded, nested, with every identity."""

from __future__ import annotations

import hashlib
import warnings

from reid_aug.errors import ConfigError
from reid_aug.records import Samples


def take_fraction(samples: Samples, fraction: float, seed: int) -> Samples:
    """A random subset of ``max(round(fraction * N), identities)`` images, in the order of ``samples``.

    For one seed the subsets are nested (20 % inside 40 %) and each holds at least one image of every identity. Images
    are ranked by a hash of seed and file name, so the list is the same on every machine and with every library
    version, and does not depend on the order of ``samples``. Where one image of each identity is more than the
    fraction, a warning gives both counts.

    Raises:
        ConfigError: a fraction outside (0, 1].
    """
    if not 0 < fraction <= 1:  # also true for NaN
        raise ConfigError(f"fraction: {fraction} is outside (0, 1]. Use e.g. 0.2 for a fifth of the images.")

    def rank(index: int) -> bytes:
        return hashlib.sha256(f"{seed}/{samples[index].name}".encode()).digest()

    ranked = sorted(range(len(samples)), key=rank)
    first_of_identity: dict[int, int] = {}
    for index in ranked:
        first_of_identity.setdefault(samples[index].pid, index)
    firsts = list(first_of_identity.values())
    rest = [index for index in ranked if first_of_identity[samples[index].pid] != index]
    size = round(fraction * len(samples))
    if size < len(firsts):
        warnings.warn(
            f"fraction: {fraction:g} of {len(samples)} images are {size}, but {len(firsts)} identities need one each: "
            f"{len(firsts)} are taken.",
            stacklevel=2,
        )
    return samples.at(sorted((firsts + rest)[: max(size, len(firsts))]))
