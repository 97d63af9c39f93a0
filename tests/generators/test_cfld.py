import shutil

import pytest
import timm
import torch
from diffusers import UNet2DConditionModel
from generator_cases import SIZE, condition, config, shake, training_set
from pydantic import ValidationError
from safetensors.torch import save_file
from small_stable_diffusion import write_stable_diffusion

from reid_aug.config import CfldConfig, GeneratorConfig, NoiseConfig, load_config
from reid_aug.errors import CheckpointError, ConfigError
from reid_aug.generators.attention import HybridGranularityProcessor
from reid_aug.generators.autoencoder import PixelCodec, VaeCodec
from reid_aug.generators.cfld import AppearanceEncoder, CfldDenoiser
from reid_aug.generators.condition import Encoded
from reid_aug.generators.encoders import PyramidEncoder
from reid_aug.generators.pipeline import load_generator
from reid_aug.generators.training import train_generator

SWIN = {"embed_dim": 16, "depths": [1, 1, 1, 1], "num_heads": [1, 1, 1, 1], "window_size": 2}
SMALL = {
    "image_size": SIZE, "codec": "pixels", "channels": (16, 32, 32), "layers_per_level": 1, "heads": 2,
    "prompt_channels": 16, "encoder": "swin_tiny_patch4_window7_224", "encoder_size": (64, 32),
    "encoder_arguments": SWIN, "queries": 3, "decoder_blocks": 1, "decoder_heads": 2, "appearance_layers": 1,
}  # fmt: skip


def denoiser(seed: int = 0, shaken: bool = True, **changes) -> CfldDenoiser:
    torch.manual_seed(seed)
    model = CfldDenoiser.build(CfldConfig(**{**SMALL, **changes}), NoiseConfig(), PixelCodec()).eval()
    if shaken:
        shake(model)
    else:
        shake(model.unet.conv_out)
    return model


def inputs() -> tuple[torch.Tensor, torch.Tensor]:
    return torch.randn(2, 3, *SIZE, generator=torch.Generator().manual_seed(0)), torch.tensor([10, 700])


def replaced(encoded: Encoded, **tensors: torch.Tensor) -> Encoded:
    return Encoded({**encoded.tensors, **tensors}, encoded.keep_pose, encoded.keep_source)


def test_biased_attention_is_its_equation_token_by_token():
    model = denoiser()
    attention = model.unet.up_blocks[-1].attentions[0].transformer_blocks[0].attn2
    assert attention.processor.scale == 0
    tokens, prompt, bias = torch.randn(1, 5, 16), torch.randn(1, 3, 16), torch.randn(1, 5, 16)
    with torch.no_grad():
        found = attention(tokens, prompt, biases=[bias])
        for i in range(5):
            attended = []
            for head in (slice(0, 8), slice(8, 16)):
                query = (attention.to_q(tokens[0, i]) + bias[0, i])[head]
                scores = torch.stack([query @ attention.to_k(prompt[0, j])[head] / 8**0.5 for j in range(3)]).softmax(0)
                attended.append(sum(score * attention.to_v(prompt[0, j])[head] for j, score in enumerate(scores)))
            assert torch.allclose(found[0, i], attention.to_out[0](torch.cat(attended)), atol=1e-5)


def test_zero_convolutions_make_the_bias_nothing_at_the_start():
    """With them, the untrained UNet is the plain one of diffusers, with its own attention processors."""
    model = denoiser(shaken=False)
    encoded = model.encode(condition(), PixelCodec())
    assert all(not encoded.tensors[f"bias_{scale}"].any() for scale in range(2))
    plain = UNet2DConditionModel.from_config(model.unet.config)
    plain.load_state_dict(model.unet.state_dict())
    noisy, steps = inputs()
    with torch.no_grad():
        residuals = [encoded.tensors[f"pose_{level}"] for level in range(3)]
        expected = plain.eval()(
            noisy, steps, encoded.tensors["prompt"], down_intrablock_additional_residuals=residuals
        ).sample
        assert torch.allclose(model(noisy, steps, encoded), expected, atol=1e-4)
        shake(model.appearance)
        assert not torch.allclose(model(noisy, steps, model.encode(condition(), PixelCodec())), expected, atol=1e-3)


def test_the_prompt_of_an_untrained_denoiser_tells_sources_apart():
    """Were it nearly the same for all, a UNet from scratch would learn to do without it."""
    prompts = denoiser(shaken=False).encode(condition(batch=8), PixelCodec()).tensors["prompt"]
    assert (prompts - prompts.mean(0)).square().mean() > 0.1 * prompts.square().mean()


def test_the_prompt_knows_places_but_no_order_of_sources():
    decoder = denoiser(shaken=False).decoder
    tokens = torch.randn(2, 2, 2, 128)  # two people, two sources of each, two places
    torch.nn.init.normal_(decoder.places)
    with torch.no_grad():
        prompt = decoder(tokens)
        assert torch.allclose(decoder(tokens.flip(1)), prompt, atol=1e-5)
        assert not torch.allclose(decoder(tokens.flip(2)), prompt, atol=1e-3)


