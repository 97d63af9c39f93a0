"""Held-out training identities: what is tuned is tuned on these, never on query and gallery."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from reid_aug.data.market1501 import Market1501
from reid_aug.data.write import write_market1501
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


def make_holdout_market(train: Samples, path: str | Path, share: float = 0.2, seed: int = 0) -> Market1501:
    """Write the training identities as a data set of their own, split by :func:`split_holdout`, and load it.

    Whatever takes a data set can be tuned on it, a whole study too. Images, key points and part maps are copied; the
    gallery has no distractors, so scores are higher than on the real one.

    Args:
        train: a training set, with its poses.
        path: folder to make, in Market-1501's form; written whole or not at all.
        share: of the identities that become query and gallery.
        seed: of the split.

    Raises:
        ConfigError, DataError: as :func:`split_holdout`.
        OutputError: ``path`` is not empty, or cannot be written.
    """
    split = split_holdout(train, share, seed)
    return write_market1501(path, split.fit, split.query, split.gallery)
