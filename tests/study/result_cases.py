"""Made-up results of a study."""

from __future__ import annotations

from reid_aug.study.results import Result


def result(arm="standard", seed=0, rank1=50.0, mean_ap=30.0, **changes):
    values = {
        "data_set": "toy",
        "fraction": 0.2,
        "arm": arm,
        "generator": None if arm == "standard" else "pidm_toy",
        "schedule": "none",
        "seed": seed,
        "iterations": 100,
        "backbone": "osnet_x0_25",
        "start": "scratch",
        "image_size": (128, 64),
        "rank1": rank1,
        "rank5": 80.0,
        "rank10": 90.0,
        "mAP": mean_ap,
        "mINP": 10.0,
        "seconds": 12.5,
        "real_images": 40,
        "synthetic_images": 0,
        "versions": {"torch": "2.0", "python": "3.11"},
    }
    return Result(**{**values, **changes})
