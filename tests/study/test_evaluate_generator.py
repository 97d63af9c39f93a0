from __future__ import annotations

import json
import math
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from rich.console import Console
from torch import nn

from reid_aug.augment.training_free import CopyAugmenter, WarpAugmenter
from reid_aug.config import ReidModelConfig
from reid_aug.data.images import decode
from reid_aug.data.market1501 import Market1501
from reid_aug.data.pairs import sample_pairs
from reid_aug.errors import ConfigError, DataError, OutputError
from reid_aug.generators.pipeline import load_generator
from reid_aug.metrics.fid import fit_gaussian, frechet_distance
from reid_aug.metrics.image import ssim
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import part_map
from reid_aug.records import Pose, Samples
from reid_aug.reid.features import extract_features
from reid_aug.reid.model import build_model
from reid_aug.study.evaluate_generator import GeneratorScores, HeldImages, evaluate_generator, pair_seed
from reid_aug.study.tables import generator_table


@pytest.fixture(scope="module")
def pairs(toy_market) -> list[tuple[str, str]]:
    return sample_pairs(toy_market.gallery, 7, seed=0)


@pytest.fixture(scope="module")
def paths(toy_market):
    return {sample.name: sample.path for sample in toy_market.gallery + toy_market.query}


@pytest.fixture(scope="module")
def judge():
    return build_model(ReidModelConfig(backbone="osnet_x0_25", image_size=(64, 32)), 4).eval()


def test_image_quality_is_that_of_each_pair_in_a_loop(toy_market, pairs, paths):
    found = evaluate_generator(WarpAugmenter(), toy_market, pairs, name="warp", batch_size=3)
    scores = {"ssim": [], "psnr": [], "masked_psnr": []}
    for source, target in pairs:
        poses = [toy_market.gallery.poses[name] for name in (source, target)]
        image = WarpAugmenter()(decode(paths[source])[None], [poses[0]], [poses[1]], [0], "uint8").images
        real = decode(paths[target])[None]
        error = (image.double() - real.double()).numpy() / 255
        person = part_map(PoseBatch.stack([poses[1]]), (128, 64))[0].numpy() > 0
        scores["ssim"].append(ssim(image, real).item())
        scores["psnr"].append(-10 * math.log10((error**2).mean()))
        scores["masked_psnr"].append(-10 * math.log10((error[0][:, person] ** 2).mean()))
    for name, values in scores.items():
        assert getattr(found, name) == pytest.approx(np.mean(values), rel=1e-5)
    assert (found.pairs, found.masked_pairs, found.generator, found.digest) == (7, 7, "warp", "warp-1")
    assert (found.sampler, found.steps, found.image_size) == ("WarpAugmenter", 0, (128, 64))
    assert 0 < found.seconds < 60
    assert [found.lpips, found.fid, found.judge, found.rank1, found.mAP, found.pose] == [None] * 6


def test_a_generator_is_told_the_cameras_of_the_sources_not_of_the_targets(toy_market, pairs, paths):
    class Told(CopyAugmenter):
        told: ClassVar = []

        def __call__(self, source, source_pose, target_pose, seeds, output_type="pil", **sampling):
            self.told += [pose.camid for pose in target_pose]
            return super().__call__(source, source_pose, target_pose, seeds, output_type)

    evaluate_generator(Told(), toy_market, pairs, batch_size=3)
    camid = {sample.name: sample.camid for sample in toy_market.gallery + toy_market.query}
    assert Told.told == [camid[source] for source, _ in pairs]
    assert Told.told != [camid[target] for _, target in pairs]


