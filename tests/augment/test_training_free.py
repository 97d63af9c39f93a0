from __future__ import annotations

import numpy as np
import pytest
import torch
from augment_cases import pose
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from reid_aug.augment.training_free import CopyAugmenter, WarpAugmenter, fill_hole
from reid_aug.errors import ConfigError
from reid_aug.pose import skeleton
from reid_aug.records import Pose

RED, GREEN, BLUE = (torch.tensor(colour, dtype=torch.uint8)[:, None, None] for colour in
                    ((200, 0, 0), (0, 200, 0), (0, 0, 200)))  # fmt: skip


def moved(by: float) -> Pose:
    """The standing person, ``by`` pixels further right."""
    still = pose(shake=0)
    return Pose(still.xy + np.float32([by, 0]), still.visible, still.image_size)


def without(joints, shape: Pose) -> Pose:
    visible = shape.visible.copy()
    visible[list(joints)] = False
    return Pose(np.where(visible[:, None], shape.xy, 0).astype(np.float32), visible, shape.image_size)


def red_person_on_green(shape: Pose) -> torch.Tensor:
    """[1, 3, 128, 64]: red within 16 pixels of a joint."""
    rows, columns = np.mgrid[:128, :64]
    near = np.min([np.hypot(columns - x, rows - y) for x, y in shape.xy], axis=0) < 16
    return torch.where(torch.from_numpy(near), RED, GREEN)[None]


def call(pipe, source, source_pose, target_pose, **extra):
    return pipe(
        source=source, source_pose=source_pose, target_pose=target_pose, seeds=[0] * len(source), **extra
    ).images


def test_the_person_moves_to_the_target_over_the_background():
    source = red_person_on_green(moved(-10))
    image = call(WarpAugmenter(), source, [moved(-10)], [moved(12)], output_type="uint8")[0].int()
    assert image.shape == (3, 128, 64)
    centre = moved(12).xy[[skeleton.NECK, skeleton.LEFT_HIP, skeleton.LEFT_KNEE]].astype(int)
    for x, y in centre:
        assert image[0, y, x] > 150 > 60 > image[1, y, x], "red where the person is asked to be"
    x, y = moved(-10).xy[skeleton.RIGHT_KNEE].astype(int)
    assert image[1, y, x] > image[0, y, x], "the place that was left shows background"
    assert image[1, 2, 60] > 190, "what never was the person is untouched"


def test_an_image_does_not_depend_on_its_batch():
    source = torch.randint(0, 256, (5, 3, 64, 32), generator=torch.Generator().manual_seed(0)).byte()
    source_poses, target_poses = [pose(k) for k in range(5)], [pose(k + 9) for k in range(5)]
    together = call(WarpAugmenter(), source, source_poses, target_poses, output_type="uint8")
    for k in range(5):
        part = slice(k, k + 1)
        alone = call(WarpAugmenter(), source[part], source_poses[part], target_poses[part], output_type="uint8")
        assert torch.equal(together[part], alone)


def test_a_hidden_arm_is_taken_from_the_other_side():
    """Both arms are blue; hiding one in the source must not change its colour in the result."""
    whole = pose(shake=0)
    arms = [skeleton.RIGHT_ELBOW, skeleton.RIGHT_WRIST, skeleton.LEFT_ELBOW, skeleton.LEFT_WRIST]
    rows, columns = np.mgrid[:128, :64]
    on_arm = np.min([np.hypot(columns - x, rows - y) for x, y in whole.xy[arms]], axis=0) < 9
    source = torch.where(torch.from_numpy(on_arm), BLUE, red_person_on_green(whole)[0])[None]
    hidden = without([skeleton.LEFT_ELBOW, skeleton.LEFT_WRIST], whole)
    raised = Pose(whole.xy.copy(), whole.visible, whole.image_size)
    raised.xy[[skeleton.LEFT_ELBOW, skeleton.LEFT_WRIST]] = (52, 26), (58, 12)
    image = call(WarpAugmenter(), source, [hidden], [raised], output_type="uint8")[0].int()
    assert image[2, 15, 57] > 120 > image[1, 15, 57]


