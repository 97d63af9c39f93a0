"""reid-aug: pose-guided diffusion augmentation for person re-identification.

    market = reid_aug.load_market1501(root)
    subset = reid_aug.take_fraction(market.train, 0.2, seed=0)
    pipe = reid_aug.load_generator("pidm_toy")
    store = reid_aug.augment(subset, pipe, out="runs/aug", per_identity=8, seed=0)
    config = reid_aug.ReidConfig(model={"backbone": "resnet50.tv_in1k", "weights": "imagenet"})  # BoT; downloads them
    result = reid_aug.train_reid(subset, store, schedule="fixed_ratio", config=config, eval_on=market)

Names are imported on first use, so that ``import reid_aug`` costs little.
"""

from importlib import import_module

__version__ = "0.1.0"

_HOME = {
    "AugmentConfig": "config",
    "Blend": "generators.tasks",
    "CopyAugmenter": "augment.training_free",
    "GeneratorConfig": "config",
    "Market1501": "data.market1501",
    "Pose": "records",
    "PoseTransfer": "augment.generate",
    "ReidAugError": "errors",
    "ReidConfig": "config",
    "Sample": "records",
    "Samples": "records",
    "ScheduleConfig": "config",
    "Store": "augment.store",
    "WarpAugmenter": "augment.training_free",
    "WarpInpainter": "augment.inpaint",
    "augment": "study.recipe",
    "load_config": "config",
    "load_generator": "generators.pipeline",
    "load_market1501": "data.market1501",
    "make_toy_market": "data.toy",
    "take_fraction": "data.subsets",
    "train_generator": "generators.training",
    "train_reid": "study.recipe",
}

__all__ = ["__version__", "integrations", *_HOME]

# The room `augment` and the function `augment` share their name. Importing the room binds it here, once; unbinding it
# leaves the name to __getattr__ below, while `from reid_aug.augment.store import ...` goes on working.
import_module("reid_aug.augment")
globals().pop("augment", None)


def __getattr__(name: str):
    if name == "integrations":
        return import_module("reid_aug.integrations")
    if name not in _HOME:
        raise AttributeError(f"module 'reid_aug' has no attribute {name!r}")
    return getattr(import_module(f"reid_aug.{_HOME[name]}"), name)


def __dir__() -> list[str]:
    return sorted(__all__)
