"""IMAGPose learns eight pairs by heart, and then follows its pose and its source."""

from pathlib import Path

import numpy as np
import pytest
import torch
from generator_cases import SIZE, STANDING, ArrayImages
from torch.nn.functional import avg_pool2d

from reid_aug.config import GeneratorConfig, build_config
from reid_aug.generators.training import train_generator
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import part_map
from reid_aug.records import Pose, Sample, Samples

PEOPLE = 4
SETTINGS = build_config(
    GeneratorConfig,
    {
        "model": {"system": "imagpose", "image_size": SIZE, "channels": (32, 64), "layers_per_level": 1, "heads": 2,
                  "context_channels": 32, "patch": 2, "precondition": True, "warp_prior": True},
        "noise": {"prediction": "v_prediction", "zero_terminal_snr": True, "min_snr_gamma": 5.0},
        "training": {"iterations": 700, "batch_size": 16, "learning_rate": 2e-3, "schedule": "cosine", "warmup": 20,
                     "ema_decay": 0.98, "flip": 0.0, "drop": 0.0, "sample_every": 1000},
        "sampling": {"steps": 5, "guidance": "joint", "guidance_scale": {"joint": 1.0}},
    },
)  # fmt: skip


def drawn_people() -> tuple[Samples, torch.Tensor]:
    """Four people in the same two poses, in colours of their own: neither pose nor source alone tells the image.

    Returns:
        Samples, person by person, and their images [4, 2, 3, H, W].
    """
    left, right = STANDING - [2, 0], STANDING + [2, 0]
    right[[3, 4, 6, 7], 1] -= 6  # with raised arms
    poses = [Pose(np.clip(xy, 0, [15, 31]).astype(np.float32), np.ones(18, bool), SIZE) for xy in (left, right)]
    parts = part_map(PoseBatch.stack(poses), SIZE)
    palettes = torch.rand(PEOPLE, 11, 3, generator=torch.Generator().manual_seed(0)) * 255
    palettes[:, 0] = 128  # the background
    drawn = palettes[:, parts].movedim(-1, 2)  # [person, pose, 3, H, W]
    drawn = avg_pool2d(drawn.flatten(0, 1), 3, stride=1, padding=1, count_include_pad=False).to(torch.uint8)
    samples = [Sample(Path(f"{pid:04d}_c1s1_{k:06d}_00.jpg"), pid, 1) for pid in range(PEOPLE) for k in range(2)]
    of_sample = {sample.name: poses[k % 2] for k, sample in enumerate(samples)}
    return Samples(samples, of_sample), drawn.unflatten(0, (-1, 2))


@pytest.mark.slow
def test_eight_pairs_are_learnt_and_pose_and_source_are_followed(tmp_path):
    samples, people = drawn_people()
    pairs = [(samples[k].name, samples[k ^ 1].name) for k in range(2 * PEOPLE)]
    losses = []
    pipe = train_generator(
        samples, ArrayImages(people.flatten(0, 1)), pairs, SETTINGS, tmp_path,
        progress=lambda done, loss: losses.append(loss),
    )  # fmt: skip
    poses = [samples.poses[sample.name] for sample in samples[:2]]

    def error(image: torch.Tensor, person: int, pose: int) -> float:
        return (image.float() - people[person, pose].float()).square().mean().sqrt().item()

    for person in range(PEOPLE):
        for given in (0, 1):
            source = people[person, given][None]
            one = pipe(source, [poses[given]], [poses[1 - given]], [7], "uint8").images[0]
            wanted = (1 - given, given, 1 - given)
            three = pipe(source, [poses[given]], [[poses[pose] for pose in wanted]], [[7, 8, 9]], "uint8").images[0]
            for image, pose in ((one, 1 - given), *zip(three, wanted)):
                errors = {(who, how): error(image, who, how) for who in range(PEOPLE) for how in range(2)}
                right, second, *_ = sorted(errors, key=errors.get)
                assert right == (person, pose), "not the person of the source in the pose that was asked for"
                assert errors[right] < 0.5 * errors[second]
    assert np.mean(losses[-5:]) < 0.1 * losses[0]
