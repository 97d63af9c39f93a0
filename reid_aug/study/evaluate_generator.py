"""How good a generator is: its images of held-out people against the real ones that were asked for.

Real test images are the sources and the targets; nothing here was seen in training. ``warp`` and ``copies`` are scored
in the same way: theirs are the rows that a trained generator has to beat.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict

from reid_aug.augment.generate import PoseTransfer
from reid_aug.data.images import Images
from reid_aug.data.market1501 import Market1501
from reid_aug.errors import DataError
from reid_aug.files import append_line
from reid_aug.metrics.fid import frechet_distance, image_gaussian
from reid_aug.metrics.identity import IdentityScores, identity_scores
from reid_aug.metrics.image import ImageQuality, Lpips
from reid_aug.metrics.pose import correct_key_points
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import part_map
from reid_aug.records import ImageSource, Pose, Samples
from reid_aug.reid.evaluate import evaluate
from reid_aug.reid.features import extract_features
from reid_aug.reid.model import ReidModel
from reid_aug.study.recipe import Progress, image_size_of, silent
from reid_aug.study.results import versions

Estimate = Callable[[ImageSource], Sequence[Pose]]  # a pose estimator: one pose for each image


class GeneratorScores(BaseModel):
    """One line of an evaluation: what was scored, how, and every measure; None where its network was not given.

    Attributes:
        data_set: name of the data set's folder.
        generator, digest: the generator's name, and the digest of its weights and configuration.
        sampler, steps, guidance, guidance_scale: how its images were sampled.
        image_size: (height, width) at which all but identity is measured.
        pairs, pairs_digest: how many, and which; only lines with one digest compare.
        seed: of the images' noise.
        ssim, ssim_uniform: with the Gaussian window of 11, and the uniform one of 51 pixels.
        psnr: dB.
        masked_ssim, masked_psnr: on the person, as drawn around the target's key points.
        masked_pairs: pairs these are over; the rest show too few key points to draw a person.
        lpips: distance by AlexNet.
        fid: to the whole training set.
        rank1, mAP: percent, when generated images query the real gallery through the re-ID model ``judge``; a gallery
            image of the query's identity and its source's camera is junk, see ``metrics.identity``.
        source_rank1, source_mAP: the same for the sources themselves: the mark to reach.
        pose: share of the wanted key points that are found within a tenth of the image height, 0..1.
        seconds: spent on generating, ``batch_size`` images at a time on ``device``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    data_set: str
    generator: str
    digest: str
    sampler: str
    steps: int
    guidance: str
    guidance_scale: dict[str, float]
    image_size: tuple[int, int]
    pairs: int
    pairs_digest: str
    seed: int
    ssim: float
    ssim_uniform: float | None = None
    psnr: float | None  # JSON has no infinity, the PSNR of equal images
    masked_ssim: float | None = None
    masked_psnr: float | None = None
    masked_pairs: int
    lpips: float | None = None
    fid: float | None = None
    judge: str | None = None
    rank1: float | None = None
    mAP: float | None = None
    source_rank1: float | None = None
    source_mAP: float | None = None
    pose: float | None = None
    seconds: float
    batch_size: int
    device: str
    versions: dict[str, str]

    def append_to(self, path: Path) -> None:
        """Add the line to a JSON-lines file; raises OutputError as :func:`~reid_aug.files.append_line` does."""
        append_line(path, self.model_dump_json())


