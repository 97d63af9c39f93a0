from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
import tiny_configs
import torch
from augment_cases import pose
from PIL import Image
from untrained import untrained_generator

from reid_aug.augment.inpaint import WarpInpainter
from reid_aug.augment.training_free import borrow_hidden_limbs
from reid_aug.config import GeneratorConfig, build_config
from reid_aug.errors import DataError
from reid_aug.generators.pipeline import PosePipeline
from reid_aug.pose.batch import PoseBatch
from reid_aug.pose.warp import warp_parts

COUNT = 4


def sources() -> torch.Tensor:
    shape = COUNT, 3, *tiny_configs.SIZE
    return torch.randint(0, 256, shape, generator=torch.Generator().manual_seed(0)).byte()


def asked(rows: Sequence[int] = range(COUNT), seed: int = 0) -> dict:
    """The arguments of a call for some of the people."""
    return {
        "source": sources()[list(rows)],
        "source_pose": [pose(row) for row in rows],
        "target_pose": [pose(row + 9) for row in rows],
        "seeds": [seed + row for row in rows],
        "output_type": "uint8",
    }


@pytest.fixture(scope="module")
def generator() -> PosePipeline:
    return untrained_generator(build_config(GeneratorConfig, tiny_configs.GENERATOR), sources())


@pytest.fixture(scope="module")
def warped() -> tuple[torch.Tensor, torch.Tensor]:
    """The warp of the sources, in grey levels, and where it covers [B, 3, H, W]."""
    source_pose, target_pose = (PoseBatch.stack(asked()[which]) for which in ("source_pose", "target_pose"))
    person, coverage = warp_parts(sources().float() / 127.5 - 1, borrow_hidden_limbs(source_pose), target_pose)
    return (person * 127.5 + 127.5).round(), coverage.expand(-1, 3, -1, -1)


def test_the_warp_stays_and_the_rest_is_drawn(generator, warped):
    person, coverage = warped
    first, second = (WarpInpainter(generator)(**asked(seed=seed)).images.float() for seed in (0, 50))
    inside, outside = coverage == 1, coverage == 0
    assert inside.float().mean() > 0.1 and outside.float().mean() > 0.1
    assert torch.equal(first[inside], person[inside]) and torch.equal(second[inside], person[inside])
    assert (first - second)[outside].abs().mean() > 8, "noise decides what is drawn"


def test_an_edge_mixes_both(generator, warped):
    """What is drawn under the edge can be anything, and counts for as much as the warp leaves uncovered."""
    person, coverage = warped
    image, edge = WarpInpainter(generator)(**asked()).images.float(), (coverage > 0) & (coverage < 1)
    most = (1 - coverage) * 255 + 0.5
    assert edge.any()
    assert ((image - coverage * person)[edge] <= most[edge]).all() and ((image - coverage * person)[edge] >= -0.5).all()


def test_what_is_drawn_goes_with_the_warp(generator, warped):
    """Another source of the same covered shape changes what is drawn around it, also where the denoiser ignores it."""
    arguments = asked()
    settings = {"guidance": "cumulative", "guidance_scale": {"pose": 1.0, "source": 0.0}, "num_inference_steps": 3}
    first = WarpInpainter(generator)(**arguments, **settings).images.float()
    second = WarpInpainter(generator)(**{**arguments, "source": 255 - arguments["source"]}, **settings).images.float()
    assert (first - second)[warped[1] == 0].abs().mean() > 1


def test_an_image_does_not_depend_on_its_batch(generator):
    pipe = WarpInpainter(generator)
    together = pipe(**asked()).images
    for row in range(COUNT):
        alone = pipe(**asked([row])).images
        assert (together[row].int() - alone[0].int()).abs().max() <= 1


def test_pictures_of_another_size_are_resized(generator):
    pictures = [Image.fromarray(image.permute(1, 2, 0).numpy()) for image in sources()]
    large = [picture.resize((64, 128), Image.Resampling.NEAREST) for picture in pictures]
    small = torch.stack([torch.from_numpy(np.array(one.resize((32, 64), Image.Resampling.BICUBIC))) for one in large])
    arguments = {**asked(), "output_type": "pil"}
    made = WarpInpainter(generator)(**{**arguments, "source": large}).images
    expected = WarpInpainter(generator)(**{**arguments, "source": small.permute(0, 3, 1, 2)}).images
    assert [image.size for image in made] == [(32, 64)] * COUNT
    assert [np.array(one).tolist() for one in made] == [np.array(one).tolist() for one in expected]


def test_images_of_the_wrong_size_are_refused(generator):
    with pytest.raises(DataError, match=r"source: torch\.uint8 \(4, 3, 32, 32\), expected .* \[B, 3, 64, 32\]"):
        WarpInpainter(generator)(**{**asked(), "source": sources()[:, :, :32]})
    with pytest.raises(DataError, match="4 source images, 3 source poses"):
        WarpInpainter(generator)(**{**asked(), "source_pose": asked()["source_pose"][:3]})


def test_it_describes_itself_as_its_generator_and_is_told_from_it(generator):
    pipe = WarpInpainter(generator)
    assert pipe.describe(num_inference_steps=7) == generator.describe(num_inference_steps=7)
    assert pipe.digest != generator.digest and generator.digest in pipe.digest
    assert pipe.device == generator.device
