import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from generator_cases import SIZE, condition, config, shake, training_set
from PIL import Image
from pydantic import ValidationError
from torch.utils._python_dispatch import TorchDispatchMode

from reid_aug.config import GeneratorConfig, NoiseConfig, PocoldConfig, load_config
from reid_aug.errors import DataError
from reid_aug.generators.attention import PoseConstrainedAttention
from reid_aug.generators.autoencoder import PixelCodec
from reid_aug.generators.batches import PairBatches
from reid_aug.generators.condition import Condition
from reid_aug.generators.pipeline import load_generator
from reid_aug.generators.pocold import PocoldDenoiser, matching_parts, part_masks
from reid_aug.generators.training import train_generator
from reid_aug.pose.parts import DENSEPOSE_MIRROR
from reid_aug.pose.render import part_map
from reid_aug.records import Samples

SMALL = {"image_size": SIZE, "codec": "pixels", "channels": (16, 32), "texture_levels": (0, 1), "layers_per_level": 1,
         "heads": 2, "attention_rows": 4}  # fmt: skip


def denoiser(seed: int = 0, **changes) -> PocoldDenoiser:
    torch.manual_seed(seed)
    model = PocoldDenoiser.build(PocoldConfig(**{**SMALL, **changes}), NoiseConfig(), PixelCodec()).eval()
    shake(model)
    return model


def block_and_inputs(tokens: int = 7) -> tuple:
    torch.manual_seed(0)
    block = PoseConstrainedAttention(16, 32, heads=2, rows=5)
    shake(block)
    return block, torch.randn(2, 16, 2, 3), torch.randn(2, tokens, 32)


def dense(block: PoseConstrainedAttention, hidden: torch.Tensor, texture: torch.Tensor) -> torch.Tensor:
    """A [B, heads, h w, N] of Eq. 6, number by number."""
    batch, _, height, width = hidden.shape
    tokens = block.norm(hidden).permute(0, 2, 3, 1).reshape(batch, height * width, 16)
    query, key = block.query(tokens), block.key(block.source_norm(texture))
    positions, keys, rows, d = height * width, key.shape[1], block.query_rows.shape[1], 16 // block.heads
    found = torch.zeros(batch, block.heads, positions, keys)
    for b in range(batch):
        for head in range(block.heads):
            part = slice(head * d, (head + 1) * d)
            to_queries = torch.zeros(rows, positions)
            to_keys = torch.zeros(rows, keys)
            for n in range(rows):
                for i in range(positions):
                    to_queries[n, i] = block.query_rows[head, n] @ query[b, i, part] / math.sqrt(d)
                for j in range(keys):
                    to_keys[n, j] = block.key_rows[head, n] @ key[b, j, part] / math.sqrt(d)
            for i in range(positions):
                for j in range(keys):
                    by_row = to_queries[:, i].softmax(0), torch.stack([row.softmax(0)[j] for row in to_keys])
                    found[b, head, i, j] = sum(q * k for q, k in zip(*by_row))
    return found


def test_sparse_attention_equals_the_dense_form():
    block, hidden, texture = block_and_inputs()
    with torch.no_grad():
        found = block(hidden, texture, torch.tensor([True, True]))
        attention = dense(block, hidden, texture)
        value = block.value(block.source_norm(texture)).unflatten(2, (2, 8))
        attended = torch.einsum("bhij,bjhd->bihd", attention, value).flatten(2)
        expected = hidden + block.out(attended).transpose(1, 2).reshape(hidden.shape)
    assert torch.allclose(found, expected, atol=1e-5)
    assert torch.allclose(attention.sum(3), torch.ones(2, 2, 6), atol=1e-5)


def test_the_constrained_form_makes_the_same_features_and_punishes_the_dense_attention():
    block, hidden, texture = block_and_inputs()
    keep, match = torch.tensor([True, True]), torch.rand(2, 6, 7) < 0.4
    with torch.no_grad():
        found, penalty = block.constrained(hidden, texture, keep, match)
        assert torch.equal(found, block(hidden, texture, keep))
        attention = dense(block, hidden, texture)
    for b in range(2):
        unmatched = [(i, j) for i in range(6) if match[b, i].any() for j in range(7) if not match[b, i, j]]
        expected = sum(attention[b, :, i, j].square().mean().item() for i, j in unmatched)
        assert penalty[b].item() == pytest.approx(expected, rel=1e-4)


