"""What PIDM and PoCoLD share: how they see pose and source, and how these are dropped."""

import pytest
import torch
from generator_cases import SIZE, condition

from reid_aug.config import NoiseConfig, PidmConfig, PocoldConfig
from reid_aug.generators.autoencoder import PixelCodec
from reid_aug.generators.condition import Condition, Encoded
from reid_aug.generators.systems import build_denoiser
from reid_aug.generators.unet import SourceUNet

SMALL = {"image_size": SIZE, "codec": "pixels", "channels": (16, 32), "texture_levels": (0, 1), "layers_per_level": 1,
         "heads": 2}  # fmt: skip
CONFIGS = {
    "pidm": PidmConfig(**SMALL, dropout=0.0, learned_variance=False),
    "pocold": PocoldConfig(**SMALL, attention_rows=4),
}
STEPS = torch.tensor([10, 700])


@pytest.fixture(params=["pidm", "pocold"])
def system(request) -> str:
    return request.param


def denoiser(system: str, warp_prior: bool = False) -> SourceUNet:
    """A small denoiser whose zero-initialised layers are random, so that every input matters."""
    torch.manual_seed(0)
    config = CONFIGS[system].model_copy(update={"warp_prior": warp_prior})
    model = build_denoiser(config, NoiseConfig(), PixelCodec()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.3)
    return model


def predict(model: SourceUNet, encoded: Encoded) -> torch.Tensor:
    noisy = torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0))
    with torch.no_grad():
        return model(noisy, STEPS, encoded)


@pytest.mark.parametrize("warp_prior", [False, True])
def test_dropping_a_condition_makes_the_output_blind_to_it(system, warp_prior):
    model = denoiser(system, warp_prior)
    first, second = (model.encode(condition(seed=seed), PixelCodec()) for seed in (1, 2))
    both = predict(model, first)

    def taking(*names: str, **kept: bool) -> torch.Tensor:
        """The prediction for the first condition with these tensors of the second."""
        mixed = Encoded({**first.tensors, **{name: second.tensors[name] for name in names}}, *flags)
        return predict(model, mixed.kept(**kept) if kept else mixed)

    flags = first.keep_pose, first.keep_source
    source = [name for name in first.tensors if name.startswith(("texture", "warp"))]
    for name in ("pose", *source):
        assert not torch.allclose(taking(name), both, atol=1e-4), f"the {name} has no effect"
    assert torch.equal(taking("pose", pose=False, source=True), predict(model, first.kept(False, True)))
    assert torch.equal(taking(*source, pose=True, source=False), predict(model, first.kept(True, False)))
    assert torch.equal(*(predict(model, encoded.kept(False, False)) for encoded in (first, second)))


def test_flags_act_sample_by_sample(system):
    model, flags = denoiser(system, warp_prior=True), torch.tensor([True, False])
    encoded = model.encode(condition(seed=3), PixelCodec())
    mixed, kept, dropped = (predict(model, encoded.kept(flag, flag)) for flag in (flags, True, False))
    assert torch.allclose(mixed[0], kept[0], atol=1e-5)
    assert torch.allclose(mixed[1], dropped[1], atol=1e-5)


def test_several_sources_are_more_tokens_and_their_order_does_not_matter(system):
    model, two = denoiser(system), condition(sources=2)
    swapped = Condition(two.source.flip(1), two.source_pose.at([1, 0, 3, 2]), two.target_pose)
    encoded, other = (model.encode(given, PixelCodec()) for given in (two, swapped))
    assert encoded.tensors["texture_0"].shape[1] == 2 * SIZE[0] * SIZE[1]
    assert torch.allclose(predict(model, encoded), predict(model, other), atol=1e-4)
