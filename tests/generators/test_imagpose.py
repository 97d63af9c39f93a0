import numpy as np
import pytest
import torch
from generator_cases import SIZE, condition, config, difference, inputs, pose, training_set, untrained_pipe
from safetensors.torch import save_file

from reid_aug.config import GeneratorConfig, build_config
from reid_aug.errors import CheckpointError, ConfigError, DataError
from reid_aug.generators.autoencoder import PatchPcaCodec, PixelCodec, make_codec
from reid_aug.generators.batches import PairBatches
from reid_aug.generators.canvas import CrossViewAttention, join, split
from reid_aug.generators.condition import Condition, Encoded
from reid_aug.generators.image_tokens import ImageTokens
from reid_aug.generators.imagpose import ImagposeDenoiser
from reid_aug.generators.pipeline import PosePipeline, load_generator
from reid_aug.generators.training import train_generator
from reid_aug.pose.batch import PoseBatch

GRID = (8, 4)
TINY = {
    "system": "imagpose", "image_size": SIZE, "codec": "patch_pca", "channels": (16, 32), "layers_per_level": 1,
    "heads": 2, "context_channels": 16, "precondition": True, "warp_prior": True,
}  # fmt: skip


def settings(**model) -> GeneratorConfig:
    plain = config().model_dump(exclude={"model"})
    joint = {"guidance": "joint", "guidance_scale": {"joint": 2.0}}
    return build_config(GeneratorConfig, {**plain, "model": {**TINY, **model}, "sampling": {"steps": 2, **joint}})


@pytest.fixture(scope="module")
def pipe() -> PosePipeline:
    return untrained_pipe(settings())


def encoded(pipe: PosePipeline, sources: int, targets: int, seed: int = 0) -> Encoded:
    """Two people."""
    rng = np.random.default_rng(seed)
    asked = condition(2, sources, seed)
    asked = Condition(asked.source, asked.source_pose, PoseBatch.stack([pose(rng) for _ in range(2 * targets)]))
    with torch.no_grad():
        return pipe.denoiser.encode(asked, pipe.codec)


def predict(pipe: PosePipeline, seen: Encoded, targets: int, seed: int = 0) -> torch.Tensor:
    noisy = torch.randn(2 * targets, 16, *GRID, generator=torch.Generator().manual_seed(seed))
    with torch.no_grad():
        return pipe.denoiser(noisy, torch.tensor([10, 700]).repeat_interleave(targets), seen)


def test_a_canvas_is_two_rows_of_two_and_comes_apart_again():
    slots = torch.randn(3, 4, 2, 6, 5)
    canvas = join(slots)
    for slot in range(4):
        row, column = divmod(slot, 2)
        assert torch.equal(canvas[:, :, 6 * row : 6 * row + 6, 5 * column : 5 * column + 5], slots[:, slot])
    assert torch.equal(split(canvas), slots)


def cross_view(channels: int = 8, heads: int = 2) -> CrossViewAttention:
    torch.manual_seed(0)
    block = CrossViewAttention(channels, heads)
    torch.nn.init.normal_(block.out.weight)
    return block


def test_cross_view_attention_looks_at_one_position_of_the_four_images():
    block, (height, width), channels, heads = cross_view(), (4, 6), 8, 2
    tokens = torch.randn(2, height * width, channels)
    found = block(tokens, (height, width)).unflatten(1, (height, width))
    grid = tokens.unflatten(1, (height, width))
    for row in range(2):
        for column in range(3):
            places = [(row, column), (row, column + 3), (row + 2, column), (row + 2, column + 3)]
            views = torch.stack([grid[1, y, x] for y, x in places])
            query, key, value = block.project(block.norm(views)).split(channels, -1)
            for mine, (y, x) in enumerate(places):
                attended = []
                for head in range(heads):
                    part = slice(4 * head, 4 * head + 4)
                    scores = torch.stack([query[mine, part] @ key[other, part] / 2 for other in range(4)]).softmax(0)
                    attended.append(sum(score * value[other, part] for other, score in enumerate(scores)))
                expected = grid[1, y, x] + block.out(torch.cat(attended))
                assert torch.allclose(found[1, y, x], expected, atol=1e-5)


def test_cross_view_attention_keeps_four_equal_images_equal_and_starts_as_the_identity():
    image = torch.randn(2, 1, 8, 3, 5).repeat(1, 4, 1, 1, 1)
    canvas = join(image)
    found = cross_view()(canvas.flatten(2).transpose(1, 2), (6, 10)).transpose(1, 2).unflatten(2, (6, 10))
    assert torch.allclose(split(found), split(found)[:, :1].expand(-1, 4, -1, -1, -1), atol=1e-6)
    assert not torch.allclose(found, canvas)
    tokens = torch.randn(2, 60, 8)
    assert torch.equal(CrossViewAttention(8, 2)(tokens, (6, 10)), tokens)