class Largest(TorchDispatchMode):
    """Notes the number of elements of the largest tensor that is made."""

    elements = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if torch.is_tensor(made):
            self.elements = max(self.elements, made.numel())
        return made


def test_sampling_never_makes_the_attention_of_all_pairs():
    torch.manual_seed(0)
    block = PoseConstrainedAttention(16, 16, heads=2, rows=4)
    hidden, texture, keep = torch.randn(1, 16, 32, 16), torch.randn(1, 512, 16), torch.tensor([True])
    with torch.no_grad(), Largest() as sparse:
        block(hidden, texture, keep)
    with torch.no_grad(), Largest() as constrained:
        block.constrained(hidden, texture, keep, torch.ones(1, 512, 512, dtype=torch.bool))
    assert sparse.elements <= 16 * 512
    assert constrained.elements == 2 * 512 * 512


def test_a_dropped_source_skips_the_attention():
    block, hidden, texture = block_and_inputs()
    found = block(hidden, texture, torch.tensor([True, False]))
    assert torch.equal(found[1], hidden[1])
    assert not torch.allclose(found[0], hidden[0])


def test_matching_parts_compares_every_pair_of_positions():
    given = condition(sources=2)
    grid = (8, 4)
    masks = [part_masks(poses, grid, "keypoints") for poses in (given.target_pose, given.source_pose)]
    masks[1] = masks[1].unflatten(0, (2, 2))
    assert masks[0].shape == (2, 11, 8, 4)
    found = matching_parts(*masks, grid)
    target, source = part_map(given.target_pose, grid), part_map(given.source_pose, grid).reshape(2, -1)
    for b in range(2):
        for i, part in enumerate(target[b].flatten()):
            assert torch.equal(found[b, i], source[b] == part)
    half = matching_parts(*masks, (4, 2))
    nearest = target[:, 1::2, 1::2].flatten(1), part_map(given.source_pose, grid).unflatten(0, (2, 2))[:, :, 1::2, 1::2]
    assert torch.equal(half, nearest[0][:, :, None] == nearest[1].flatten(1)[:, None])


def test_a_dropped_condition_is_not_constrained():
    model, codec = denoiser(warp_prior=True), PixelCodec()
    encoded = model.encode(condition(seed=3), codec)
    noisy, steps = torch.randn(2, 3, *SIZE), torch.tensor([10, 700])
    kept, dropped = torch.tensor([True, True]), torch.tensor([True, False])
    with torch.no_grad():
        for pose, source in ((dropped, kept), (kept, dropped), (dropped, dropped)):
            prediction, penalty = model.penalised(noisy, steps, encoded.kept(pose, source))
            assert penalty[0] > 0
            assert penalty[1] == 0
            assert torch.equal(prediction, model(noisy, steps, encoded.kept(pose, source)))


def test_the_constraint_sums_over_blocks_and_is_weighted():
    encoded = denoiser().encode(condition(), PixelCodec())
    noisy, steps = torch.randn(2, 3, *SIZE), torch.tensor([10, 700])
    with torch.no_grad():
        one, three = (denoiser(constraint_weight=weight).penalised(noisy, steps, encoded)[1] for weight in (1.0, 3.0))
        blocks = [module for module in denoiser().modules() if isinstance(module, PoseConstrainedAttention)]
    assert len(blocks) == 7  # two levels: one on the way down, two on the way up, and the middle
    assert torch.allclose(3 * one, three)


def test_the_constraint_holds_in_every_source_whatever_their_order():
    model, codec, two = denoiser(), PixelCodec(), condition(sources=2)
    swapped = Condition(two.source.flip(1), two.source_pose.at([1, 0, 3, 2]), two.target_pose)
    noisy, steps = torch.randn(2, 3, *SIZE), torch.tensor([10, 700])
    with torch.no_grad():
        first, second = (model.penalised(noisy, steps, model.encode(given, codec))[1] for given in (two, swapped))
    assert torch.allclose(first, second, rtol=1e-4)


def settings(**sections) -> GeneratorConfig:
    model = {"system": "pocold", "channels": (16, 32), "texture_levels": (0, 1), "heads": 2, "attention_rows": 8}
    made = config(**{key: value for key, value in sections.items() if key != "model"})
    changed = {**SMALL, **model, "codec": "patch_pca", "precondition": True, **sections.get("model", {})}
    return made.model_copy(update={"model": PocoldConfig(**changed)})


