import math

import numpy as np
import pytest
import torch
from generator_cases import SIZE, SYSTEMS, difference, inputs, pose, system_pipe
from PIL import Image

from reid_aug.errors import CheckpointError, DataError
from reid_aug.generators.condition import Encoded
from reid_aug.generators.pipeline import PosePipeline
from reid_aug.generators.tasks import REGIONS, Blend, Reference, slerp
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.render import part_map
from reid_aug.pose.skeleton import PARTS
from reid_aug.records import Pose


@pytest.fixture(scope="module", params=SYSTEMS)
def pipe(request) -> PosePipeline:
    """Each of the systems in turn."""
    return system_pipe(request.param)


@pytest.fixture(scope="module")
def pidm() -> PosePipeline:
    return system_pipe("pidm")


def test_a_pose_alone_makes_the_person_that_a_dropped_source_makes(pipe):
    """Weight 0 on the source's share of the guidance leaves what the pose says, whatever the source."""
    alone = pipe(**{**inputs(), "source": None, "source_pose": None}).images
    for seed in (1, 2):
        given = {**inputs(), "source": inputs(seed=seed)["source"]}
        made = pipe(**given, guidance="cumulative", guidance_scale={"pose": 2.0, "source": 0.0}).images
        assert difference(alone, made) <= 1
    assert difference(alone, pipe(**inputs()).images) > 8


def test_several_people_from_their_poses(pipe):
    rng = np.random.default_rng(3)
    poses = [[pose(rng) for _ in range(4)] for _ in range(2)]
    seeds = [[1, 2, 3, 4], [5, 6, 7, 8]]
    made = pipe(None, None, poses, seeds, "uint8").images
    assert made.shape == (2, 4, 3, *SIZE)
    assert difference(made[1:], pipe(None, None, poses[1:], seeds[1:], "uint8").images) <= 1
    assert difference(made[0, 0], made[0, 1]) > 8


@pytest.mark.parametrize(
    ("guidance", "scale"),
    [("disentangled", {"pose": 2.0, "source": 3.0}), ("joint", {"joint": 2.0}), ("source", {"source": 4.0})],
)
def test_pose_alone_follows_every_guidance(pidm, guidance, scale):
    """Without a source its difference vanishes: what is left is null + w (pose - null), or the pose's prediction."""
    arguments = {**inputs(), "source": None, "source_pose": None}
    made = pidm(**arguments, guidance=guidance, guidance_scale=scale).images
    pose_scale = scale.get("pose", scale.get("joint", 1.0))
    expected = pidm(**arguments, guidance="cumulative", guidance_scale={"pose": pose_scale, "source": 9.0}).images
    assert difference(made, expected) <= 1


@pytest.mark.parametrize("sampler", ["DDIMScheduler", "DDPMScheduler", "PNDMScheduler", "EulerDiscreteScheduler"])
def test_masks_of_one_and_of_zero(pidm, sampler):
    settings = {"sampler": sampler, "steps": 5}
    plain, reference = pidm(**inputs(), **settings).images, inputs(seed=5)["source"]
    ones, zeros = torch.ones(SIZE), torch.zeros(3, *SIZE, dtype=torch.bool)
    assert torch.equal(pidm(**inputs(), reference=reference, mask=ones, **settings).images, plain)
    assert torch.equal(pidm(**inputs(), reference=reference, mask=zeros, **settings).images, reference)


def test_the_reference_stays_where_the_mask_is_zero_and_is_seen_where_it_is_one(pipe):
    mask = torch.zeros(SIZE)
    mask[15:] = 1  # also through the middle of 4x4 patches
    reference, other = inputs(seed=5)["source"], inputs(seed=6)["source"]
    made = pipe(**inputs(), reference=reference, mask=mask).images
    assert torch.equal(made[..., :15, :], reference[..., :15, :])
    assert difference(made[..., 15:, :], reference[..., 15:, :]) > 8
    seen = pipe(**inputs(), reference=other, mask=mask).images
    assert difference(made[..., 16:, :], seen[..., 16:, :]) > 8


def test_half_a_mask_is_half_of_each(pidm):
    reference = inputs(seed=5)["source"]
    half = Reference(reference, torch.full((3, 1, *SIZE), 0.5)).around(inputs()["source"])
    expected = (reference.numpy().astype(float) + inputs()["source"].numpy()) / 2
    assert np.abs(half.numpy() - expected).max() <= 0.5


@pytest.mark.parametrize("region", REGIONS)
def test_a_region_is_drawn_around_the_joints_of_the_target_pose(pidm, region):
    asked, reference = inputs(), inputs(seed=5)["source"]
    made = pidm(**asked, reference=reference, mask=region).images
    for image, kept, target in zip(made, reference, asked["target_pose"]):
        numbers = part_map(PoseBatch.stack([target]), SIZE)[0]
        for row in range(SIZE[0]):
            for column in range(SIZE[1]):
                number = int(numbers[row, column])
                name = PARTS[number - 1].name if number else ""
                inside = {
                    "head": name == "head", "upper": name == "torso" or "arm" in name, "lower": "leg" in name,
                    "person": number > 0,
                }[region]  # fmt: skip
                if not inside:
                    assert torch.equal(image[:, row, column], kept[:, row, column])
    drawn = (made != reference).any(1).float().mean().item()
    assert drawn > {"head": 0.01, "upper": 0.1, "lower": 0.1, "person": 0.2}[region]


