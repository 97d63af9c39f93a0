import inspect

import pytest
import torch

from reid_aug.errors import ConfigError
from reid_aug.generators.guidance import GUIDANCE, cumulative, disentangled, joint, source


def test_each_rule_is_its_formula_number_by_number():
    null, pose, only_source, both = torch.randn(4, 2, 3).double()
    w_p, w_s = 1.7, 2.3
    two = {"w_pose": w_p, "w_source": w_s}
    for i in range(2):
        for j in range(3):
            u, p, s, b = (float(x[i, j]) for x in (null, pose, only_source, both))
            values = {
                "disentangled": (u + w_p * (p - u) + w_s * (s - u), disentangled(null, pose, only_source, **two)),
                "cumulative": (u + w_p * (p - u) + w_s * (b - p), cumulative(null, pose, both, **two)),
                "joint": (u + w_p * (b - u), joint(null, both, w_joint=w_p)),
                "source": (p + w_s * (b - p), source(pose, both, w_source=w_s)),
            }  # fmt: skip
            for expected, tensor in values.values():
                assert tensor[i, j].item() == pytest.approx(expected)


def test_scales_of_one_give_the_fully_conditioned_prediction():
    null, pose, both = torch.randn(3, 5)
    assert torch.allclose(cumulative(null, pose, both, w_pose=1, w_source=1), both, atol=1e-6)
    assert torch.allclose(joint(null, both, w_joint=1), both, atol=1e-6)
    assert torch.allclose(source(pose, both, w_source=1), both, atol=1e-6)


def test_every_rule_names_the_branches_and_scales_that_it_takes():
    for name, rule in GUIDANCE.items():
        parameters = inspect.signature(rule.combine).parameters.values()
        predictions = [one for one in parameters if one.kind is not one.KEYWORD_ONLY]
        assert len(predictions) == len(rule.branches), name
        scales = {one.name for one in parameters if one.kind is one.KEYWORD_ONLY}
        assert set(rule.arguments(dict.fromkeys(rule.scales, 1.0))) == scales, name


@pytest.mark.parametrize("scale", [{"pose": 2.0}, {"pose": 2.0, "source": 2.0, "text": 1.0}, {}])
def test_missing_and_unknown_scales_are_named(scale):
    with pytest.raises(ConfigError, match=r"guidance_scale: `cumulative` guidance takes \{pose: \.\.\., source"):
        GUIDANCE["cumulative"].arguments(scale)
