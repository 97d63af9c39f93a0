"""Sample sheets: what the generator makes of a few fixed pairs, written while it trains."""

from __future__ import annotations

from pathlib import Path

import torch
from torchvision.utils import make_grid, save_image

from reid_aug.files import replacing
from reid_aug.generators.batches import PairBatches
from reid_aug.generators.pipeline import PosePipeline
from reid_aug.pose.render import limb_picture
from reid_aug.records import Pose

ROWS = 8


class SampleSheet:
    """One picture a call: a row each of source, target pose, generated and real image for eight fixed pairs."""

    def __init__(self, batches: PairBatches, folder: Path):
        self.batches, self.folder = batches, folder
        chosen = torch.linspace(0, len(batches.pairs) - 1, ROWS).long().numpy()
        self.source, self.target = batches.pairs[chosen].T

    def write(self, pipe: PosePipeline, iteration: int) -> Path:
        """Generate the sheet of ``iteration`` with the pipeline's default sampling."""
        images = self.batches.images
        source, target = (images.batch(self.batches.positions[rows]) for rows in (self.source, self.target))
        made = pipe(
            source, self._poses(self.source), self._poses(self.target), seeds=range(len(source)), output_type="uint8"
        ).images
        size = tuple(source.shape[-2:])
        limbs = limb_picture(self.batches.poses.at(self.target), size)
        columns = [source, limbs, made, target]
        grid = make_grid(torch.stack(columns).flatten(0, 1), nrow=len(source), padding=2, pad_value=255)
        self.folder.mkdir(parents=True, exist_ok=True)
        path = self.folder / f"{iteration:07d}.png"
        with replacing(path) as temporary:
            save_image(grid.float() / 255, temporary, format="png")
        return path

    def _poses(self, rows) -> list[Pose]:
        return [self.batches.samples.poses[self.batches.names[row]] for row in rows]