def test_interpolation_ends_at_the_two_sources(pipe):
    first = inputs()
    second = {**inputs(seed=1), "target_pose": first["target_pose"], "seeds": [7, 8, 9]}
    ends = [pipe(**first).images, pipe(**second).images]

    def between(amount) -> torch.Tensor:
        blend = Blend(second["source"], second["source_pose"], amount, second["seeds"])
        return pipe(**first, blend=blend).images

    assert torch.equal(between(0.0), ends[0])
    assert torch.equal(between(1.0), ends[1])
    mixed = between([0.0, 0.5, 1.0])
    assert torch.equal(mixed[0], ends[0][0])
    assert torch.equal(mixed[2], ends[1][2])
    assert min(difference(mixed[1], end[1]) for end in ends) > 4


def test_interpolation_without_seeds_keeps_the_noise(pipe):
    first, second = inputs(), inputs(seed=1)
    made = pipe(**first, blend=Blend(second["source"], second["source_pose"], 1.0)).images
    assert torch.equal(made, pipe(**{**second, "target_pose": first["target_pose"]}).images)


def test_conditions_mix_number_by_number():
    kept = torch.ones(2, dtype=torch.bool)
    ends = [{"a": torch.randn(2, 3, 4), "b": torch.randn(2, 5)} for _ in range(2)]
    first, second = (Encoded(tensors, kept, kept) for tensors in ends)
    mixed = first.lerp(second, torch.tensor([0.25, 0.75])).tensors
    for k, amount in enumerate((0.25, 0.75)):
        for name in "ab":
            expected = (1 - amount) * ends[0][name][k] + amount * ends[1][name][k]
            assert torch.allclose(mixed[name][k], expected, atol=1e-6)


def test_slerp_is_its_formula():
    rng = np.random.default_rng(0)
    first, second = rng.normal(size=(2, 4, 3, 2, 2))
    amounts = [0.0, 0.3, 0.5, 1.0]
    found = slerp(torch.from_numpy(first), torch.from_numpy(second), torch.tensor(amounts)).numpy()
    for k, amount in enumerate(amounts):
        one, two = first[k].flatten(), second[k].flatten()
        angle = math.acos(sum(one * two) / math.sqrt(sum(one * one) * sum(two * two)))
        expected = (math.sin((1 - amount) * angle) * one + math.sin(amount * angle) * two) / math.sin(angle)
        assert np.allclose(found[k].flatten(), expected, atol=1e-6)


def test_slerp_of_a_noise_with_itself_is_that_noise():
    noise = torch.randn(2, 3, 4)
    assert torch.allclose(slerp(noise, noise, torch.tensor([0.3, 0.9])), noise)


def test_the_same_source_twice_is_one_source(pipe):
    plain = inputs()
    twice = {
        **plain,
        "source": plain["source"][:, None].repeat(1, 2, 1, 1, 1),
        "source_pose": [[pose, pose] for pose in plain["source_pose"]],
    }
    assert difference(pipe(**twice).images, pipe(**plain).images) <= 1


def test_a_second_source_matters_as_tensor_or_as_pictures(pipe):
    plain, other = inputs(), inputs(seed=1)
    both = {
        **plain,
        "source": torch.stack([plain["source"], other["source"]], 1),
        "source_pose": [list(pair) for pair in zip(plain["source_pose"], other["source_pose"])],
    }
    made = pipe(**both).images
    assert difference(made, pipe(**plain).images) > 2  # the same source twice leaves at most 1
    pictures = [[Image.fromarray(image.permute(1, 2, 0).numpy()) for image in pair] for pair in both["source"]]
    assert torch.equal(pipe(**{**both, "source": pictures}).images, made)


def test_several_poses_are_as_many_calls_unless_they_are_made_together(pipe):
    plain, rng = inputs(2), np.random.default_rng(3)
    poses = [[pose(rng) for _ in range(3)] for _ in range(2)]
    seeds = [[1, 2, 3], [4, 5, 6]]
    together = {**plain, "target_pose": poses, "seeds": seeds}
    made = pipe(**together).images
    assert made.shape == (2, 3, 3, *SIZE)
    for k in range(3):
        alone = pipe(**{**plain, "target_pose": [row[k] for row in poses], "seeds": [row[k] for row in seeds]}).images
        assert (difference(made[:, k], alone) <= 1) == (not hasattr(pipe.denoiser, "slots"))
    pictures = pipe(**{**together, "output_type": "pil"}).images
    assert np.array_equal(np.array(pictures[1][2]), made[1, 2].permute(1, 2, 0).numpy())


