"""Generators that are told which camera is to see the target."""

from dataclasses import replace

import pytest
import torch
from generator_cases import SIZE, SYSTEMS, condition, config, difference, inputs, shake, training_set
from untrained import untrained_generator

from reid_aug.config import GeneratorConfig, NoiseConfig, build_config
from reid_aug.errors import ConfigError
from reid_aug.generators.autoencoder import PixelCodec
from reid_aug.generators.batches import PairBatches
from reid_aug.generators.condition import Condition
from reid_aug.generators.pipeline import PosePipeline, load_generator
from reid_aug.generators.training import train_generator
from reid_aug.pose.render import camera_planes

CAMERAS = 3


def told(system: str) -> PosePipeline:
    """An untrained generator of three cameras, with every input mattering."""
    shared = {"image_size": SIZE, "codec": "patch_pca", "channels": (16, 32), "layers_per_level": 1}
    model = {"system": system, **shared, "cameras": CAMERAS, "precondition": True, **SYSTEMS[system]}
    settings = build_config(GeneratorConfig, {**config().model_dump(exclude={"model"}), "model": model})
    pipe = untrained_generator(settings, training_set()[1].pixels)
    torch.manual_seed(0)
    shake(pipe.denoiser)
    return pipe


def seen_by(camid: int | None, **changes) -> dict:
    """The arguments of a call whose target poses were seen by ``camid``."""
    arguments = {**inputs(), **changes}
    arguments["target_pose"] = [replace(pose, camid=camid) for pose in arguments["target_pose"]]
    return arguments


@pytest.mark.parametrize("system", SYSTEMS)
def test_the_camera_changes_the_images_and_one_that_is_not_known_is_none(system):
    pipe = told(system)
    first, second, none, unknown = (pipe(**seen_by(camid)).images for camid in (1, 2, None, 9))
    for one, other in ((first, second), (first, none), (second, none)):
        assert difference(one, other) > 0
    assert torch.equal(none, unknown)


def test_imagpose_sees_the_cameras_of_its_sources():
    pipe, arguments = told("imagpose"), seen_by(1)
    images = []
    for camid in (1, 2):
        arguments["source_pose"] = [replace(pose, camid=camid) for pose in arguments["source_pose"]]
        images.append(pipe(**arguments).images)
    assert difference(*images) > 0


@pytest.mark.parametrize("system", SYSTEMS)
def test_whose_pose_is_dropped_loses_its_camera_too(system):
    pipe, given = told(system), condition()
    noisy = torch.randn(2, pipe.codec.channels, *(side // pipe.codec.factor for side in SIZE))
    poses = [replace(given.target_pose, camids=torch.full((2,), camid)) for camid in (1, 2)]
    encoded = [pipe.denoiser.encode(Condition(given.source, given.source_pose, pose), pipe.codec) for pose in poses]
    with torch.no_grad():
        without = [pipe.denoiser(noisy, torch.tensor([500, 500]), each.kept(False, True)) for each in encoded]
        with_it = [pipe.denoiser(noisy, torch.tensor([500, 500]), each) for each in encoded]
    assert torch.equal(*without)
    assert not torch.allclose(*with_it, atol=1e-3)


@pytest.mark.parametrize("system", SYSTEMS)
def test_it_survives_saving(system, tmp_path):
    pipe = told(system)
    pipe.save_pretrained(tmp_path)
    again = load_generator(tmp_path)
    assert again.digest == pipe.digest
    assert difference(again(**seen_by(2)).images, pipe(**seen_by(2)).images) <= 1


def test_a_batch_has_the_cameras_of_its_images_but_for_the_share_that_is_forgotten():
    samples, images, pairs = training_set()
    camids = {sample.name: sample.camid for sample in samples}
    assert set(camids.values()) == {1, 2}
    settings = config(training={"batch_size": 64, "drop": 0.3}).training
    batches = PairBatches(samples, images, pairs, settings, NoiseConfig(), PixelCodec())
    forgotten = {"source": 0, "target": 0}
    for iteration in range(40):
        batch = batches.at(iteration)
        for k, ((source,), (target,)) in enumerate(batch.names):
            for side, name in (("source", source), ("target", target)):
                found = getattr(batch.condition, f"{side}_pose").camids[k].item()
                assert found in (0, camids[name])
                forgotten[side] += found == 0
    assert [count / (40 * 64) for count in forgotten.values()] == pytest.approx([0.3, 0.3], abs=0.03)


def test_training_refuses_a_camera_that_it_was_not_told_of(tmp_path):
    samples, images, pairs = training_set()
    other = type(samples)([*samples[:-1], replace(samples[-1], camid=5)], samples.poses)
    with pytest.raises(ConfigError, match=r"`model\.cameras`: 3, but .* images of camera 5\. Set it to 5"):
        train_generator(other, images, pairs, config(model={"cameras": CAMERAS}), tmp_path / "run")


def test_the_planes_of_a_camera_are_one_in_every_pixel():
    poses = replace(condition(batch=4).target_pose, camids=torch.tensor([2, 0, 1, 7]))
    planes = camera_planes(poses, (5, 4), CAMERAS)
    for b, camid in enumerate((2, 0, 1, 7)):
        for camera in range(CAMERAS):
            assert (planes[b, camera] == float(camid == camera + 1)).all()
    assert planes.shape == (4, CAMERAS, 5, 4)
