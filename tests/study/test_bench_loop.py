from __future__ import annotations

from itertools import count
from types import SimpleNamespace

import tiny_configs

from reid_aug.config import GeneratorConfig, build_config
from reid_aug.data.images import Images
from reid_aug.data.pairs import make_pairs
from reid_aug.data.subsets import take_fraction
from reid_aug.generators.loss_log import LOG_EVERY
from reid_aug.study import bench_loop as module
from reid_aug.study.bench_loop import bench_loop


def test_the_share_is_of_the_two_speeds(toy_market, monkeypatch):
    """By a clock that goes on by a second at every look."""
    clock = count()
    monkeypatch.setattr(module, "time", SimpleNamespace(perf_counter=lambda: next(clock)))
    subset = take_fraction(toy_market.train, 0.5, seed=0)
    config = build_config(GeneratorConfig, tiny_configs.GENERATOR)
    facts = bench_loop(subset, Images(subset, tiny_configs.SIZE), make_pairs(subset), config)
    assert (facts["system"], facts["batch"], facts["precision"]) == ("pidm", 2, "no")
    # Of the loop's two groups of iterations each ends with a look; of the bare steps there are as many in one second.
    assert facts["images_per_second"] == 2 * LOG_EVERY
    assert facts["forward_backward_images_per_second"] == 2 * 2 * LOG_EVERY
    assert facts["share"] == 0.5