def test_training_saving_and_loading(tmp_path):
    losses = []
    pipe = train_generator(*training_set(), settings(), tmp_path, progress=lambda done, loss: losses.append(loss))
    again = load_generator(tmp_path)
    assert again.digest == pipe.digest
    assert isinstance(again.denoiser, PocoldDenoiser)
    assert load_config(GeneratorConfig, tmp_path / "train_config.yaml") == settings()
    assert 0 < losses[-1] < 100


def test_the_constraint_is_part_of_the_training_loss(tmp_path):
    losses = {}
    for weight in (0.0, 1.0):
        seen = []
        train_generator(
            *training_set(), settings(model={"constraint_weight": weight}, training={"iterations": 1}),
            tmp_path / str(weight), progress=lambda done, loss, seen=seen: seen.append(loss),
        )  # fmt: skip
        losses[weight] = seen[0]
    assert losses[1.0] > losses[0.0] + 0.01


@pytest.fixture
def mapped_set(tmp_path):
    """The training set, every image with a part map in a file."""
    samples, images, pairs = training_set()
    rng = np.random.default_rng(0)
    poses = {}
    for sample in samples:
        file = tmp_path / "parts" / f"{sample.path.stem}.png"
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(rng.integers(0, 25, SIZE, np.uint8)).save(file)
        poses[sample.name] = replace(samples.poses[sample.name], part_file=file)
    return Samples(samples, poses), images, pairs


def test_part_maps_from_files_are_learned_from_and_asked_for(mapped_set, tmp_path):
    samples, images, _ = mapped_set
    given = settings(model={"part_maps": "files"}, training={"flip": 1.0})
    pipe = train_generator(*mapped_set, given, tmp_path / "run")
    assert (tmp_path / "run" / "samples" / "0000004.png").is_file()
    pipe = load_generator(tmp_path / "run")
    shake(pipe.denoiser)
    assert pipe.denoiser.conv_in.in_channels == 16 + 25  # latents, parts
    first, second = (samples.poses[samples[index].name] for index in (1, 2))
    asked = {"source": images.batch([0]), "source_pose": [samples.poses[samples[0].name]], "seeds": [1]}
    other = replace(first, part_file=second.part_file)
    made = [pipe(**asked, target_pose=[pose], output_type="uint8").images for pose in (first, other)]
    assert not torch.equal(*made), "the map has no effect"
    first.part_file.unlink()
    with pytest.raises(DataError, match=rf"target_pose: .*{first.part_file.name}: no such part map"):
        pipe(**asked, target_pose=[first])
    with pytest.raises(DataError, match=rf"{first.part_file.name}: no such part map, .*model\.part_maps=files"):
        train_generator(*mapped_set, given, tmp_path / "again")


def test_a_mirrored_batch_has_mirrored_maps(mapped_set):
    plain, flipped = (
        PairBatches(*mapped_set, config(training={"flip": flip}).training, NoiseConfig(), PixelCodec(),
                    part_maps=True).at(0).condition
        for flip in (0.0, 1.0)
    )  # fmt: skip
    for one, other in ((plain.target_pose, flipped.target_pose), (plain.source_pose, flipped.source_pose)):
        swapped = torch.tensor(DENSEPOSE_MIRROR)[one.parts.flip(-1).long()]
        assert torch.equal(other.parts.long(), swapped)
        masks = part_masks(other, (8, 4), "files")
        expected = part_masks(one, SIZE, "files")[:, list(DENSEPOSE_MIRROR)].flip(-1)
        assert torch.equal(masks, expected[:, :, 2::4, 2::4])


def test_other_maps_are_other_data(mapped_set):
    arguments = config().training, NoiseConfig(), PixelCodec()
    digests = [PairBatches(*mapped_set, *arguments, part_maps=asked).digest for asked in (False, True)]
    name = sorted(mapped_set[0].poses)[0]
    Image.fromarray(np.zeros(SIZE, np.uint8)).save(mapped_set[0].poses[name].part_file)
    digests += [PairBatches(*mapped_set, *arguments, part_maps=asked).digest for asked in (False, True)]
    assert digests[0] == digests[2]
    assert len(set(digests)) == 3


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"channels": (16, 30)}, "multiples of 16"),
        ({"learned_variance": True}, "learned_variance"),
        ({"codec": "vae"}, "`codec_weights` names an AutoencoderKL or AutoencoderTiny exactly where"),
    ],
)
def test_shapes_that_cannot_be(changes, message):
    with pytest.raises(ValidationError, match=message):
        PocoldConfig(**{**SMALL, **changes})
