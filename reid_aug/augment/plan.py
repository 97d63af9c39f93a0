"""The plan of a generated set: which source, which target pose and which seed make each image."""

from __future__ import annotations

import re
import warnings
from collections import defaultdict
from dataclasses import dataclass
from pathlib import PurePath

import numpy as np

from reid_aug.config import AugmentConfig
from reid_aug.data.pairs import usable_in_pairs
from reid_aug.errors import DataError
from reid_aug.pose.bank import PoseBank
from reid_aug.records import Sample, Samples


@dataclass(frozen=True, slots=True)
class PlannedImage:
    """One image to generate.

    Attributes:
        name: file name it will have, ``0002_c1s1_000451_03_g0007.jpg``: the source's, with these labels and a number.
        source: file name of the source image.
        target_pose: name of the image whose pose it shall have.
        pid: identity it is labelled with.
        camid: camera it is labelled with: the source's, or with ``poses`` other_camera that of the pose's image. A
            generator that is told cameras draws it for this one.
        seed: seed of its noise, below 2**53 so that any JSON reader keeps it.
    """

    name: str
    source: str
    target_pose: str
    pid: int
    camid: int
    seed: int


def make_plan(samples: Samples, config: AugmentConfig) -> list[PlannedImage]:
    """``config.per_identity`` images for each identity of ``samples`` that has an image with a usable pose.

    Image k of an identity follows from ``config.seed``, the identity, k, the identity's own images and the poses of
    ``samples``; its pose is drawn knowing those of the images before, so that none repeats while its pool has another.
    So a plan with a larger ``per_identity`` starts, for each identity, with the images of the smaller one; sources and
    seeds do not depend on which others are in ``samples`` (but for ``source_identity="other"``, which takes its sources
    from them). A slice of the plan is a plan.

    Args:
        samples: the images to augment, with their poses. A pose is usable if both shoulders and both hips are visible;
            identities without one are left out, with one warning for all of them; so are distractors (pid 0), silently.
        config: how many images, which poses, and whether a source shows the identity it is labelled with.

    Raises:
        DataError: no image has a usable pose, or "other" is asked for and there is only one identity.
    """
    by_pid: dict[int, list[Sample]] = defaultdict(list)
    for sample, usable in zip(samples, usable_in_pairs(samples)):
        if usable and sample.pid > 0:
            by_pid[sample.pid].append(sample)
    _check(samples, by_pid, config)
    bank = PoseBank(samples)
    everyone = [sample for pid in sorted(by_pid) for sample in by_pid[pid]]
    plan = []
    for pid in sorted(by_pid):
        own = by_pid[pid]
        sources = own if config.source_identity == "same" else [sample for sample in everyone if sample.pid != pid]
        poses: list[str] = []
        for k in range(config.per_identity):
            plan.append(_plan_image(pid, k, sources, bank, config, poses))
            poses.append(plan[-1].target_pose)
    return plan


def _plan_image(
    pid: int, k: int, sources: list[Sample], bank: PoseBank, config: AugmentConfig, drawn: list[str]
) -> PlannedImage:
    """Image ``k`` of an identity that was given the poses ``drawn`` before."""
    rng = np.random.default_rng([config.seed, pid, k])
    seed = int(rng.integers(2**53))
    source = sources[rng.integers(len(sources))]
    (target_pose,) = bank.draw(config.poses, source, 1, rng, drawn)
    camid = bank.camid(target_pose) if config.poses == "other_camera" else source.camid
    scene = PurePath(source.name).stem.partition("_")[2]
    if camid != source.camid:
        scene = re.sub(r"^c\d+", f"c{camid}", scene)
    name = f"{pid:04d}_{scene}_g{k:04d}.{config.image_format}"
    return PlannedImage(name, source.name, target_pose, pid, camid, seed)


def _check(samples: Samples, by_pid: dict[int, list[Sample]], config: AugmentConfig) -> None:
    if not by_pid:
        raise DataError(
            f"plan: none of the {len(samples)} images has a pose with both shoulders and both hips. Load the data set "
            "with its key points (keypoints=...), or make them with `reid-aug pose extract`."
        )
    left_out = sorted({pid for pid in samples.pids.tolist() if pid > 0} - set(by_pid))
    if left_out:
        shown = ", ".join(str(pid) for pid in left_out[:5]) + (", ..." if len(left_out) > 5 else "")
        warnings.warn(
            f"{len(left_out)} identities have no image with a usable pose and are not augmented: {shown}", stacklevel=3
        )
    if config.source_identity == "other" and len(by_pid) < 2:
        raise DataError("plan: `source_identity` is other, but only one identity has a usable pose. Use same.")
