"""torchreid's view of a real and a generated set; imported only once torchreid is known to be there."""

from __future__ import annotations

from typing import ClassVar

from reid_aug.errors import ConfigError
from reid_aug.integrations.torchreid_sampler import SYNTHETIC, Item
from reid_aug.torchreid_library import import_torchreid

torchreid = import_torchreid()


class AugmentedMarket(torchreid.data.ImageDataset):
    """What :func:`reid_aug.integrations.torchreid.register` registers. At module level, so that loader workers can be
    spawned as well as forked.

    Args:
        train, query, gallery: torchreid's tuples.
        market1501_500k: torchreid's option for its own Market1501; there are no such images here.
        **options: what else the data manager passes: transform, mode, combineall, and settings of other data sets.
    """

    # Distractors and bad detections are no identities when `combineall` adds the gallery.
    _junk_pids: ClassVar[list[int]] = [0, -1]

    def __init__(
        self, train: list[Item], query: list[Item], gallery: list[Item], market1501_500k: bool = False, **options
    ):
        if market1501_500k:
            raise ConfigError(
                "market1501_500k=True: a registered data set has no 500k distractors. Evaluate on torchreid's own "
                'market1501 with targets="market1501".'
            )
        super().__init__(train, query, gallery, **options)

    def show_summary(self) -> None:
        super().show_summary()
        synthetic = sum(dsetid == SYNTHETIC for *_, dsetid in self.train)
        print(f"  of the train images {synthetic} are generated and {len(self.train) - synthetic} are real")
