"""The comparison runs both trainers; its numbers are read by people, so only their kind is checked."""

from __future__ import annotations

import pytest

from reid_aug.study.bench_training import bench_training


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore:This DataLoader will create")
def test_both_trainers_run_and_the_ratio_is_theirs():
    facts = bench_training(iterations=2, image_size=(64, 32))
    assert facts["images_per_second"] > 0 and facts["torchreid_images_per_second"] > 0
    assert facts["ratio"] == facts["images_per_second"] / facts["torchreid_images_per_second"]
    assert facts["batch"] == 64 and facts["network"] == "osnet_x0_25"
