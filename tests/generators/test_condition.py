"""The part-warp prior of a condition."""

from dataclasses import replace

import numpy as np
import torch
from generator_cases import SIZE, condition, pose

from reid_aug.generators.condition import Condition
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.warp import warp_parts


def test_one_source_is_warped_into_each_of_its_persons_poses():
    given = condition(batch=2)
    rng = np.random.default_rng(1)
    targets = PoseBatch.stack([pose(rng) for _ in range(6)])  # three a person
    image, coverage = Condition(given.source, given.source_pose, targets).warped_source()
    for row in range(6):
        person = row // 3
        expected = warp_parts(given.source[person], given.source_pose.at([person]), targets.at([row]))
        assert torch.equal(image[row], expected[0][0])
        assert torch.equal(coverage[row], expected[1][0])


def test_a_later_source_fills_what_earlier_ones_leave_uncovered():
    given = condition(batch=2, sources=2)
    hidden = given.source_pose.visible.clone()
    hidden[0::2, 2:8] = False  # the first source of each person shows no arms
    poses = replace(given.source_pose, visible=hidden)
    image, coverage = Condition(given.source, poses, given.target_pose).warped_source()
    for person in range(2):
        target = given.target_pose.at([person])
        (first, own), (second, further) = (
            warp_parts(given.source[person, [number]], poses.at([2 * person + number]), target) for number in range(2)
        )
        assert (further - own).max() > 0.5  # there is something to fill
        for y in range(SIZE[0]):
            for x in range(SIZE[1]):
                before, after = own[0, 0, y, x].item(), max(own[0, 0, y, x].item(), further[0, 0, y, x].item())
                share = 0.0 if after == 0 else 1 - before / after
                mixed = (1 - share) * first[0, :, y, x] + share * second[0, :, y, x]
                assert torch.allclose(image[person, :, y, x], mixed, atol=1e-6)
                assert coverage[person, 0, y, x].item() == after
                if before == 0 and after > 0:
                    assert torch.allclose(image[person, :, y, x], second[0, :, y, x], atol=1e-6)