def test_zero_convolutions_learn():
    model = denoiser(shaken=False)
    noisy, steps = inputs()
    model(noisy, steps, model.encode(condition(), PixelCodec())).square().mean().backward()
    for encoder in model.appearance:
        assert encoder.zero_out.weight.grad.any()


@pytest.mark.parametrize("width", [24, 96, 112])
def test_appearance_encoders_of_any_width(width):
    encoder = AppearanceEncoder(width, 16, layers=1)
    shake(encoder)
    with torch.no_grad():
        assert encoder(torch.randn(2, width, 4, 2), (2, 1)).shape == (2, 2, 16)


def test_each_scale_biases_its_up_sampling_block():
    model = denoiser(channels=(16, 32, 32, 32, 32))
    assert model.levels == [0, 1, 2]
    scales = {}
    for name, processor in model.unet.attn_processors.items():
        assert isinstance(processor, HybridGranularityProcessor)
        scales.setdefault(processor.scale, set()).add((name.split(".")[0], name.split(".")[1], name.split(".")[-2]))
    assert scales[0] == {("up_blocks", "4", "attn2")}
    assert scales[1] == {("up_blocks", "3", "attn2")}
    assert scales[2] == {("up_blocks", "2", "attn2")}
    tensors = model.encode(condition(), PixelCodec()).tensors
    assert [tuple(tensors[f"bias_{scale}"].shape) for scale in range(3)] == [(2, 512, 16), (2, 128, 32), (2, 32, 32)]


@pytest.mark.parametrize("warp_prior", [False, True])
def test_dropping_a_condition_makes_the_output_blind_to_it(warp_prior):
    model, codec = denoiser(warp_prior=warp_prior), PixelCodec()
    first, second = (model.encode(condition(seed=seed), codec) for seed in (1, 2))
    noisy, steps = inputs()
    parts = {"prompt": ["prompt"], "bias": ["bias_0"], "pose": ["pose_0"], "warp": ["warp_0"] if warp_prior else []}
    with torch.no_grad():
        both = [model(noisy, steps, encoded) for encoded in (first, second)]
        none = [model(noisy, steps, encoded.kept(False, False)) for encoded in (first, second)]
        mixed = {
            part: model(noisy, steps, replaced(first, **{name: second.tensors[name] for name in names}))
            for part, names in parts.items() if names
        }  # fmt: skip
        only_pose = [model(noisy, steps, encoded.kept(True, False)) for encoded in (first, second)]
        swapped = replaced(first, **{name: t for name, t in second.tensors.items() if not name.startswith("pose")})
        without_source = model(noisy, steps, swapped.kept(True, False))
    assert not torch.allclose(*both)
    assert torch.equal(*none)
    assert not torch.allclose(*only_pose)
    assert torch.equal(without_source, only_pose[0])
    for part, output in mixed.items():
        assert not torch.allclose(output, both[0], atol=1e-4), f"the {part} has no effect"


def test_flags_act_sample_by_sample():
    model, codec = denoiser(warp_prior=True), PixelCodec()
    encoded = model.encode(condition(seed=3), codec)
    noisy, steps = inputs()
    flags = torch.tensor([True, False])
    with torch.no_grad():
        mixed = model(noisy, steps, encoded.kept(flags, flags))
        kept, dropped = (model(noisy, steps, encoded.kept(flag, flag)) for flag in (True, False))
    assert torch.allclose(mixed[0], kept[0], atol=1e-4)
    assert torch.allclose(mixed[1], dropped[1], atol=1e-4)


def test_several_sources_in_any_order():
    model, codec = denoiser(), PixelCodec()
    two = condition(sources=2)
    swapped = type(two)(two.source.flip(1), two.source_pose.at([1, 0, 3, 2]), two.target_pose)
    one = type(two)(two.source[:, :1], two.source_pose.at([0, 2]), two.target_pose)
    noisy, steps = inputs()
    with torch.no_grad():
        made = [model(noisy, steps, model.encode(given, codec)) for given in (two, swapped, one)]
    assert torch.allclose(made[0], made[1], atol=1e-4)
    assert not torch.allclose(made[0], made[2], atol=1e-4)


def test_the_source_encoder_normalises_as_its_weights_expect():
    encoder = PyramidEncoder("swin_tiny_patch4_window7_224", (64, 32), SWIN).eval()
    network = timm.create_model("swin_tiny_patch4_window7_224", features_only=True, img_size=(64, 32), **SWIN).eval()
    network.load_state_dict(encoder.network.state_dict())
    images = torch.rand(2, 3, 64, 32)
    with torch.no_grad():
        found = encoder(images * 2 - 1)
        mean, std = torch.tensor([0.485, 0.456, 0.406]), torch.tensor([0.229, 0.224, 0.225])
        expected = network((images - mean[:, None, None]) / std[:, None, None])
    assert [feature.shape[1] for feature in found] == encoder.channels == [16, 32, 64, 128]
    for feature, other in zip(found, expected):
        assert torch.allclose(feature.permute(0, 2, 3, 1), other, atol=1e-5)


