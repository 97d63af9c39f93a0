"""A small generator learns eight pairs by heart, and then follows its pose and its source."""

from pathlib import Path

import numpy as np
import pytest
import torch
from generator_cases import SIZE, STANDING, ArrayImages
from torch.nn.functional import avg_pool2d

from reid_aug.config import GeneratorConfig, build_config
from reid_aug.generators.autoencoder import make_codec
from reid_aug.generators.objective import Objective
from reid_aug.generators.pipeline import PosePipeline
from reid_aug.generators.systems import build_denoiser
from reid_aug.generators.training import train_generator
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import part_map
from reid_aug.records import Pose, Sample, Samples

IDENTITIES, POSES = 4, 2
SYSTEMS = {
    "pidm": {"channels": (32, 64), "texture_levels": (0, 1), "dropout": 0.0, "learned_variance": False},
    "pocold": {"channels": (32, 64), "texture_levels": (0, 1), "heads": 2, "attention_rows": 16,
               "constraint_weight": 0.001},
}  # fmt: skip


def drawn_people() -> tuple[Samples, ArrayImages, list[tuple[str, str]], torch.Tensor]:
    """Four people in the same two poses, drawn in three colours of their own, slightly blurred.

    Neither the pose tells the person nor the person the pose: a generator needs both its source and its pose.

    Returns:
        Samples, images, the eight pairs from one pose to the other, and the images as [identity, pose, 3, H, W].
    """
    rng = np.random.default_rng(0)
    left, right = STANDING - [2, 0], STANDING + [2, 0]
    right[[3, 4, 6, 7], 1] -= 6  # with raised arms
    poses = [Pose(np.clip(xy, 0, [15, 31]).astype(np.float32), np.ones(18, bool), SIZE) for xy in (left, right)]
    parts = part_map(PoseBatch.stack(poses), SIZE)
    samples, of_sample, pixels = [], {}, []
    for pid in range(IDENTITIES):
        skin, top, bottom = torch.from_numpy(rng.uniform(0, 255, (3, 3)))
        palette = torch.stack([torch.full((3,), 128.0), top, skin, *[top] * 4, *[bottom] * 4])  # background, PARTS
        for index in range(POSES):
            sample = Sample(Path(f"{pid:04d}_c1s1_{index:06d}_00.jpg"), pid, 1)
            samples.append(sample)
            of_sample[sample.name] = poses[index]
            drawn = palette[parts[index]].permute(2, 0, 1)
            pixels.append(avg_pool2d(drawn[None], 3, stride=1, padding=1, count_include_pad=False)[0])
    pixels = torch.stack(pixels).to(torch.uint8)
    pairs = [(a.name, b.name) for a in samples for b in samples if a.pid == b.pid and a is not b]
    return Samples(samples, of_sample), ArrayImages(pixels), pairs, pixels.unflatten(0, (IDENTITIES, POSES))


def settings(system: str) -> GeneratorConfig:
    return build_config(
        GeneratorConfig,
        {
            "model": {"system": system, "image_size": SIZE, "codec": "patch_pca", "layers_per_level": 1,
                      "precondition": True, **SYSTEMS[system]},
            "noise": {"prediction": "v_prediction", "zero_terminal_snr": True, "min_snr_gamma": 5.0},
            "training": {"iterations": 300, "batch_size": 16, "learning_rate": 2e-3, "schedule": "cosine",
                         "warmup": 20, "ema_decay": 0.98, "flip": 0.0, "drop": 0.0, "sample_every": 1000},
            "sampling": {"steps": 5, "guidance": "joint", "guidance_scale": {"joint": 1.0}},
        },
    )  # fmt: skip


def untrained(settings: GeneratorConfig, images: torch.Tensor) -> PosePipeline:
    codec = make_codec(settings.model, images)
    denoiser = build_denoiser(settings.model, settings.noise, codec).eval()
    scheduler = Objective(settings.noise).scheduler
    return PosePipeline(denoiser, codec, scheduler, settings.sampling.model_dump(), SIZE)


@pytest.mark.slow
@pytest.mark.parametrize("system", SYSTEMS)
def test_eight_pairs_are_learnt_and_pose_and_source_are_followed(system, tmp_path):
    samples, images, pairs, people = drawn_people()
    assert len(pairs) == 8
    losses = []
    pipe = train_generator(
        samples, images, pairs, settings(system), tmp_path, progress=lambda done, loss: losses.append(loss)
    )
    # Preconditioned, the untrained network is the Wiener filter already: its images tell more than its loss.
    assert losses[-1] < 0.4 * losses[0]

    def made(identity: int, source_pose: int, target_pose: int, pipe: PosePipeline = pipe) -> torch.Tensor:
        poses = [samples.poses[samples[pose].name] for pose in (source_pose, target_pose)]
        source = people[identity, source_pose][None]
        return pipe(source, [poses[0]], [poses[1]], seeds=[7], output_type="uint8").images[0]

    def error(image: torch.Tensor, identity: int, pose: int) -> float:
        return (image.float() - people[identity, pose].float()).square().mean().item()

    start = untrained(settings(system), images.pixels)
    for identity in range(IDENTITIES):
        for source, target in ((0, 1), (1, 0)):
            image = made(identity, source, target)
            errors = {(who, pose): error(image, who, pose) for who in range(IDENTITIES) for pose in range(POSES)}
            right, next_best, *_ = sorted(errors, key=errors.get)
            assert right == (identity, target), "not the person of the source in the pose that was asked for"
            assert errors[right] < 0.25 * errors[next_best]
            assert errors[right] < 0.1 * error(made(identity, source, target, start), identity, target)
            unmoved = made(identity, source, source)
            assert error(unmoved, identity, target) > 4 * errors[right], "another pose makes no difference"
