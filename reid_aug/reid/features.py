"""Features of any list of images."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from reid_aug.records import ImageSource
from reid_aug.reid.memory import keep_freed_memory
from reid_aug.reid.model import ReidModel
from reid_aug.reid.transforms import normalise, resize


def extract_features(
    model: ReidModel,
    images: ImageSource,
    batch_size: int = 128,
    device: str | torch.device | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tensor:
    """Features after the neck, L2-normalised, of every image in order; no test-time flip, as in the reference.

    Args:
        model: moved to ``device``; its training mode is as before when this returns.
        images: of any size, resized to the model's on the device.
        batch_size: images at once; it changes the speed, not the features.
        device: None is where the model is.
        progress: called after every batch with the images done and all.

    Returns:
        float32 [N, D] on the CPU.
    """
    device = next(model.parameters()).device if device is None else torch.device(device)
    if device.type == "cpu":
        keep_freed_memory()
    training = model.training
    model.to(device, memory_format=torch.channels_last).eval()  # in inference mode this would end its training
    features = torch.empty(len(images), model.dimension)
    try:
        with torch.inference_mode():
            for start in range(0, len(images), batch_size):
                indices = np.arange(start, min(start + batch_size, len(images)))
                batch = resize(images.batch(indices).to(device), model.config.image_size)
                features[start : start + len(indices)] = F.normalize(model(normalise(batch)).float()).cpu()
                if progress is not None:
                    progress(start + len(indices), len(images))
    finally:
        model.train(training)
    return features
