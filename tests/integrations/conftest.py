"""Fixtures of the integrations' tests: a tiny data set, a generated set of it, and torchreid's data manager of both."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
from tiny_market import TRAIN_PIDS, write_market, write_store

from reid_aug.augment.store import Store


@pytest.fixture
def market(tmp_path: Path) -> Path:
    return write_market(tmp_path / "market")


@pytest.fixture
def sources(market: Path) -> list[str]:
    """The real training images of all identities but the last, which gets no generated image."""
    names = sorted(path.name for path in (market / "bounding_box_train").iterdir())
    return [name for name in names if int(name[:4]) != TRAIN_PIDS[-1]]


@pytest.fixture
def store(tmp_path: Path, sources: list[str]) -> Store:
    """24 images: 8 kept, 8 rejected, 8 not filtered."""
    return write_store(tmp_path / "store", sources, ("keep", "reject", "unfiltered"))


@pytest.fixture
def datamanager(tmp_path: Path, market: Path, store: Store) -> Callable:
    """A function that registers the two under a name of this test's own and returns torchreid's data manager."""
    from reid_aug.integrations.torchreid import register
    from reid_aug.torchreid_library import import_torchreid

    def make(**options):
        torchreid = import_torchreid()
        name = register(f"aug_{tmp_path.name}", market, store)
        defaults = {"height": 32, "width": 16, "batch_size_train": 8, "batch_size_test": 50, "workers": 0}
        return torchreid.data.ImageDataManager(sources=name, **{**defaults, **options})

    return make