def evaluate_generator(
    pipe: PoseTransfer,
    market: Market1501,
    pairs: Sequence[tuple[str, str]],
    *,
    name: str = "",
    seed: int = 0,
    sampling: Mapping[str, Any] | None = None,
    batch_size: int = 64,
    judge: ReidModel | None = None,
    judge_name: str = "",
    estimate: Estimate | None = None,
    lpips: Lpips | None = None,
    inception: torch.nn.Module | None = None,
    progress: Progress = silent,
) -> GeneratorScores:
    """Draw each pair's source in its target's pose and compare with the target; 12,000 pairs take 0.3 GB at 128x64.

    A generator that is told cameras is told the source's, so that it knows no more of the target than the papers' do.

    Args:
        pipe: a generator (``load_generator``) or a training-free augmenter.
        market: the data set; its gallery and query have the pairs' images, its training set is FID's real side.
        pairs: (source name, target name) of one identity each, such as the published ``market-pairs-test.csv``.
        name: of the generator, for the record.
        seed: pair's noise follows from it and the pair's names, whatever the other pairs and the batch size.
        sampling: arguments of ``pipe`` such as ``num_inference_steps``; its own defaults where left out.
        batch_size: images at once.
        judge, judge_name: the re-ID model of the identity measure, and its name for the record; it must not have been
            trained on test people.
        estimate: pose estimator of the pose measure.
        lpips: network of LPIPS.
        inception: network of FID, from :func:`~reid_aug.metrics.fid.load_inception`.
        progress: called as the images come.

    Raises:
        DataError: no pairs; a pair of an unknown image, without key points, of two people, or twice the same image.
        ConfigError: a sampling setting that ``pipe`` does not take.
    """
    sampling = dict(sampling or {})
    described = pipe.describe(**sampling)
    test = market.gallery + market.query
    _check_pairs(pairs, test)
    size = image_size_of(pipe)
    names = list(dict.fromkeys(name for pair in pairs for name in pair))
    by_name = {sample.name: sample for sample in test}
    real = Images(Samples((by_name[name] for name in names), test.poses), size)
    generated, seconds = _generate(pipe, pairs, real, seed, sampling, batch_size, progress)
    quality = _quality(generated, pairs, real, lpips, batch_size)
    measures = quality.compute()
    if inception is not None:
        measures["fid"] = _fid(inception, Images(market.train, size), generated, batch_size, progress)
    if judge is not None:
        found = _identity(judge, generated, pairs, real, market.gallery)
        measures |= {key: getattr(found, key) for key in ("rank1", "mAP", "source_rank1", "source_mAP")}
    if estimate is not None:
        measures["pose"] = _pose(estimate(generated), [test.poses[target] for _, target in pairs], size)
    return GeneratorScores(
        data_set=market.root.name,
        generator=name,
        digest=pipe.digest,
        **described,
        image_size=size,
        pairs=len(pairs),
        pairs_digest=_digest(pairs),
        seed=seed,
        masked_pairs=quality.masked_pairs,
        judge=None if judge is None else judge_name,
        seconds=seconds,
        batch_size=batch_size,
        device=str(getattr(pipe, "device", "cpu")),
        versions=versions(),
        **measures,
    )


class HeldImages:
    """Images in memory, uint8 [N, 3, H, W], as an :class:`~reid_aug.records.ImageSource`."""

    def __init__(self, pixels: torch.Tensor):
        self.pixels = pixels

    def __len__(self) -> int:
        return len(self.pixels)

    def batch(self, indices: Sequence[int] | np.ndarray) -> torch.Tensor:
        """uint8 [B, 3, H, W]."""
        return self.pixels[torch.as_tensor(np.asarray(indices, dtype=np.int64))]


def pair_seed(seed: int, source: str, target: str) -> int:
    """Seed of a pair's noise, below 2**48."""
    return int.from_bytes(hashlib.sha256(f"{seed} {source} {target}".encode()).digest()[:6], "big")


def _check_pairs(pairs: Sequence[tuple[str, str]], test: Samples) -> None:
    if not pairs:
        raise DataError("pairs: none. Give at least one pair of test images.")
    pids = {sample.name: sample.pid for sample in test}
    for source, target in pairs:
        for name in (source, target):
            if name not in pids:
                raise DataError(f"pairs: {name} is in neither gallery nor query. Name pairs of test images.")
            if name not in test.poses or not test.poses[name].visible.any():
                raise DataError(f"pairs: {name} has no key points. Load the data set with those of the test images.")
        if source == target or pids[source] != pids[target]:
            raise DataError(f"pairs: {source},{target} are not two images of one person. Leave the pair out.")


