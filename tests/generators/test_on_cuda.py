"""Generators on a CUDA device, without one: PyTorch's fake tensors have a device, a shape and a type, but no values.

With them an operation on tensors of two devices raises, and so does one that has to wait for the device's values. A
copy to the device that waits until that has done all its work is found by how it is asked for.
"""

from __future__ import annotations

import pytest
import torch
from generator_cases import SYSTEMS, config, system_pipe, training_set
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from reid_aug.generators.batches import PairBatches
from reid_aug.generators.learner import TrainingStep, step_inputs
from reid_aug.generators.objective import Objective


class CpuGenerator(torch.Generator):
    """Without a driver there is no generator of another device."""

    def __new__(cls, device=None):
        return super().__new__(cls)


class NoBlockingCopies(TorchDispatchMode):
    """Raises at a copy from the CPU that is not ``non_blocking``."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        kwargs = kwargs or {}
        if function is torch.ops.aten._to_copy.default and args[0].device.type == "cpu":
            to = torch.device(kwargs.get("device") or "cpu")
            assert to.type == "cpu" or kwargs.get("non_blocking"), f"{list(args[0].shape)} {args[0].dtype} waits"
        return function(*args, **kwargs)


@pytest.mark.parametrize("name", SYSTEMS)
def test_a_batch_and_its_loss_wait_for_nothing(name, monkeypatch):
    monkeypatch.setattr(torch, "Generator", CpuGenerator)
    pipe, settings = system_pipe(name), config()
    samples, images, pairs = training_set()
    with FakeTensorMode(allow_non_fake_inputs=True):
        step = TrainingStep(pipe.denoiser, pipe.codec, Objective(settings.noise)).to("cuda")
        slots = getattr(pipe.denoiser, "slots", None)
        made = PairBatches(samples, images, pairs, settings.training, settings.noise, pipe.codec, slots=slots)
        made.encoded.kept = torch.empty(2, len(samples), 16, 8, 4, dtype=torch.float16, device="cuda")
        with NoBlockingCopies():
            batch = made.at(0)
            loss = step(*step_inputs(batch))
    assert (loss.device.type, loss.dtype, loss.shape) == ("cuda", torch.float32, batch.timestep.shape)
