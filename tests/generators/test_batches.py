import numpy as np
import pytest
import torch
from generator_cases import config, training_set

from reid_aug.config import NoiseConfig
from reid_aug.errors import DataError
from reid_aug.generators.autoencoder import PixelCodec
from reid_aug.generators.batches import PairBatches
from reid_aug.pose.skeleton import MIRROR


def batches(process: int = 0, processes: int = 1, **training) -> PairBatches:
    samples, images, pairs = training_set()
    settings = config(training={"batch_size": 64, **training}).training
    return PairBatches(samples, images, pairs, settings, NoiseConfig(), PixelCodec(), process, processes)


def test_a_batch_depends_on_the_iteration_alone():
    first, again = batches(), batches()
    again.at(0)
    assert torch.equal(first.at(5).target, again.at(5).target)
    assert torch.equal(first.at(5).timestep, again.at(5).timestep)
    assert first.at(5).names == again.at(5).names
    noise = [torch.randn(3, generator=made.at(5).generator) for made in (first, again)]
    assert torch.equal(*noise)
    different = [first.at(6), first.at(5, part=1), batches(process=1, processes=2).at(5), batches(seed=1).at(5)]
    assert all(other.names != first.at(5).names for other in different)


def test_images_and_poses_are_those_of_the_named_pairs():
    samples, images, _ = training_set()
    position = {sample.name: index for index, sample in enumerate(samples)}
    for flip in (0.0, 1.0):
        batch = batches(flip=flip).at(0)
        for k, ((source,), (target,)) in enumerate(batch.names):
            expected = [images.pixels[position[name]].float() / 127.5 - 1 for name in (source, target)]
            pose = samples.poses[target].xy
            if flip:
                expected = [image.flip(-1) for image in expected]
                pose = pose[list(MIRROR)] * [-1, 1] + [15, 0]
            assert torch.allclose(batch.condition.source[k, 0], expected[0])
            assert torch.allclose(batch.target[k], expected[1])
            assert np.allclose(batch.condition.target_pose.xy[k].numpy(), pose, atol=1e-4)


def test_source_and_target_are_two_images_of_one_person():
    batch = batches().at(3)
    assert all(source[:4] == target[:4] and source != target for (source,), (target,) in batch.names)


def test_a_third_each_of_the_dropped_loses_pose_source_or_both():
    made = batches(drop=0.6)
    counts = {(True, True): 0, (True, False): 0, (False, True): 0, (False, False): 0}
    for iteration in range(100):
        batch = made.at(iteration)
        for pose, source in zip(batch.keep_pose.tolist(), batch.keep_source.tolist()):
            counts[pose, source] += 1
    total = sum(counts.values())
    assert counts[True, True] / total == pytest.approx(0.4, abs=0.02)
    assert all(counts[key] / total == pytest.approx(0.2, abs=0.02) for key in list(counts)[1:])


def test_with_reconstruction_every_pair_comes_again_from_the_source_to_itself():
    batch = batches(batch_size=8, reconstruction=True, flip=0.0).at(2)
    assert len(batch.names) == len(batch.target) == len(batch.timestep) == len(batch.keep_pose) == 16
    assert all(again == (source, source) for (source, _), again in zip(batch.names[:8], batch.names[8:]))
    assert torch.equal(batch.target[8:], batch.condition.source[:8, 0])
    assert torch.equal(batch.condition.target_pose.xy[8:], batch.condition.source_pose.xy[:8])
    assert torch.equal(batch.target[:8], batches(batch_size=8, flip=0.0).at(2).target)


def test_bad_pairs():
    samples, images, _ = training_set()
    settings = config().training
    with pytest.raises(DataError, match="training pairs: none"):
        PairBatches(samples, images, [], settings, NoiseConfig(), PixelCodec())
    with pytest.raises(DataError, match=r"stranger\.jpg is not a training image with a pose"):
        PairBatches(samples, images, [(samples[0].name, "stranger.jpg")], settings, NoiseConfig(), PixelCodec())