def test_a_pose_with_almost_nothing_visible_gives_an_image():
    only_nose = without(range(1, 18), pose())
    source = torch.full((1, 3, 32, 16), 90, dtype=torch.uint8)
    assert torch.equal(call(WarpAugmenter(), source, [only_nose], [pose()], output_type="uint8"), source)


@pytest.mark.parametrize("kind", [WarpAugmenter, CopyAugmenter])
def test_pil_in_and_out_equals_tensors(kind):
    source = torch.randint(0, 256, (2, 3, 64, 32), generator=torch.Generator().manual_seed(1)).byte()
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in source]
    poses = [pose(1), pose(2)], [pose(3), pose(4)]
    expected = call(kind(), source, *poses, output_type="uint8")
    drawn = call(kind(), pictures, *poses)
    assert torch.equal(torch.stack([torch.from_numpy(np.array(image)).permute(2, 0, 1) for image in drawn]), expected)


def test_copies_are_the_sources():
    source = torch.randint(0, 256, (3, 3, 64, 32), generator=torch.Generator().manual_seed(2)).byte()
    poses = [pose(k) for k in range(3)]
    assert torch.equal(call(CopyAugmenter(), source, poses, poses[::-1], output_type="uint8"), source)


def test_the_two_are_told_apart_in_a_manifest():
    assert WarpAugmenter().digest != CopyAugmenter().digest
    assert WarpAugmenter().describe() == {
        "sampler": "WarpAugmenter", "steps": 0, "guidance": "none", "guidance_scale": {},
    }  # fmt: skip


def test_an_unknown_output_type_is_an_error():
    with pytest.raises(ConfigError, match=r"`output_type`: 'jpeg' is unknown. Use pil or uint8"):
        call(CopyAugmenter(), torch.zeros(1, 3, 8, 4, dtype=torch.uint8), [pose()], [pose()], output_type="jpeg")


def test_a_sampling_setting_is_an_error():
    with pytest.raises(ConfigError, match=r"WarpAugmenter has none, but `num_inference_steps` is given\. Leave it out"):
        WarpAugmenter().describe(num_inference_steps=20)
    with pytest.raises(ConfigError, match=r"CopyAugmenter has none, but `guidance` is given"):
        call(CopyAugmenter(), torch.zeros(1, 3, 8, 4, dtype=torch.uint8), [pose()], [pose()], guidance="joint")


# --- filling ------------------------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    height=st.integers(1, 40), width=st.integers(1, 40), share=st.floats(0, 1), seed=st.integers(0, 1000)
)  # fmt: skip
def test_a_hole_is_filled_within_the_range_of_what_is_known(height, width, share, seed):
    generator = torch.Generator().manual_seed(seed)
    image = torch.rand(2, 3, height, width, generator=generator) * 2 - 1
    known = (torch.rand(2, 1, height, width, generator=generator) < share).float()
    known[:, :, 0, 0] = 1
    filled = fill_hole(image, known)
    assert torch.equal(torch.where(known.bool(), image, 0), torch.where(known.bool(), filled, 0))
    for k in range(2):
        inside = image[k][:, known[k, 0].bool()]
        assert (filled[k] >= inside.amin(1)[:, None, None] - 1e-4).all()
        assert (filled[k] <= inside.amax(1)[:, None, None] + 1e-4).all()


def test_a_hole_in_one_colour_gets_that_colour():
    known = torch.ones(1, 1, 128, 64)
    known[:, :, 10:120, 5:60] = 0
    image = torch.full((1, 3, 128, 64), 0.3) * known - 5 * (1 - known)
    torch.testing.assert_close(fill_hole(image, known), torch.full((1, 3, 128, 64), 0.3))


def test_nothing_known_is_filled_with_nothing():
    assert torch.equal(fill_hole(torch.rand(1, 3, 9, 5), torch.zeros(1, 1, 9, 5)), torch.zeros(1, 3, 9, 5))
