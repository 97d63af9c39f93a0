import pytest
import torch
from generator_cases import SIZE, condition
from pydantic import ValidationError

from reid_aug.config import NoiseConfig, PidmConfig
from reid_aug.generators.attention import TextureDiffusionBlock
from reid_aug.generators.autoencoder import PixelCodec
from reid_aug.generators.pidm import PidmDenoiser

SMALL = {"image_size": SIZE, "channels": (16, 32), "texture_levels": (0, 1), "layers_per_level": 1, "dropout": 0.0}


def denoiser(seed: int = 0, **changes) -> PidmDenoiser:
    """A small denoiser whose zero-initialised layers are random, so that every input matters."""
    torch.manual_seed(seed)
    model = PidmDenoiser.build(PidmConfig(**{**SMALL, **changes}), NoiseConfig(), PixelCodec()).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            if not parameter.any():
                parameter.normal_(0, 0.3)
    return model


def test_the_texture_block_is_its_equation_token_by_token():
    torch.manual_seed(0)
    block = TextureDiffusionBlock(16, 16, heads=1)
    torch.nn.init.normal_(block.out.weight)
    hidden, texture = torch.randn(1, 16, 2, 3), torch.randn(1, 5, 16)
    found = block(hidden, texture, torch.tensor([True]))
    normed, source = block.norm(hidden), block.source_norm(texture)
    for row in range(2):
        for column in range(3):
            query = block.query(normed[0, :, row, column])
            scores = torch.stack([query @ block.key(token) / 16**0.5 for token in source[0]]).softmax(0)
            attended = sum(score * block.value(token) for score, token in zip(scores, source[0]))
            expected = block.out(attended) + hidden[0, :, row, column]
            assert torch.allclose(found[0, :, row, column], expected, atol=1e-5)


def test_a_dropped_source_leaves_the_texture_block_the_identity():
    block = TextureDiffusionBlock(16, 16, heads=2)
    torch.nn.init.normal_(block.out.weight)
    hidden, texture = torch.randn(2, 16, 2, 3), torch.randn(2, 5, 16)
    found = block(hidden, texture, torch.tensor([True, False]))
    assert torch.equal(found[1], hidden[1])
    assert not torch.allclose(found[0], hidden[0])


def test_learned_variance_doubles_the_output_and_a_denoiser_survives_saving(tmp_path):
    model = denoiser(learned_variance=True)
    noisy, steps = torch.randn(2, 3, *SIZE), torch.tensor([10, 700])
    encoded = model.encode(condition(), PixelCodec())
    with torch.no_grad():
        output = model(noisy, steps, encoded)
        model.save_pretrained(tmp_path)
        again = PidmDenoiser.from_pretrained(tmp_path).eval()(noisy, steps, encoded)
    assert output.shape == (2, 6, *SIZE)
    assert torch.equal(output, again)


def test_preconditioning_survives_saving(tmp_path):
    model = denoiser(precondition=True, learned_variance=False)
    noisy, steps = torch.randn(2, 3, *SIZE), torch.tensor([10, 700])
    encoded = model.encode(condition(), PixelCodec())
    with torch.no_grad():
        model.save_pretrained(tmp_path)
        again = PidmDenoiser.from_pretrained(tmp_path).eval()(noisy, steps, encoded)
        assert torch.equal(model(noisy, steps, encoded), again)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"learned_variance": True, "codec": "patch_pca"}, "`learned_variance` is for plain pixels"),
        ({"channels": (16, 30)}, "multiples of 16"),
    ],
)
def test_shapes_that_cannot_be(changes, message):
    with pytest.raises(ValidationError, match=message):
        PidmConfig(**{**SMALL, **changes})
