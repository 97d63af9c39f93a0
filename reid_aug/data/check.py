"""What is in a data set, and what is wrong with it: the facts behind ``reid-aug data check``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np

from reid_aug.data.images import find_undecodable
from reid_aug.data.market1501 import DISTRACTOR_PID, JUNK_PID, list_splits, read_poses
from reid_aug.data.pairs import usable_in_pairs
from reid_aug.records import Pose, Sample, Samples

if TYPE_CHECKING:
    from rich.console import Group

LISTED = 5  # pids and undecodable files that a table names; the report has all of them


@dataclass(frozen=True)
class SplitReport:
    """One folder of a data set.

    Attributes:
        images: files that count in the protocol: all but junk.
        identities: people, without distractors.
        cameras: numbers of the cameras, ascending.
        images_per_identity: least, median and most.
        posed: images with at least one visible joint; the other ``images - posed`` have no pose.
        distractors: images of pid 0, part of ``images``.
        junk: images of pid -1, dropped at load.
    """

    images: int
    identities: int
    cameras: tuple[int, ...]
    images_per_identity: tuple[int, float, int]
    posed: int
    distractors: int
    junk: int

    @property
    def without_pose(self) -> int:
        """Images without a row in the key-point files, or with no visible joint in it."""
        return self.images - self.posed


@dataclass(frozen=True)
class MarketReport:
    """A data set as :func:`check_market1501` found it.

    Attributes:
        root: its folder.
        train, query, gallery: its splits.
        pairs: ordered training pairs, see :func:`~reid_aug.data.pairs.make_pairs`.
        identities_without_pair: pids of training identities with fewer than two images that show the torso.
        identities_in_train_and_test: pids that leak from one to the other; none in a sound data set.
        queries_without_match: queries whose person no other camera of the gallery shows; the protocol skips them.
        undecodable: image files of any split that cannot be decoded.
    """

    root: Path
    train: SplitReport
    query: SplitReport
    gallery: SplitReport
    pairs: int
    identities_without_pair: tuple[int, ...]
    identities_in_train_and_test: tuple[int, ...]
    queries_without_match: int
    undecodable: tuple[Path, ...]

    def table(self) -> Group:
        """For a terminal: the splits side by side, and below them what concerns the whole data set."""
        from rich.console import Group
        from rich.table import Table
        from rich.text import Text

        splits = {"train": self.train, "query": self.query, "gallery": self.gallery}
        drawn = Table("")
        for name in splits:
            drawn.add_column(name, justify="right")

        def add(heading: str, value: Callable[[SplitReport], str]) -> None:
            drawn.add_row(heading, *(value(split) for split in splits.values()))

        add("images", lambda split: f"{split.images:,}")
        add("identities", lambda split: f"{split.identities:,}")
        add("cameras", lambda split: " ".join(map(str, split.cameras)))
        add("least images of an identity", lambda split: f"{split.images_per_identity[0]:,}")
        add("median", lambda split: f"{split.images_per_identity[1]:g}")
        add("most", lambda split: f"{split.images_per_identity[2]:,}")
        add("with a pose", lambda split: f"{split.posed:,}")
        add("without a pose", lambda split: f"{split.without_pose:,}")
        add("distractors (pid 0)", lambda split: f"{split.distractors:,}")
        add("junk (pid -1), dropped", lambda split: f"{split.junk:,}")
        return Group(Text(str(self.root)), drawn, Text("\n".join(self._facts()), overflow="fold"))

    def _facts(self) -> list[str]:
        unposed = "no training image has key points: put a key-point file there, or make one by reid-aug pose extract"
        facts = [
            *([] if self.train.posed else [unposed]),
            f"training pairs: {self.pairs:,}",
            f"training identities without a pair: {_some(self.identities_without_pair)}",
            f"identities in both training and test: {_some(self.identities_in_train_and_test)}",
            f"queries without a match from another camera: {self.queries_without_match:,}",
            f"undecodable images: {len(self.undecodable):,}",
            *(f"  {path}" for path in self.undecodable[:LISTED]),
        ]
        if len(self.undecodable) > LISTED:
            facts.append(f"  and {len(self.undecodable) - LISTED:,} more")
        if self.undecodable:
            facts.append("Replace them, or leave them out (--skip-bad).")
        return facts


def check_market1501(root: str | Path, keypoints: str | Path | Sequence[str | Path] | None = None) -> MarketReport:
    """Read everything in a data set once, every image included, and count it.

    Args:
        root, keypoints: as for :func:`~reid_aug.data.market1501.load_market1501`.

    Raises:
        DataError: what keeps the data set from being loaded: a folder or key-point file that is missing, empty or
            not in its form. Undecodable images do not; they are in the report.
    """
    root = Path(root)
    splits = list_splits(root)
    poses = read_poses(root, keypoints)
    undecodable = find_undecodable([sample for samples in splits.values() for sample in samples])
    train, query, gallery = (_people(splits[split]) for split in ("train", "query", "gallery"))
    pairs, unpaired = _count_pairs(Samples(train, poses))
    tested = {sample.pid for sample in query + gallery}
    return MarketReport(
        root=root,
        **{split: _report(samples, poses) for split, samples in splits.items()},
        pairs=pairs,
        identities_without_pair=unpaired,
        identities_in_train_and_test=tuple(sorted(tested & {sample.pid for sample in train})),
        queries_without_match=_count_unmatched(query, gallery),
        undecodable=tuple(undecodable),
    )


def _people(samples: Sequence[Sample]) -> list[Sample]:
    return [sample for sample in samples if sample.pid not in (JUNK_PID, DISTRACTOR_PID)]


def _report(samples: Sequence[Sample], poses: Mapping[str, Pose]) -> SplitReport:
    kept = [sample for sample in samples if sample.pid != JUNK_PID]
    per_identity = Counter(sample.pid for sample in _people(samples))
    counts = list(per_identity.values()) or [0]  # a gallery may hold distractors alone
    return SplitReport(
        images=len(kept),
        identities=len(per_identity),
        cameras=tuple(sorted({sample.camid for sample in kept})),
        images_per_identity=(min(counts), float(np.median(counts)), max(counts)),
        posed=sum(sample.name in poses and bool(poses[sample.name].visible.any()) for sample in kept),
        distractors=sum(sample.pid == DISTRACTOR_PID for sample in kept),
        junk=len(samples) - len(kept),
    )


def _count_pairs(people: Samples) -> tuple[int, tuple[int, ...]]:
    """Ordered pairs, and the pids without one: n usable images of an identity make n (n - 1) pairs."""
    identities, identity = np.unique(people.pids, return_inverse=True)
    usable = np.bincount(identity[usable_in_pairs(people)], minlength=len(identities))
    return int((usable * (usable - 1)).sum()), tuple(identities[usable < 2].tolist())


def _count_unmatched(query: Sequence[Sample], gallery: Sequence[Sample]) -> int:
    cameras: dict[int, set[int]] = {}
    for sample in gallery:
        cameras.setdefault(sample.pid, set()).add(sample.camid)
    return sum(not cameras.get(sample.pid, set()) - {sample.camid} for sample in query)


def _some(pids: Sequence[int]) -> str:
    """How many, and the first few."""
    named = [str(pid) for pid in pids[:LISTED]] + ["..."] * (len(pids) > LISTED)
    return f"{len(pids):,} (pid {', '.join(named)})" if pids else "0"
