import subprocess
import sys

import numpy as np
import pytest
import torch
from generator_cases import SIZE, SYSTEMS, config, difference, inputs, system_pipe, untrained_pipe
from PIL import Image

from reid_aug.errors import CheckpointError, ConfigError, DataError
from reid_aug.generators.pipeline import PosePipeline, load_generator

SAMPLERS = (
    "DDIMScheduler", "DDPMScheduler", "DPMSolverMultistepScheduler", "PNDMScheduler", "EulerDiscreteScheduler"
)  # fmt: skip


@pytest.fixture(scope="module")
def pipe() -> PosePipeline:
    return untrained_pipe()


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_an_image_does_not_depend_on_the_rest_of_its_batch(pipe, sampler):
    """One grey level apart at most: sums in batches of another size are rounded differently."""
    settings = {"sampler": sampler, "steps": 5}
    together = pipe(**inputs(), **settings).images
    for k in range(3):
        alone = {key: value[k : k + 1] for key, value in inputs().items() if key != "output_type"}
        assert difference(pipe(**alone, output_type="uint8", **settings).images[0], together[k]) <= 1


@pytest.mark.parametrize("sampler", SAMPLERS)
def test_a_learned_variance_is_for_ddpm_and_in_no_other_samplers_way(sampler, monkeypatch):
    shape = {"learned_variance": True, "precondition": False, "codec": "pixels"}
    noise = {"prediction": "epsilon", "zero_terminal_snr": False}
    pipe = untrained_pipe(config(model=shape, noise=noise))
    settings = {**inputs(), "sampler": sampler, "steps": 5}
    made, forward = pipe(**settings).images, pipe.denoiser.forward

    def with_more_variance(*arguments):
        prediction, variance = forward(*arguments).chunk(2, dim=1)
        return torch.cat([prediction, variance + 2], dim=1)

    monkeypatch.setattr(pipe.denoiser, "forward", with_more_variance)
    assert torch.equal(pipe(**settings).images, made) == (sampler != "DDPMScheduler")


@pytest.mark.parametrize("name", SYSTEMS)
def test_half_the_precision_makes_nearly_the_same_images(name):
    exact = system_pipe(name)(**inputs()).images
    half = system_pipe(name)
    for part in (half.denoiser, half.codec):
        part.to(torch.bfloat16)
    assert 0 < (half(**inputs()).images.float() - exact.float()).abs().mean() < 2


def test_seeds_poses_and_sources_all_matter(pipe):
    base, made = inputs(), pipe(**inputs()).images
    other = inputs(seed=1)
    for key in ("source", "target_pose", "seeds"):
        value = [7, 8, 9] if key == "seeds" else other[key]
        assert difference(pipe(**{**base, key: value}).images, made) > 8, f"{key} has no effect"


def test_guidance_and_steps_are_used_as_given(pipe):
    made = pipe(**inputs()).images
    for settings in (
        {"guidance_scale": {"pose": 5.0, "source": 0.0}},
        {"guidance": "joint", "guidance_scale": {"joint": 3.0}},
        {"num_inference_steps": 5},
        {"sampler": "DDPMScheduler"},
    ):
        assert difference(pipe(**inputs(), **settings).images, made) > 1, settings


def test_cumulative_scales_of_one_equal_joint_of_one(pipe):
    first = pipe(**inputs(), guidance="cumulative", guidance_scale={"pose": 1, "source": 1}).images
    second = pipe(**inputs(), guidance="joint", guidance_scale={"joint": 1}).images
    assert difference(first, second) <= 1


def test_pil_in_and_out(pipe):
    tensors = inputs()
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in tensors["source"]]
    made = pipe(**{**tensors, "source": pictures, "output_type": "pil"}).images
    assert [image.size for image in made] == [(SIZE[1], SIZE[0])] * 3
    same = torch.from_numpy(np.stack([np.array(image) for image in made])).permute(0, 3, 1, 2)
    assert torch.equal(same, pipe(**tensors).images)


def test_saving_and_loading_keeps_the_images_and_the_digest(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = load_generator(tmp_path)
    assert again.digest == pipe.digest
    assert difference(again(**inputs()).images, pipe(**inputs()).images) <= 1
    assert again.describe(num_inference_steps=7) == {
        "sampler": "DDIMScheduler",
        "steps": 7,
        "guidance": "cumulative",
        "guidance_scale": {"pose": 2.0, "source": 2.0},
    }


def test_a_generator_loads_in_a_fresh_process(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    code = f"from reid_aug.generators.pipeline import load_generator; print(load_generator({str(tmp_path)!r}).digest)"
    printed = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)
    assert printed.stdout.strip() == pipe.digest, printed.stderr


def test_an_option_that_was_not_there_leaves_the_digest_of_an_older_generator():
    assert load_generator("pidm_toy").digest == "7b81a63060ce8eb8"


def test_other_weights_have_another_digest(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    again = load_generator(tmp_path)
    with torch.no_grad():
        again.denoiser.conv_in.bias[0] += 1e-3
    assert again.digest != pipe.digest


def test_weights_of_another_architecture(pipe, tmp_path):
    pipe.save_pretrained(tmp_path)
    path = tmp_path / "denoiser" / "config.json"
    path.write_text(path.read_text().replace('"layers_per_level": 1', '"layers_per_level": 2'))
    with pytest.raises(CheckpointError, match=r"another architecture"):
        load_generator(tmp_path)


def test_a_folder_that_is_no_generator(tmp_path):
    with pytest.raises(CheckpointError, match=r"no model_index\.json\. Name a folder written by"):
        load_generator(tmp_path / "nowhere")


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"seeds": [1]}, DataError, "3, 3, 3 and 1 given"),
        ({"source": torch.zeros(3, 3, 8, 8, dtype=torch.uint8)}, DataError, r"expected torch\.uint8 \[B, 3, 32, 16\]"),
        ({"source": torch.zeros(3, 3, *SIZE)}, DataError, "float32"),
        ({"sampler": "Nonsense"}, ConfigError, "diffusers has no scheduler 'Nonsense'"),
        ({"sampler": "FlowMatchEulerDiscreteScheduler"}, ConfigError, "for this noise process"),
        ({"guidance": "strong"}, ConfigError, "`guidance`"),
        ({"guidance_scale": {"pose": 1.0}}, ConfigError, "takes {pose: ..., source: ...}"),
        ({"sampler": "PNDMScheduler", "steps": 2}, ConfigError, "`steps`: PNDMScheduler cannot do 2"),
        ({"num_inference_steps": 0}, ConfigError, "`steps`"),
        ({"speed": 1}, ConfigError, "unknown key `speed`"),
        ({"output_type": "latent"}, ConfigError, "Use pil or uint8"),
    ],
)
def test_bad_input(pipe, change, error, message):
    with pytest.raises(error, match=message):
        pipe(**{**inputs(), **change})
