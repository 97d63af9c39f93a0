"""Training throughput beside torchreid's own engine: same machine, network, image size and batch."""

from __future__ import annotations

import contextlib
import io
import tempfile
import time
import uuid
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from PIL import Image

from reid_aug.config import ReidConfig, ReidModelConfig, ReidTrainingConfig
from reid_aug.data.images import Images
from reid_aug.records import Mix, Sample, Samples
from reid_aug.reid.training import train_reid
from reid_aug.torchreid_library import import_torchreid

_IDENTITIES, _IMAGES = 16, 4  # P and K
_WARMUP = 2  # iterations before the clock counts


def bench_training(
    iterations: int = 40, backbone: str = "osnet_x0_25", image_size: tuple[int, int] = (128, 64)
) -> dict[str, float | int | str]:
    """Images a second of :func:`train_reid` and of torchreid's ``ImageTripletEngine`` with its default four workers.

    Both train from scratch with cross-entropy and triplet loss on the same drawn JPEG files, P 16 x K 4, with flip,
    random crop and random erasing. The rate is by the median time between iterations. Ours has the images decoded
    already, as in a run after its first seconds; torchreid decodes each every time, which is how it works; its
    workers begin with some eight batches ahead, so a dozen iterations would flatter it.
    """
    with tempfile.TemporaryDirectory() as folder:
        train = _draw_images(Path(folder), iterations + _WARMUP, image_size)
        theirs = _torchreid(train, backbone, image_size)  # first, before ours has changed how memory is kept
        ours = _ours(train, iterations + _WARMUP, backbone, image_size)
    return {
        "network": backbone,
        "image_size": f"{image_size[0]}x{image_size[1]}",
        "batch": _IDENTITIES * _IMAGES,
        "threads": torch.get_num_threads(),
        "images_per_second": ours,
        "torchreid_images_per_second": theirs,
        "ratio": ours / theirs,
    }


def _draw_images(folder: Path, batches: int, size: tuple[int, int]) -> Samples:
    """One torchreid epoch of ``batches`` batches: smooth random pictures, as large in bytes as Market-1501's."""
    rng = np.random.default_rng(0)
    samples = []
    for number in range(batches * _IDENTITIES * _IMAGES):
        pid, camid = number // (batches * _IMAGES), number % 6 + 1
        path = folder / f"{pid:04d}_c{camid}s1_{number:06d}_00.jpg"
        coarse = Image.fromarray(rng.integers(0, 256, (size[0] // 8, size[1] // 8, 3), dtype=np.uint8))
        coarse.resize(size[::-1], Image.Resampling.BICUBIC).save(path, quality=90)
        samples.append(Sample(path, pid, camid))
    return Samples(samples)


def _ours(train: Samples, iterations: int, backbone: str, image_size: tuple[int, int]) -> float:
    config = ReidConfig(
        model=ReidModelConfig(backbone=backbone, image_size=image_size),
        training=ReidTrainingConfig(iterations=iterations, identities=_IDENTITIES, images=_IMAGES),
    )
    times: list[float] = []
    train_reid(
        train,
        Images(train, image_size),
        lambda _: Mix(real=_IMAGES),
        config,
        progress=lambda *_: times.append(time.perf_counter()),
    )
    return _rate(times)


def _torchreid(train: Samples, backbone: str, image_size: tuple[int, int]) -> float:
    torchreid = import_torchreid()
    name = f"reid_aug_bench_{uuid.uuid4().hex}"  # torchreid cannot unregister a data set
    rows = [(str(sample.path), sample.pid, sample.camid, 0) for sample in train]

    class Drawn(torchreid.data.ImageDataset):
        def __init__(self, root="", **kwargs):
            super().__init__(rows, rows, rows, **kwargs)

    with contextlib.redirect_stdout(io.StringIO()):  # its tables
        torchreid.data.register_image_dataset(name, Drawn)
        data = torchreid.data.ImageDataManager(
            sources=name,
            height=image_size[0],
            width=image_size[1],
            transforms=["random_flip", "random_crop", "random_erase"],
            batch_size_train=_IDENTITIES * _IMAGES,
            num_instances=_IMAGES,
            train_sampler="RandomIdentitySampler",
            use_gpu=torch.cuda.is_available(),
        )
        model = torchreid.models.build_model(backbone, data.num_train_pids, loss="triplet", pretrained=False)
        optimiser = torchreid.optim.build_optimizer(model, optim="adam", lr=3.5e-4)
        scheduler = torchreid.optim.build_lr_scheduler(optimiser)
        use_gpu = torch.cuda.is_available()
        model = model.cuda() if use_gpu else model
        engine = _timed(torchreid)(data, model, optimiser, scheduler=scheduler, use_gpu=use_gpu)
        engine.epoch, engine.max_epoch = 0, 1
        engine.train(print_freq=len(rows))
    return _rate(engine.times)


def _timed(torchreid) -> Callable:
    class TimedEngine(torchreid.engine.ImageTripletEngine):
        def forward_backward(self, data):
            losses = super().forward_backward(data)
            self.times = [*getattr(self, "times", []), time.perf_counter()]
            return losses

    return TimedEngine


def _rate(times: list[float]) -> float:
    return _IDENTITIES * _IMAGES / float(np.median(np.diff(times)[_WARMUP - 1 :]))
