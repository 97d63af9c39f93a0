"""Speed of the rooms that have no library to stand beside: images a second on this machine."""

from __future__ import annotations

import tempfile
import time

import torch

from reid_aug.data.images import Images
from reid_aug.data.toy import make_toy_market
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.warp import warp_parts


def bench_drawing(identities: int = 48) -> dict[str, float]:
    """Draw and write a toy Market-1501."""
    with tempfile.TemporaryDirectory() as folder:
        start = time.perf_counter()
        market = make_toy_market(folder, identities=identities)
        seconds = time.perf_counter() - start
    images = len(market.train) + len(market.query) + len(market.gallery)
    return {"images": images, "seconds": seconds, "images_per_second": images / seconds}


def bench_warp(batch_size: int = 128, batches: int = 5) -> dict[str, float]:
    """Warp random pairs of a drawn data set at 128x64; the first batch, which allocates, is not counted."""
    with tempfile.TemporaryDirectory() as folder:
        market = make_toy_market(folder, identities=16)
        images = Images(market.train)
        generator = torch.Generator().manual_seed(0)
        first, second = torch.randint(len(images), (2, batch_size), generator=generator)
        poses = PoseBatch.stack([market.train.poses[sample.name] for sample in market.train])
        pixels = images.batch(first).float() / 127.5 - 1
        with torch.inference_mode():
            for count in range(batches + 1):
                if count == 1:
                    start = time.perf_counter()
                warp_parts(pixels, poses.at(first), poses.at(second))
        seconds = time.perf_counter() - start
    return {"images": batch_size * batches, "seconds": seconds, "images_per_second": batch_size * batches / seconds}
