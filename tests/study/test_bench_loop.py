from __future__ import annotations

import pytest
import tiny_configs

from reid_aug.config import GeneratorConfig, build_config
from reid_aug.data.images import Images
from reid_aug.data.pairs import make_pairs
from reid_aug.data.subsets import take_fraction
from reid_aug.study.bench_loop import bench_loop


def test_the_share_is_of_the_two_speeds(toy_market):
    subset = take_fraction(toy_market.train, 0.5, seed=0)
    config = build_config(GeneratorConfig, tiny_configs.GENERATOR)
    facts = bench_loop(subset, Images(subset, tiny_configs.SIZE), make_pairs(subset), config)
    assert (facts["system"], facts["batch"], facts["precision"]) == ("pidm", 2, "no")
    assert facts["images_per_second"] > 0
    assert facts["share"] == pytest.approx(facts["images_per_second"] / facts["forward_backward_images_per_second"])
