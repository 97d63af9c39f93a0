from dataclasses import replace

import numpy as np
import pytest
import tiny_configs
import torch
from PIL import Image
from untrained import untrained_generator

from reid_aug.config import GeneratorConfig, build_config
from reid_aug.data.images import Images, decode
from reid_aug.data.market1501 import Market1501
from reid_aug.errors import DataError
from reid_aug.generators.pipeline import PosePipeline
from reid_aug.generators.tasks import Blend
from reid_aug.records import Pose, Samples
from reid_aug.study.draw import draw

SIZE = tiny_configs.SIZE
IMAGPOSE = {"system": "imagpose", "image_size": SIZE, "channels": [16, 32], "layers_per_level": 1, "heads": 2,
            "context_channels": 16}  # fmt: skip


def untrained(market: Market1501, model: dict) -> PosePipeline:
    config = build_config(GeneratorConfig, {**tiny_configs.GENERATOR, "model": model})
    return untrained_generator(config, Images(market.train, SIZE).batch(range(8)))


@pytest.fixture(scope="module")
def pipe(toy_market) -> PosePipeline:
    return untrained(toy_market, tiny_configs.GENERATOR["model"])


@pytest.fixture(scope="module")
def people(toy_market) -> list[list[str]]:
    """File names of three people."""
    return [[sample.name for sample in toy_market.train if sample.pid == pid] for pid in (2, 4, 6)]


@pytest.fixture
def given(toy_market):
    """Images uint8 [N, 3, H, W] and poses of file names."""

    def read(*names: str) -> tuple[torch.Tensor, list[Pose]]:
        paths = {sample.name: sample.path for sample in toy_market.train}
        return torch.stack([decode(paths[name], SIZE) for name in names]), [toy_market.train.poses[n] for n in names]

    return read


def test_several_poses_of_several_sources(pipe, toy_market, people, given):
    drawing = draw(pipe, toy_market, sources=people[0][:2], poses=people[1][:3], seed=5)
    images, poses = given(*people[0][:2])
    expected = pipe(images[None], [poses], [given(*people[1][:3])[1]], [[5, 6, 7]], "uint8").images[0]
    assert torch.equal(drawing.images, expected)


def test_poses_alone(pipe, toy_market, people, given):
    drawing = draw(pipe, toy_market, poses=people[1][:2])
    assert torch.equal(drawing.images, pipe(None, None, given(*people[1][:2])[1], [0, 1], "uint8").images)


def test_towards_a_second_person(pipe, toy_market, people, given):
    asked = {"sources": [people[0][0]], "poses": [people[1][0]], "seed": 3}
    drawing = draw(pipe, toy_market, towards=[people[2][0]], frames=3, **asked)
    (first, pose), (second, other), (_, target) = (given(person[0]) for person in (people[0], people[2], people[1]))
    expected = [
        draw(pipe, toy_market, **asked).images[0],
        pipe(first, pose, target, [3], "uint8", blend=Blend(second, other, 0.5, [4])).images[0],
        pipe(second, other, target, [4], "uint8").images[0],
    ]  # each alone: a grey level apart at most, for sums in batches of another size are rounded differently
    assert (drawing.images.int() - torch.stack(expected).int()).abs().max() <= 1


def test_a_mask_by_name_and_in_a_file(pipe, toy_market, people, given, tmp_path):
    asked = {"sources": [people[0][0]], "reference": people[1][0]}
    (source, pose), (reference, target) = given(people[0][0]), given(people[1][0])
    named = draw(pipe, toy_market, **asked, mask="lower").images
    assert torch.equal(named, pipe(source, pose, target, [0], "uint8", reference=reference, mask="lower").images)
    pixels = np.zeros(SIZE, np.uint8)
    pixels[20:40] = 255
    Image.fromarray(pixels).save(tmp_path / "mask.png")
    made = draw(pipe, toy_market, **asked, mask=str(tmp_path / "mask.png")).images
    kept = torch.from_numpy(pixels) == 0
    assert torch.equal(made[0][:, kept], reference[0][:, kept])
    assert not torch.equal(made[0][:, ~kept], reference[0][:, ~kept])


