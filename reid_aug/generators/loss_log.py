"""The losses of a training run: read in groups, reported, and checked."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from reid_aug.errors import TrainingError

LOG_EVERY = 20  # iterations between reads of the loss, each of which waits for the accelerator

Progress = Callable[[int, float], None]


class LossLog:
    """Collects losses on the device, reads them in groups, and stops the run when one is not a number.

    Args:
        done: iterations behind the run already.
        names: of the files in the batch of an iteration, counted from 0, as an error lists them.
        report: called with (iterations done, mean loss since the last time).
        remedy: says what an error tells the user to do.
    """

    def __init__(self, done: int, names: Callable[[int], str], report: Progress, remedy: Callable[[], str]):
        self.first, self.names, self.report, self.remedy = done, names, report, remedy
        self.pending: list[Tensor] = []

    def add(self, loss: Tensor) -> None:
        """Note the loss of the next iteration."""
        self.pending.append(loss)

    def flush(self) -> None:
        """Read, check and report the losses since the last time.

        Raises:
            TrainingError: one of them is NaN or infinite.
        """
        if not self.pending:
            return
        values = torch.stack(self.pending).float().cpu()
        bad = (~values.isfinite()).nonzero()
        if len(bad):
            self.fail(self.first + int(bad[0]), f"the loss is {values[bad[0]].item()}")
        self.first += len(values)
        self.pending = []
        self.report(self.first, values.mean().item())

    def fail(self, iteration: int, what: str) -> None:
        """Stop the run for ``what`` went wrong in ``iteration``, counted from 0."""
        raise TrainingError(
            f"iteration {iteration + 1}: {what}. {self.remedy()} The batch was: {self.names(iteration)}"
        )
