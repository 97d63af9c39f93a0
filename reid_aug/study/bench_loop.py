"""Speed of a generator's training loop beside that of its bare step: what batches, optimiser and averaging cost."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Sequence

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState

from reid_aug.config import GeneratorConfig
from reid_aug.generators.learner import Learner, step_inputs
from reid_aug.generators.loss_log import LOG_EVERY
from reid_aug.generators.training import assemble, train_generator
from reid_aug.records import ImageSource, Samples

_MEASURED = 2 * LOG_EVERY  # iterations, after as many as the loop takes to its first look at the loss


def bench_loop(
    samples: Samples, images: ImageSource, pairs: Sequence[tuple[str, str]], config: GeneratorConfig
) -> dict[str, float | int | str]:
    """Images a second of :func:`train_generator`, and of forward and backward on the same batches, made beforehand.

    Both run for the same iterations after a warm-up that has compilation in it. ``share`` is the first over the second.
    """
    total = LOG_EVERY + _MEASURED
    loop = config.training.model_copy(
        update={"iterations": total, "checkpoint_every": total, "sample_every": total + 1, "schedule": "constant"}
    )
    config = config.model_copy(update={"training": loop})
    looks: dict[int, float] = {}  # at which the accelerator had done all that it was given

    def look(done: int, loss: float) -> None:
        looks[done] = time.perf_counter()

    with tempfile.TemporaryDirectory() as folder:
        train_generator(samples, images, pairs, config, folder, progress=look)
    in_loop = loop.batch_size * loop.accumulation * _MEASURED / (looks[total] - looks[LOG_EVERY])
    bare = loop.batch_size / _seconds_of_a_step(samples, images, pairs, config)
    return {
        "system": config.model.system,
        "batch": loop.batch_size,
        "precision": loop.precision,
        "images_per_second": in_loop,
        "forward_backward_images_per_second": bare,
        "share": in_loop / bare,
    }


def _seconds_of_a_step(
    samples: Samples, images: ImageSource, pairs: Sequence[tuple[str, str]], config: GeneratorConfig
) -> float:
    AcceleratorState._reset_state()
    accelerator = Accelerator(mixed_precision=config.training.precision)
    pipe, batches = assemble(samples, images, pairs, config, accelerator)
    learner = Learner(pipe, config, accelerator)
    learner.start(0)
    batches.encode_images(None)
    inputs = [step_inputs(batches.at(iteration)) for iteration in range(LOG_EVERY + _MEASURED)]
    for iteration, given in enumerate(inputs):
        if iteration == LOG_EVERY:
            _wait(accelerator.device)
            start = time.perf_counter()
        with accelerator.autocast():
            accelerator.backward(learner.run(*given).mean())
        learner.optimiser.zero_grad(set_to_none=True)
    _wait(accelerator.device)
    return (time.perf_counter() - start) / _MEASURED


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize(device)
