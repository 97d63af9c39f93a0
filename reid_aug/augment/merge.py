"""A subset and what was generated from it, as one data set for other re-ID libraries."""

from __future__ import annotations

from pathlib import Path

from reid_aug.augment.store import Store
from reid_aug.data.market1501 import Market1501
from reid_aug.data.write import write_market1501
from reid_aug.records import Samples


def write_merged(path: str | Path, market: Market1501, subset: Samples, store: Store | None = None) -> Market1501:
    """Write ``subset`` and the images of ``store`` beside the query and gallery of ``market``, and load it.

    Args:
        path: folder to make; written whole or not at all.
        market: whose query and gallery it gets.
        subset: real training images.
        store: images generated from ``subset``; those the filter rejected are left out. None writes the baseline's set.

    Raises:
        DataError: the store was made from other images than ``subset``.
        OutputError: ``path`` is not empty, or cannot be written.
    """
    train = subset
    if store is not None:
        store.check_origin(subset)
        train = subset + store.samples()
    return write_market1501(path, train, market.query, market.gallery)