def test_every_cross_attention_is_followed_by_cross_view_attention(pipe):
    places = [name for name in pipe.denoiser.unet.attn_processors if ".attn2." in name]
    with_views = {name.split(".processor.")[0] for name in pipe.denoiser.state_dict() if ".views." in name}
    assert with_views == {f"unet.{place.removesuffix('.processor')}" for place in places}
    assert len(places) == 4  # one on the way down, one in the middle, two on the way up


def test_what_the_first_convolution_sees(pipe):
    """Given slots: latents, latents, 1. Wanted slots: noise, 0, 0. Then the prior, and the pose behind."""
    seen, taken = encoded(pipe, sources=2, targets=1), []
    hook = pipe.denoiser.unet.conv_in.register_forward_pre_hook(lambda module, inputs: taken.append(inputs[0]))
    predict(pipe, seen, 1)
    hook.remove()
    slots = split(taken[0])
    assert slots.shape == (2, 4, 2 * 16 + 1 + 17 + 16, *GRID)
    noisy, masked, mask, warp, features = slots.split([16, 16, 1, 17, 16], 2)
    for slot, source in enumerate((0, 1, 0)):  # the sources take turns
        assert torch.equal(noisy[:, slot], seen.tensors["known"][:, slot])
        assert torch.equal(masked[:, slot], noisy[:, slot])
        assert torch.equal(seen.tensors["known"][:, slot], pipe.codec.encode(condition(2, 2).source[:, source]))
    assert not noisy[:, 3].eq(0).any()
    assert not masked[:, 3].any()
    assert mask.amax((2, 3, 4)).tolist() == mask.amin((2, 3, 4)).tolist() == [[1, 1, 1, 0]] * 2
    assert torch.equal(warp[:, 3:], seen.tensors["warp"])
    assert not warp[:, :3].any()
    assert torch.equal(features, seen.tensors["pose"])


@pytest.mark.parametrize("targets", [1, 2, 3])
def test_dropping_a_condition_makes_the_output_blind_to_it(pipe, targets):
    first, second = (encoded(pipe, 1, targets, seed) for seed in (1, 2))
    both = predict(pipe, first, targets)
    for name in first.tensors:
        swapped = Encoded({**first.tensors, name: second.tensors[name]}, first.keep_pose, first.keep_source)
        assert not torch.allclose(predict(pipe, swapped, targets), both), f"{name} has no effect"
    none = [predict(pipe, seen.kept(False, False), targets) for seen in (first, second)]
    assert torch.equal(*none)
    poses = torch.cat([second.tensors["pose"][:, :-targets], first.tensors["pose"][:, -targets:]], 1)
    other_source = Encoded({**second.tensors, "pose": poses}, first.keep_pose, first.keep_source)
    assert torch.equal(*(predict(pipe, seen.kept(True, False), targets) for seen in (first, other_source)))


def test_flags_act_person_by_person(pipe):
    seen, flags = encoded(pipe, 1, 2), torch.tensor([True, False])
    mixed = predict(pipe, seen.kept(flags, flags), 2)
    kept, dropped = (predict(pipe, seen.kept(flag, flag), 2) for flag in (True, False))
    assert torch.allclose(mixed[:2], kept[:2], atol=1e-5)
    assert torch.allclose(mixed[2:], dropped[2:], atol=1e-5)


def test_three_poses_in_one_call_see_each_other(pipe):
    rng = np.random.default_rng(3)
    poses = [[pose(rng) for _ in range(3)] for _ in range(2)]
    asked = {**inputs(2), "target_pose": poses, "seeds": [[1, 2, 3], [4, 5, 6]]}
    made = pipe(**asked).images
    assert made.shape == (2, 3, 3, *SIZE)
    alone = pipe(**{**{key: value[1:] for key, value in asked.items() if key != "output_type"}, "output_type": "uint8"})
    assert difference(alone.images[0], made[1]) <= 1
    other = pipe(**{**asked, "target_pose": [[poses[0][0], *poses[1][:2]], poses[1]]}).images
    assert difference(other[0, 0], made[0, 0]) > 0
    assert difference(other[1], made[1]) <= 1


@pytest.mark.parametrize(("sources", "targets"), [(1, 4), (2, 3), (4, 1)])
def test_more_images_than_the_canvas_holds(pipe, sources, targets):
    rng = np.random.default_rng(0)
    asked = inputs(1)
    asked["source"] = asked["source"][:, None].repeat(1, sources, 1, 1, 1)
    asked["source_pose"] = [[pose(rng) for _ in range(sources)]]
    asked["target_pose"], asked["seeds"] = [[pose(rng) for _ in range(targets)]], [list(range(targets))]
    message = rf"{sources} source images and {targets} target poses a person\. This generator takes 4 in all\. Leave"
    with pytest.raises(DataError, match=message):
        pipe(**asked)