def test_the_sheet_has_a_column_for_everything_and_is_written_with_the_images(pipe, toy_market, people, tmp_path):
    asked = {"sources": people[0][:2], "towards": people[2][:2], "reference": people[1][0], "mask": "upper"}
    drawing = draw(pipe, toy_market, **asked, frames=2)
    width = 7 * 2 * SIZE[1]  # two sources, the reference, two frames, two images of whom they go towards
    assert width < drawing.sheet.width < width + 7 * 40
    drawing.write(tmp_path / "new" / "sheet.png", tmp_path / "images")
    assert np.array_equal(np.array(Image.open(tmp_path / "new" / "sheet.png")), np.array(drawing.sheet))
    written = [decode(tmp_path / "images" / f"{number}.png") for number in (1, 2)]
    assert torch.equal(torch.stack(written), drawing.images)


def test_names_that_cannot_be_drawn(pipe, toy_market, people):
    name = people[0][0]
    for wrong in (name.replace("jpg", "png"), name.replace("_01", ""), f"9{name}"):
        with pytest.raises(DataError, match=rf"{wrong}: no such image in .*\. Closest names: .*{name}"):
            draw(pipe, toy_market, poses=[wrong])
    unposed = replace(toy_market, train=Samples(toy_market.train))
    with pytest.raises(DataError, match=rf"{name}: the key-point files of .* have no line for it\. Name another"):
        draw(pipe, unposed, poses=[name])
    unseen = Pose(np.zeros((18, 2), np.float32), np.zeros(18, bool), (128, 64))
    blind = replace(toy_market, train=Samples(toy_market.train, {**toy_market.train.poses, name: unseen}))
    with pytest.raises(DataError, match=rf"{name}: the key-point files of .* mark all its joints as missing\. Name"):
        draw(pipe, blind, sources=[people[1][0]], poses=[name])
    with pytest.raises(DataError, match=r"images of several people\. Name images of one"):
        draw(pipe, toy_market, sources=[name, people[1][0]], poses=[name])


def test_masks_that_cannot_be(pipe, toy_market, people, tmp_path):
    asked = {"sources": [people[0][0]], "reference": people[1][0]}
    with pytest.raises(DataError, match="mask: uper is no file, and none of head, upper, lower, person"):
        draw(pipe, toy_market, **asked, mask="uper")
    Image.new("L", (8, 16)).save(tmp_path / "mask.png")
    with pytest.raises(DataError, match=r"mask\.png: a mask of 16x8, the generator's images are 64x32 .* Resize it"):
        draw(pipe, toy_market, **asked, mask=str(tmp_path / "mask.png"))


@pytest.mark.parametrize(
    ("asked", "message"),
    [
        ({}, "poses, reference: name the images"),
        ({"poses": ["a"], "reference": "b", "mask": "upper"}, "poses, reference: name the images"),
        ({"reference": "b"}, "reference, mask: one given without the other"),
        ({"poses": ["a"], "mask": "upper"}, "reference, mask: one given without the other"),
        ({"poses": ["a"], "towards": ["b"]}, "towards: 1 images for 0 of the source. Name equally many"),
        ({"poses": ["a"], "frames": 1}, "frames: 1. Ask for 2"),
    ],
)
def test_arguments_that_do_not_go_together(pipe, toy_market, asked, message):
    with pytest.raises(DataError, match=message):
        draw(pipe, toy_market, **asked)


def test_more_than_imagpose_takes(toy_market, people):
    pipe = untrained(toy_market, IMAGPOSE)
    assert len(draw(pipe, toy_market, sources=people[0][:1], poses=people[1][:3]).images) == 3
    assert len(draw(pipe, toy_market, sources=people[0][:3], poses=people[1][:1]).images) == 1
    with pytest.raises(DataError, match=r"2 source images and 3 target poses a person\. This generator takes 4 in all"):
        draw(pipe, toy_market, sources=people[0][:2], poses=people[1][:3])
