"""A generator in training: its optimiser, moving average and state, on accelerate."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from diffusers.optimization import get_scheduler
from diffusers.training_utils import EMAModel
from torch import Tensor, nn

from reid_aug.config import GeneratorConfig
from reid_aug.generators.autoencoder import Codec
from reid_aug.generators.batches import PairBatch, PairBatches
from reid_aug.generators.condition import Condition
from reid_aug.generators.objective import Objective
from reid_aug.generators.pipeline import PosePipeline


class TrainingStep(nn.Module):
    """Encoder, denoiser and loss as one module, so that data parallelism and compilation see a whole step.

    A denoiser with a loss term of its own has ``penalised``, which is ``forward`` returning (prediction, term [B]).
    """

    def __init__(self, denoiser: nn.Module, codec: Codec, objective: Objective):
        super().__init__()
        self.denoiser, self.codec, self.objective = denoiser, codec, objective

    def forward(
        self,
        clean: Tensor,
        noise: Tensor,
        timestep: Tensor,
        condition: Condition,
        keep_pose: Tensor,
        keep_source: Tensor,
    ) -> Tensor:
        """Loss of every sample, [B], for clean latents and noise [B, C, h, w]."""
        encoded = self.denoiser.encode(condition, self.codec).kept(keep_pose, keep_source)
        noisy = self.objective.add_noise(clean, noise, timestep)
        if not hasattr(self.denoiser, "penalised"):
            return self.objective.loss(self.denoiser(noisy, timestep, encoded), clean, noise, timestep)
        prediction, penalty = self.denoiser.penalised(noisy, timestep, encoded)
        return self.objective.loss(prediction, clean, noise, timestep) + penalty


class Learner:
    """Steps the denoiser of a pipeline; everything it needs to go on after a kill is in its ``state``.

    Args:
        pipe: its denoiser is trained in place, its codec is moved along.
        config: of the run.
        accelerator: of the run.
    """

    def __init__(self, pipe: PosePipeline, config: GeneratorConfig, accelerator: Accelerator):
        loop = config.training
        self.config, self.accelerator, self.denoiser = config, accelerator, pipe.denoiser
        # A pretrained part may be frozen.
        self.trained = [parameter for parameter in pipe.denoiser.parameters() if parameter.requires_grad]
        on_cuda = accelerator.device.type == "cuda"  # where an operation on all weights at once is worth having
        self.ema = EMAModel(self.trained, decay=loop.ema_decay, foreach=on_cuda)
        step = TrainingStep(pipe.denoiser, pipe.codec, Objective(config.noise, config.model.learned_variance))
        optimiser = torch.optim.AdamW(self.trained, loop.learning_rate, weight_decay=loop.weight_decay, fused=on_cuda)
        step, self.optimiser = accelerator.prepare(step, optimiser)
        self.run = torch.compile(step) if loop.compile else step
        self.state = {"denoiser": pipe.denoiser, "codec": pipe.codec, "optimiser": self.optimiser, "ema": self.ema}
        if accelerator.scaler is not None:
            self.state["scaler"] = accelerator.scaler

    def start(self, done: int) -> None:
        """Begin or go on with ``done`` iterations behind, once ``state`` is as they left it."""
        loop = self.config.training
        self.ema.to(self.accelerator.device)  # loading leaves it on the CPU
        for group in self.optimiser.param_groups:
            group["initial_lr"] = loop.learning_rate  # a resumed run may go on at another rate
        self.rate = get_scheduler(
            "constant_with_warmup" if loop.schedule == "constant" else "cosine",
            self.optimiser,
            num_warmup_steps=loop.warmup,
            num_training_steps=loop.iterations,
            last_epoch=done - 1,
        )
        self.denoiser.train()

    def step(self, batches: PairBatches, iteration: int) -> Tensor:
        """One optimiser step over the accumulated batches; returns its mean loss, still on the device."""
        loop, total = self.config.training, 0.0
        for part in range(loop.accumulation):
            batch = batches.at(iteration, part)
            torch.manual_seed(batch.generator.initial_seed())  # for dropout
            with self.accelerator.accumulate(self.run), self.accelerator.autocast():
                loss = self.run(*step_inputs(batch)).mean()
                self.accelerator.backward(loss)
                if self.accelerator.sync_gradients:
                    self.accelerator.clip_grad_norm_(self.trained, loop.gradient_clip)
                self.optimiser.step()
                self.optimiser.zero_grad(set_to_none=True)
            total = total + loss.detach() / loop.accumulation
        self.rate.step()
        self.ema.step(self.trained)
        return total

    @property
    def learning_rate(self) -> float:
        """Of the next step."""
        return self.rate.get_last_lr()[0]

    def is_finite(self) -> bool:
        """Whether all weights are numbers: a finite loss may have had a gradient that is none."""
        return bool(torch.stack([parameter.detach().isfinite().all() for parameter in self.trained]).all())

    @contextmanager
    def averaged(self) -> Iterator[None]:
        """The denoiser in evaluation mode with its averaged weights; put back as it was afterwards."""
        self.ema.store(self.trained)
        self.finish()
        try:
            yield
        finally:
            self.ema.restore(self.trained)
            self.denoiser.train()

    def finish(self) -> None:
        """Leave the averaged weights in the denoiser, in evaluation mode."""
        self.ema.copy_to(self.trained)
        self.denoiser.eval()


def step_inputs(batch: PairBatch) -> tuple:
    """The arguments of :class:`TrainingStep` for a batch."""
    noise = torch.randn(batch.target.shape, generator=batch.generator, device=batch.target.device)
    return batch.target, noise, batch.timestep, batch.condition, batch.keep_pose, batch.keep_source
