"""Small images of a few identities, and the smallest recipe that trains on them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch

from reid_aug.config import ReidConfig, build_config
from reid_aug.records import Mix, Sample, Samples


class ArrayImages:
    """Random pictures around one colour for each identity."""

    def __init__(self, samples: Samples, size=(32, 16), seed=0):
        rng = np.random.default_rng(seed)
        colours = np.random.default_rng(7).integers(0, 256, (1000, 3, 1, 1))
        noise = rng.integers(-40, 40, (len(samples), 3, *size))
        self.pixels = torch.from_numpy((colours[samples.pids] + noise).clip(0, 255).astype(np.uint8))

    def __len__(self):
        return len(self.pixels)

    def batch(self, indices):
        return self.pixels[torch.as_tensor(np.asarray(indices))]


def people(identities=6, images=5, first_pid=3) -> Samples:
    """Pids are not from 0 and leave gaps, as in a real data set."""
    pids = range(first_pid, first_pid + 5 * identities, 5)
    return Samples(
        Sample(Path(f"{pid:04d}_c{1 + image % 3}s1_{image:06d}_00.jpg"), pid, 1 + image % 3)
        for pid in pids
        for image in range(images)
    )


def tiny_config(**training) -> ReidConfig:
    training = {"iterations": 6, "identities": 3, "images": 4, "checkpoint_every": 2, **training}
    model = {"backbone": "test_resnet", "image_size": [32, 16]}
    return build_config(ReidConfig, {"model": model, "augmentation": {"pad": 2}, "training": training})


def four_real(iteration: int) -> Mix:
    """The schedule of training on real images alone."""
    return Mix(real=4)