def test_a_weight_file_of_the_source_encoder(tmp_path):
    torch.manual_seed(5)
    trained = timm.create_model("swin_tiny_patch4_window7_224", img_size=(64, 32), num_classes=7, **SWIN)
    save_file(trained.state_dict(), tmp_path / "swin.safetensors")
    model = denoiser(encoder_weights=str(tmp_path / "swin.safetensors"))
    network = model.encoder.network
    name = next(name for name in network.state_dict() if name.endswith("patch_embed.proj.weight"))
    assert torch.equal(network.state_dict()[name], trained.patch_embed.proj.weight)


def settings(**sections) -> GeneratorConfig:
    made = config(**{key: value for key, value in sections.items() if key != "model"})
    changed = {**SMALL, "codec": "patch_pca", "precondition": True, "warp_prior": True, **sections.get("model", {})}
    return made.model_copy(update={"model": CfldConfig(**changed)})


def test_training_saving_and_loading(tmp_path):
    given = settings(training={"reconstruction": True, "drop": 0.2}, noise={"timestep_sampling": "cubic"})
    losses = []
    pipe = train_generator(*training_set(), given, tmp_path, progress=lambda done, loss: losses.append(loss))
    again = load_generator(tmp_path)
    assert again.digest == pipe.digest
    assert isinstance(again.denoiser, CfldDenoiser)
    assert load_config(GeneratorConfig, tmp_path / "train_config.yaml") == given
    assert 0 < losses[-1] < 10


@pytest.fixture
def stable_diffusion(tmp_path):
    write_stable_diffusion(tmp_path / "sd")
    return tmp_path / "sd"


def test_of_a_trained_unet_only_keys_and_values_on_the_way_up_learn(stable_diffusion, tmp_path):
    place = str(stable_diffusion)
    model = {"unet": place, "codec": "vae", "codec_weights": place, "precondition": False, "channels": (64, 64)}
    before = UNet2DConditionModel.from_pretrained(stable_diffusion / "unet").state_dict()
    pipe = train_generator(*training_set(), settings(model=model), tmp_path / "run")
    after = pipe.denoiser.unet.state_dict()
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    expected = {name for name in before if name.startswith("up_") and (".attn2.to_k" in name or ".attn2.to_v" in name)}
    assert changed == expected
    assert len(expected) == 8  # two blocks of two layers
    shutil.rmtree(stable_diffusion)
    assert load_generator(tmp_path / "run").digest == pipe.digest


def test_weights_that_are_not_there(stable_diffusion, tmp_path):
    with pytest.raises(CheckpointError, match=r"`model\.unet` '.*nowhere': not loaded: .*unet/config\.json"):
        denoiser(unet=str(tmp_path / "nowhere"))
    with pytest.raises(CheckpointError, match=r"`model\.encoder_weights` 'nowhere.pth': .*model\.safetensors of https"):
        denoiser(encoder_weights="nowhere.pth")
    save_file({"other": torch.zeros(1)}, tmp_path / "other.safetensors")
    with pytest.raises(CheckpointError, match=r"not loaded into swin_tiny"):
        denoiser(encoder_weights=str(tmp_path / "other.safetensors"))
    with pytest.raises(ConfigError, match=r"takes 4 channels, the codec makes 3. Set model\.codec=vae"):
        denoiser(unet=str(stable_diffusion))
    place = str(stable_diffusion)
    model = CfldConfig(**{**SMALL, "codec": "vae", "codec_weights": place, "unet": place})
    assert CfldDenoiser.build(model, NoiseConfig(), VaeCodec.open(place)).config.latent_channels == 4


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"encoder": "swin_nonsense"}, r"`model\.encoder` 'swin_nonsense'.*Name a timm model"),
        ({"encoder_arguments": {"no_such": 1}}, r"`model\.encoder` 'swin_tiny.*'no_such': 1"),
        ({"encoder": "resnet18", "encoder_arguments": {}}, "resnet18 has 5 scales, CFLD takes four"),
        ({"encoder": "convnext_atto", "encoder_arguments": {}, "encoder_size": (60, 32)}, "takes multiples of 32"),
    ],
)
def test_source_encoders_that_cannot_be(changes, message):
    with pytest.raises(ConfigError, match=message):
        denoiser(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": (16,)}, "at least 2"),
        ({"channels": (16, 24)}, "multiples of 16"),
        ({"decoder_heads": 3}, "`prompt_channels`: must be a multiple"),
    ],
)
def test_shapes_that_cannot_be(changes, message):
    with pytest.raises(ValidationError, match=message):
        CfldConfig(**{**SMALL, **changes})