def test_a_generated_query_has_its_sources_camera(toy_market, pairs, paths, judge):
    """Copies score as their sources do, and neither finds itself: by the protocol, spelled out."""
    found = evaluate_generator(CopyAugmenter(), toy_market, pairs, judge=judge, judge_name="tiny")
    gallery = list(toy_market.gallery)
    features = extract_features(judge, HeldImages(torch.stack([decode(sample.path, (64, 32)) for sample in gallery])))
    hits, precisions = [], []
    for source, _ in pairs:
        (row,) = [index for index, sample in enumerate(gallery) if sample.name == source]
        query, seen = gallery[row], extract_features(judge, HeldImages(decode(gallery[row].path)[None]))[0]
        others = [i for i, s in enumerate(gallery) if (s.pid, s.camid) != (query.pid, query.camid)]
        others.sort(key=lambda index: torch.dist(features[index], seen).item())
        matches = [rank for rank, index in enumerate(others, start=1) if gallery[index].pid == query.pid]
        hits.append(matches[0] == 1)
        precisions.append(np.mean([number / rank for number, rank in enumerate(matches, start=1)]))
    assert found.judge == "tiny"
    assert found.rank1 == found.source_rank1 == pytest.approx(100 * np.mean(hits))
    assert found.mAP == found.source_mAP == pytest.approx(100 * np.mean(precisions), rel=1e-4)


def test_sources_may_be_queries(toy_market, judge):
    test = toy_market.query + toy_market.gallery
    source = toy_market.query[0]
    target = next(sample for sample in toy_market.gallery if sample.pid == source.pid and sample.name in test.poses)
    found = evaluate_generator(CopyAugmenter(), toy_market, [(source.name, target.name)], judge=judge)
    assert found.mAP == pytest.approx(found.source_mAP)


def test_an_image_follows_from_seed_and_pair_alone(toy_market, pairs):
    pipe = load_generator("pidm_toy")
    whole = evaluate_generator(pipe, toy_market, pairs, sampling={"num_inference_steps": 1})
    pieces = evaluate_generator(pipe, toy_market, pairs[::-1], sampling={"num_inference_steps": 1}, batch_size=2)
    other = evaluate_generator(pipe, toy_market, pairs, sampling={"num_inference_steps": 1}, seed=1)
    assert pieces.ssim == pytest.approx(whole.ssim, rel=1e-4)
    assert abs(other.ssim - whole.ssim) > 1e-4 * whole.ssim
    assert pieces.pairs_digest == whole.pairs_digest
    assert (whole.steps, whole.digest) == (1, pipe.digest)
    assert pair_seed(0, "a", "b") == pair_seed(0, "a", "b") < 2**48
    assert len({pair_seed(0, "a", "b"), pair_seed(0, "b", "a"), pair_seed(1, "a", "b")}) == 3


@pytest.mark.parametrize(("shift", "expected"), [(0, 1.0), (12.7, 1.0), (12.9, 0.0)])
def test_pose_is_the_share_of_key_points_within_a_tenth_of_the_height(toy_market, pairs, shift, expected):
    wanted = [toy_market.gallery.poses[target] for _, target in pairs]

    def estimate(images):
        assert len(images) == len(pairs) and images.batch([0]).shape == (1, 3, 128, 64)
        return [Pose(pose.xy + np.float32([0, shift]), pose.visible, pose.image_size) for pose in wanted]

    assert evaluate_generator(CopyAugmenter(), toy_market, pairs, estimate=estimate).pose == expected


def test_an_image_in_which_no_joint_is_found_has_none_of_them_right(toy_market, pairs):
    wanted = [toy_market.gallery.poses[target] for _, target in pairs]

    def estimate(images):
        nothing = Pose(np.zeros((18, 2), np.float32), np.zeros(18, bool), (128, 64))
        return [nothing, *wanted[1:]]

    joints = [int(pose.visible.sum()) for pose in wanted]
    found = evaluate_generator(CopyAugmenter(), toy_market, pairs, estimate=estimate).pose
    assert found == pytest.approx(sum(joints[1:]) / sum(joints))


class Colours(nn.Module):
    """Stands in for Inception: 3 features an image."""

    def __init__(self):
        super().__init__()
        self.weight = nn.Parameter(torch.tensor(2.0))

    def forward(self, images):
        return self.weight * images.float().mean((2, 3))