def test_several_poses_with_references_and_a_second_source(pipe):
    plain, other, rng = inputs(2), inputs(2, seed=1), np.random.default_rng(3)
    poses = [[pose(rng) for _ in range(2)] for _ in range(2)]
    nested = {**plain, "target_pose": poses, "seeds": [[1, 2], [3, 4]]}
    reference = torch.stack([plain["source"], other["source"]], 1)
    kept = pipe(**nested, reference=reference, mask=torch.zeros(2, 2, *SIZE)).images
    assert torch.equal(kept, reference)
    blend = Blend(other["source"], other["source_pose"], [0.0, 1.0])
    mixed = pipe(**nested, blend=blend).images
    second = pipe(**{**nested, "source": other["source"], "source_pose": other["source_pose"]}).images
    assert difference(mixed[0], pipe(**nested).images[0]) <= 1
    assert difference(mixed[1], second[1]) <= 1


def test_values_that_are_no_numbers_are_not_made_into_pictures(pidm, monkeypatch):
    forward = pidm.denoiser.forward

    def broken(noisy, timestep, condition):
        output = forward(noisy, timestep, condition)
        output[1::3] = torch.nan  # the second of three images, in every branch
        return output

    monkeypatch.setattr(pidm.denoiser, "forward", broken)
    with pytest.raises(CheckpointError, match=r"image 1: sampling ended in NaN .* Sample in float32"):
        pidm(**inputs())


OUTSIDE = Pose(np.full((18, 2), 99.0, np.float32), np.ones(18, bool), SIZE)
NOBODY = Pose(np.zeros((18, 2), np.float32), np.zeros(18, bool), SIZE)
LISTS = [[one, two] for one, two in zip(inputs()["target_pose"], inputs(seed=1)["target_pose"])]
FOUR = torch.zeros(4, 3, *SIZE, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"target_pose": [*inputs(2)["target_pose"], OUTSIDE]}, r"target_pose: pose 2 lies outside its image of 32x16"),
        ({"source_pose": [NOBODY, *inputs(2)["target_pose"]]}, r"source_pose: poses\[0\]: visible has no joint"),
        ({"source": None}, r"source_pose: given without a source\. Leave it None"),
        ({"source_pose": None}, r"target_pose, seeds: 3, 0, 3 and 3 given"),
        ({"source": FOUR}, r"seeds: 4, 3, 3 and 3 given"),
        ({"source_pose": LISTS}, r"1 images and 2 poses a person"),
        ({"target_pose": LISTS}, r"a list of poses and a list of as many seeds"),
        ({"target_pose": [LISTS[0], LISTS[1][:1], LISTS[2]]}, r"target_pose: lists of different length"),
        ({"target_pose": [LISTS[0], *inputs(2)["target_pose"]]}, r"target_pose: lists of different length, or none"),
        ({"reference": FOUR}, r"one given without the other"),
        ({"mask": torch.ones(SIZE)}, r"one given without the other"),
        ({"reference": FOUR, "mask": torch.ones(SIZE)}, r"reference: 4 images for the 3 that are made"),
        ({"reference": FOUR[:3], "mask": torch.ones(16, 32)}, r"mask: \(16, 32\), expected \(32, 16\).*Resize it"),
        ({"reference": FOUR[:3], "mask": torch.ones(2, *SIZE)}, r"mask: \(2, 32, 16\), expected .* each of 3 images"),
        ({"reference": FOUR[:3], "mask": Image.new("L", (16, 32))}, r"mask: a Image\. Give a tensor \[32, 16\]"),
        ({"reference": FOUR[:3], "mask": ["upper"] * 3}, r"mask: a list\. .* or one of head, upper, lower, person"),
        ({"source": Image.new("RGB", (16, 32))}, r"source: a Image\. Give a list"),
        ({"source": [FOUR[0].numpy()] * 3}, r"source: a ndarray\. Give PIL images, or all in one uint8 tensor"),
        ({"target_pose": inputs()["target_pose"][0]}, r"target_pose: a Pose\. Give a list"),
        ({"seeds": 0}, r"seeds: a int\. Give a list"),
        ({"reference": FOUR[:3], "mask": "trousers"}, r"mask: 'trousers' is no region .* Use head, upper, lower"),
        ({"reference": FOUR[:3], "mask": torch.full(SIZE, 255)}, r"mask: values outside 0\.\.1"),
        ({"blend": Blend(FOUR[:3], inputs()["source_pose"], 1.5)}, r"blend\.amount: 1\.5\. Give one number"),
        ({"blend": Blend(FOUR[:3], inputs()["source_pose"], [0.5] * 2)}, r"one for each of 3 people"),
        ({"blend": Blend(FOUR[:3, None].repeat(1, 2, 1, 1, 1), LISTS, 0.5)}, r"blend\.source: \(3, 2\) people"),
        (
            {"source": None, "source_pose": None, "blend": Blend(FOUR[:3], inputs()["source_pose"], 0.5)},
            r"the source has none\. Give equally many",
        ),
    ],
)
def test_bad_requests(pidm, change, message):
    with pytest.raises(DataError, match=message):
        pidm(**{**inputs(), **change})
