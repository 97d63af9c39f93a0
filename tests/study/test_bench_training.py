"""The comparison runs both trainers, here by a clock of the test's own."""

from __future__ import annotations

from itertools import chain, count
from types import SimpleNamespace

import pytest

from reid_aug.study import bench_training as module
from reid_aug.study.bench_training import bench_training


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_both_trainers_run_and_the_ratio_is_theirs(monkeypatch):
    """By a clock that goes on by two seconds for an iteration of torchreid's, which come first, and by one for ours."""
    clock = chain(range(0, 2 * (2 + module._WARMUP), 2), count(1000))
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    facts = bench_training(iterations=2, image_size=(64, 32))
    assert (facts["images_per_second"], facts["torchreid_images_per_second"], facts["ratio"]) == (64, 32, 2)
    assert facts["batch"] == 64 and facts["network"] == "osnet_x0_25"