def test_fid_is_to_the_whole_training_set(toy_market, pairs, paths):
    network = Colours()
    found = evaluate_generator(CopyAugmenter(), toy_market, pairs, inception=network, batch_size=5)
    with torch.no_grad():
        real = network(torch.stack([decode(sample.path) for sample in toy_market.train]))
        generated = network(torch.stack([decode(paths[source]) for source, _ in pairs]))
    expected = frechet_distance(fit_gaussian([real]), fit_gaussian([generated]))
    assert found.fid == pytest.approx(expected, rel=1e-4)


def test_the_given_perceptual_distance_is_between_image_and_target(toy_market, pairs, paths):
    def distance(generated, real):
        return (generated.float() - real.float())[:, 0].mean((1, 2))

    found = evaluate_generator(CopyAugmenter(), toy_market, pairs, lpips=distance, batch_size=2)
    expected = [distance(decode(paths[a])[None], decode(paths[b])[None]).item() for a, b in pairs]
    assert found.lpips == pytest.approx(np.mean(expected), rel=1e-4)


def test_a_line_and_a_row_hold_every_measure(toy_market, pairs, judge, tmp_path):
    rows = [
        evaluate_generator(CopyAugmenter(), toy_market, pairs, name="copies"),
        evaluate_generator(WarpAugmenter(), toy_market, pairs, name="warp", judge=judge, judge_name="tiny"),
    ]
    for row in rows:
        row.append_to(tmp_path / "new" / "scores.jsonl")
    lines = (tmp_path / "new" / "scores.jsonl").read_text().splitlines()
    assert [GeneratorScores.model_validate_json(line) for line in lines] == rows
    assert json.loads(lines[1])["versions"]["torch"] == torch.__version__.split("+")[0]
    with pytest.raises(OutputError, match=r"b\.jsonl: cannot be written"):
        rows[0].append_to(tmp_path / "new" / "scores.jsonl" / "b.jsonl")
    console = Console(width=200)
    with console.capture() as capture:
        console.print(generator_table(rows))
    first, second = [line.split() for line in capture.get().splitlines() if line.split()[:1] in (["copies"], ["warp"])]
    assert first[:5] == ["copies", "0", "7", f"{rows[0].ssim:.4f}", f"{rows[0].ssim_uniform:.4f}"]
    assert first[8:10] == ["-", "-"]
    assert second[8] == f"{rows[1].rank1:.1f}/{rows[1].source_rank1:.1f}"
    assert "LPIPS" not in capture.get() and "FID" not in capture.get()


def test_bad_pairs_and_settings_are_named(toy_market, pairs):
    source, target = pairs[0]
    stranger = next(sample for sample in toy_market.gallery if sample.pid not in (0, int(source[:4])))
    blind = Market1501(
        toy_market.root, toy_market.train, toy_market.query,
        Samples(toy_market.gallery, {name: pose for name, pose in toy_market.gallery.poses.items() if name != target}),
    )  # fmt: skip
    nothing = Pose(np.zeros((18, 2), np.float32), np.zeros(18, bool), (128, 64))
    unseen = replace(toy_market, gallery=Samples(toy_market.gallery, {**toy_market.gallery.poses, target: nothing}))
    for market, bad, message in (
        (toy_market, [], "pairs: none"),
        (toy_market, [("nobody.jpg", target)], r"nobody\.jpg is in neither gallery nor query"),
        (toy_market, [(toy_market.train[0].name, target)], "is in neither gallery nor query"),
        (toy_market, [(source, source)], "are not two images of one person"),
        (toy_market, [(source, stranger.name)], "are not two images of one person"),
        (blind, [(source, target)], f"{target} has no key points"),
        (unseen, [(source, target)], f"{target} has no key points"),
    ):
        with pytest.raises(DataError, match=message):
            evaluate_generator(CopyAugmenter(), market, bad)
    with pytest.raises(ConfigError, match="`steps`"):
        evaluate_generator(CopyAugmenter(), toy_market, pairs, sampling={"steps": 3})