def test_saving_and_loading_keeps_the_images(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = load_generator(tmp_path)
    assert again.digest == pipe.digest
    assert difference(again(**inputs()).images, pipe(**inputs()).images) <= 1


def test_batches_have_one_to_four_targets_of_the_person_of_the_pair():
    samples, images, pairs = training_set()
    made = PairBatches(samples, images, pairs, config(training={"batch_size": 32, "flip": 0.0}).training,
                       config().noise, PixelCodec(), slots=4)  # fmt: skip
    by_pixels = {image.numpy().tobytes(): sample for sample, image in zip(samples, images.pixels)}

    def pids(pixels: torch.Tensor) -> np.ndarray:
        uint8 = ((pixels.flatten(0, -4) + 1) * 127.5).round().to(torch.uint8)
        return np.array([by_pixels[image.numpy().tobytes()].pid for image in uint8]).reshape(32, -1)

    seen = set()
    for iteration in range(60):
        batch = made.at(iteration)
        sources, targets = batch.condition.source.shape[1], len(batch.target) // 32
        seen.add((sources, targets))
        named = [[int(name[:4]) for name in given + wanted] for given, wanted in batch.names]
        assert np.array(named).shape == (32, sources + targets)
        wanted = np.array(named)[:, :1]
        assert (np.array(named) == wanted).all()
        assert (pids(batch.condition.source) == wanted).all()
        assert (pids(batch.target) == wanted).all()
        assert len(batch.condition.target_pose) == len(batch.timestep) == 32 * targets
        assert len(batch.condition.source_pose) == 32 * sources
        assert (batch.timestep.reshape(32, -1) == batch.timestep.reshape(32, -1)[:, :1]).all()
    assert seen == {(1, 1), (2, 1), (3, 1), (1, 2), (2, 2), (1, 3), (1, 4)}


def test_slots_leave_the_pair_as_it_is():
    samples, images, pairs = training_set()
    arguments = samples, images, pairs, config().training, config().noise, PixelCodec()
    for iteration in range(5):
        one, many = (PairBatches(*arguments, slots=slots).at(iteration) for slots in (None, 4))
        targets = len(many.target) // len(one.target)
        assert torch.equal(many.condition.source[:, :1], one.condition.source)
        assert torch.equal(many.target[::targets], one.target)
        assert torch.equal(many.condition.target_pose.xy[::targets], one.condition.target_pose.xy)


def test_a_generator_is_trained_and_loaded(tmp_path):
    trained = train_generator(*training_set(), settings(), tmp_path)
    assert load_generator(tmp_path).digest == trained.digest


def test_image_encoder_tokens_come_from_its_weights(tmp_path):
    import timm

    torch.manual_seed(1)
    vit = timm.create_model("test_vit", num_classes=0, dynamic_img_size=True).eval()
    save_file(vit.state_dict(), tmp_path / "model.safetensors")
    model = settings(image_encoder="test_vit", image_encoder_weights=str(tmp_path / "model.safetensors"))
    codec = make_codec(model.model, training_set()[1].pixels)
    denoiser = ImagposeDenoiser.build(model.model, model.noise, codec).eval()
    tokens, asked = denoiser.image_tokens, condition(2, 2)
    images = torch.nn.functional.interpolate((asked.source[1] + 1) / 2, (256, 128), mode="bicubic")
    mean, std = (torch.tensor(vit.default_cfg[key])[:, None, None] for key in ("mean", "std"))
    with torch.no_grad():
        expected = tokens.project(vit.forward_features((images - mean) / std))
        context = denoiser.encode(asked, codec).tensors["context"]
    texture = GRID[0] * GRID[1] // 16
    assert context.shape == (2, 2 * (texture + expected.shape[1]), 16)
    assert torch.allclose(context[1].unflatten(0, (2, -1))[:, texture:], expected, atol=1e-4)
    assert not any(parameter.requires_grad for parameter in tokens.network.parameters())
    denoiser.save_pretrained(tmp_path / "saved")
    again = ImagposeDenoiser.from_pretrained(tmp_path / "saved").eval()
    with torch.no_grad():
        assert torch.equal(again.encode(asked, codec).tensors["context"], context)


def test_an_image_encoder_without_its_weights(tmp_path):
    tokens = ImageTokens("test_vit", 16)
    with pytest.raises(CheckpointError, match=r"nowhere\.safetensors': not loaded into test_vit: .*Give"):
        tokens.load(str(tmp_path / "nowhere.safetensors"))
    (tmp_path / "other.safetensors").write_bytes(b"no weights")
    with pytest.raises(CheckpointError, match=r"image_encoder_weights` '.*other\.safetensors': not loaded into"):
        tokens.load(str(tmp_path / "other.safetensors"))


@pytest.mark.parametrize(
    ("model", "message"),
    [
        ({"image_encoder": "test_vit"}, "`image_encoder_weights` names a weight file, or timm for its own"),
        ({"channels": (16, 30)}, "`channels`: multiples of 16"),
        ({"channels": (16,)}, r"`model\.channels`"),
        ({"channels": (16, 32, 32, 32)}, r"4 levels halve the codec's grid of 8x4 3 times\..*multiples of 32"),
    ],
)
def test_shapes_that_cannot_be(model, message):
    with pytest.raises(ConfigError, match=message):
        ImagposeDenoiser.build(settings(**model).model, config().noise, PatchPcaCodec())
