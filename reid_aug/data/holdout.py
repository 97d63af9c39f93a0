"""Held-out training identities: what is tuned is tuned on these, never on query and gallery."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from reid_aug.errors import ConfigError, DataError
from reid_aug.records import Samples


@dataclass(frozen=True, eq=False)
class Holdout:
    """A training set split by identity.

    Attributes:
        fit: images to train on.
        query: one image of each camera of each held-out identity.
        gallery: the other images of the held-out identities.
    """

    fit: Samples
    query: Samples
    gallery: Samples


def split_holdout(train: Samples, share: float, seed: int) -> Holdout:
    """Hold out ``share`` of the identities, drawn by ``seed`` from those that can be scored.

    An identity can be scored when two of its cameras have two images each: one is then a query of its camera, and the
    other a match for the other camera's query.

    Raises:
        ConfigError: a share outside (0, 1).
        DataError: too few identities for one to be held out and two to be left to train on.
    """
    if not 0 < share < 1:
        raise ConfigError(f"share: {share} is outside (0, 1). Use e.g. 0.2 for a fifth of the identities.")
    pids, camids = train.pids, train.camids
    views, images = np.unique(np.stack([pids, camids], axis=1), axis=0, return_counts=True)
    scorable, cameras = np.unique(views[images >= 2, 0], return_counts=True)
    scorable = scorable[cameras >= 2]
    identities = len(np.unique(pids))
    count = max(1, round(share * identities))
    if len(scorable) < count or identities - count < 2:
        raise DataError(
            f"training set: {count} of its {identities} identities cannot be held out; {len(scorable)} have two images "
            "in each of two cameras, and two must be left to train on. Lower the share, or use more images."
        )
    rng = np.random.default_rng(seed)
    held_out = np.isin(pids, rng.permutation(scorable)[:count])
    shuffled = rng.permutation(np.flatnonzero(held_out))
    _, first = np.unique(np.stack([pids, camids], axis=1)[shuffled], axis=0, return_index=True)
    query = np.sort(shuffled[first])
    gallery = np.setdiff1d(shuffled, query)
    return Holdout(train.at(np.flatnonzero(~held_out)), train.at(query), train.at(gallery))
