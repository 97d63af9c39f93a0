import math

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from reid_aug.errors import DataError
from reid_aug.metrics.pose import correct_key_points


@settings(max_examples=50, deadline=None)
@given(st.integers(0, 10_000), st.integers(1, 4), st.integers(1, 18))
def test_share_equals_a_loop(seed, batch, joints):
    generator = torch.Generator().manual_seed(seed)
    wanted = torch.rand(batch, joints, 2, generator=generator) * torch.tensor([64.0, 128.0])
    predicted = wanted + torch.randn(batch, joints, 2, generator=generator) * 10
    seen = torch.rand(batch, joints, generator=generator) > 0.2
    asked = torch.rand(batch, joints, generator=generator) > 0.3
    asked[0, 0] = True
    right = total = 0
    for image in range(batch):
        for joint in range(joints):
            if asked[image, joint]:
                total += 1
                distance = math.dist(wanted[image, joint].tolist(), predicted[image, joint].tolist())
                right += bool(seen[image, joint]) and distance <= 12.8
    assert correct_key_points(predicted, seen, wanted, asked, 128) == pytest.approx(right / total)


def test_the_border_belongs_to_it():
    wanted, all_of_them = torch.zeros(1, 2, 2), torch.ones(1, 2, dtype=torch.bool)
    predicted = torch.tensor([[[10.0, 0.0], [10.1, 0.0]]])
    assert correct_key_points(predicted, all_of_them, wanted, all_of_them, 100) == 0.5
    assert correct_key_points(predicted, all_of_them, wanted, all_of_them, 100, tolerance=0.2) == 1.0


def test_input_that_does_not_fit_is_named():
    xy, visible = torch.zeros(2, 18, 2), torch.ones(2, 18, dtype=torch.bool)
    with pytest.raises(DataError, match=r"'wanted_xy': \[2, 17, 2\].* same images and joints"):
        correct_key_points(xy, visible, xy[:, :17], visible[:, :17], 128)
    with pytest.raises(DataError, match="`wanted_visible` is false everywhere"):
        correct_key_points(xy, visible, xy, ~visible, 128)