def _generate(
    pipe: PoseTransfer,
    pairs: Sequence[tuple[str, str]],
    real: Images,
    seed: int,
    sampling: dict[str, Any],
    batch_size: int,
    progress: Progress,
) -> tuple[HeldImages, float]:
    """The image of every pair, and the seconds that drawing them took."""
    position = {sample.name: index for index, sample in enumerate(real.samples)}
    poses = real.samples.poses
    pixels = torch.empty(len(pairs), 3, *real.size, dtype=torch.uint8)
    seconds = 0.0
    progress("generate", 0, len(pairs), "")
    for start in range(0, len(pairs), batch_size):
        batch = pairs[start : start + batch_size]
        sources = real.batch([position[source] for source, _ in batch])
        started = time.perf_counter()
        pixels[start : start + len(batch)] = pipe(
            source=sources,
            source_pose=[poses[source] for source, _ in batch],
            # Before the source's camera, of a generator that is told one: of the target it knows the pose alone.
            target_pose=[replace(poses[target], camid=poses[source].camid) for source, target in batch],
            seeds=[pair_seed(seed, *pair) for pair in batch],
            output_type="uint8",
            **sampling,
        ).images
        seconds += time.perf_counter() - started
        progress("generate", start + len(batch), len(pairs), "")
    return HeldImages(pixels), seconds


def _quality(
    generated: HeldImages, pairs: Sequence[tuple[str, str]], real: Images, lpips: Lpips | None, batch_size: int
) -> ImageQuality:
    position = {sample.name: index for index, sample in enumerate(real.samples)}
    quality = ImageQuality(lpips)
    for start in range(0, len(pairs), batch_size):
        targets = [target for _, target in pairs[start : start + batch_size]]
        poses = PoseBatch.stack([real.samples.poses[target] for target in targets])
        person = part_map(poses, real.size)[:, None] > 0
        of = range(start, start + len(targets))
        quality.update(generated.batch(of), real.batch([position[target] for target in targets]), person)
    return quality


def _fid(
    inception: torch.nn.Module, train: ImageSource, generated: ImageSource, batch_size: int, progress: Progress
) -> float:
    def batches(images: ImageSource, stage: str) -> Iterator[torch.Tensor]:
        for start in range(0, len(images), batch_size):
            indices = range(start, min(start + batch_size, len(images)))
            yield images.batch(indices)
            progress(stage, indices.stop, len(images), "")

    real = image_gaussian(inception, batches(train, "FID, training set"))
    return frechet_distance(real, image_gaussian(inception, batches(generated, "FID, generated")))


def _identity(
    judge: ReidModel, generated: HeldImages, pairs: Sequence[tuple[str, str]], real: Images, gallery: Samples
) -> IdentityScores:
    """Sources go through the generator's size, as the generated images do; the gallery is the judge's own."""
    position = {sample.name: index for index, sample in enumerate(real.samples)}
    sources, row = np.unique([position[source] for source, _ in pairs], return_inverse=True)
    labels = real.samples.at(sources)
    return identity_scores(
        extract_features(judge, generated),
        extract_features(judge, HeldImages(real.batch(sources)))[row],
        labels.pids[row],
        labels.camids[row],
        (extract_features(judge, Images(gallery, judge.config.image_size)), gallery.pids, gallery.camids),
        evaluate,
    )


def _pose(found: Sequence[Pose], wanted: Sequence[Pose], size: tuple[int, int]) -> float:
    poses = PoseBatch.stack(wanted).scaled(size)
    return correct_key_points(
        torch.from_numpy(np.stack([pose.xy for pose in found])),
        torch.from_numpy(np.stack([pose.visible for pose in found])),
        poses.xy,
        poses.visible,
        size[0],
    )


def _digest(pairs: Sequence[tuple[str, str]]) -> str:
    """Of the pairs, in any order."""
    return hashlib.sha256("".join(sorted(f"{source},{target}\n" for source, target in pairs)).encode()).hexdigest()[:16]
