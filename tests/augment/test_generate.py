from __future__ import annotations

import multiprocessing
import os
import random
import signal
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from augment_cases import MemoryImages, new_store, people, plan_of
from PIL import Image

from reid_aug.augment import store as store_module
from reid_aug.augment.generate import create_store, finished_store, generate, is_finished
from reid_aug.augment.store import Store
from reid_aug.augment.training_free import CopyAugmenter, WarpAugmenter
from reid_aug.config import AugmentConfig
from reid_aug.errors import ConfigError, DataError, OutputError
from reid_aug.records import Samples


class Noise(CopyAugmenter):
    """A generator whose images are noise from their seeds; counts what it was asked for."""

    digest = "noise"

    def __init__(self):
        self.batches = []

    def describe(self, strength=1):
        return {**super().describe(), "sampler": "Noise", "steps": strength}

    def __call__(self, source, source_pose, target_pose, seeds, output_type="pil", strength=1):
        self.batches.append(len(seeds))
        images = [torch.randint(0, 256, (3, 8, 4), generator=torch.Generator().manual_seed(seed)) for seed in seeds]
        return SimpleNamespace(images=torch.stack(images).byte())


def run(folder: Path, pipe=None, batch_size: int = 5, per_identity: int = 4, progress=None, **sampling) -> Store:
    samples, pipe = people(), pipe or Noise()
    plan = plan_of(samples, per_identity, suffix="png")
    store = create_store(folder, plan, samples, AugmentConfig(), pipe, sampling)
    extra = {} if progress is None else {"progress": progress}
    return generate(plan, samples, MemoryImages(len(samples)), pipe, store, batch_size, sampling, **extra)


def contents(store: Store) -> dict[str, bytes]:
    return {image.name: store.path(image).read_bytes() for image in store.images}


def test_every_planned_image_is_made_and_described(tmp_path):
    plan = plan_of(people(), suffix="png")
    store = run(tmp_path, strength=7)
    assert [image.name for image in store.images] == [planned.name for planned in plan]
    for image, planned in zip(store.images, plan):
        assert (image.pid, image.camid, image.source, image.target_pose, image.seed) == (
            planned.pid, planned.camid, planned.source, planned.target_pose, planned.seed,
        )  # fmt: skip
        assert (image.source_pose, image.generator, image.sampler, image.steps) == (planned.source, "noise", "Noise", 7)
        noise = torch.randint(0, 256, (3, 8, 4), generator=torch.Generator().manual_seed(planned.seed)).byte()
        np.testing.assert_array_equal(np.asarray(Image.open(store.path(image))), noise.permute(1, 2, 0))


def test_sources_and_poses_reach_the_generator_in_order(tmp_path):
    samples = people()
    plan = plan_of(samples, suffix="png")
    images = MemoryImages(len(samples))
    store = generate(plan, samples, images, CopyAugmenter(), new_store(tmp_path, samples, plan, CopyAugmenter()), 5, {})
    names = [sample.name for sample in samples]
    for image in store.images:
        source = images.pixels[names.index(image.source)].permute(1, 2, 0)
        np.testing.assert_array_equal(np.asarray(Image.open(store.path(image))), source)


class Told(Noise):
    """Notes the poses that it is given."""

    def __init__(self):
        super().__init__()
        self.poses = []

    def __call__(self, source, source_pose, target_pose, seeds, output_type="pil"):
        self.poses += target_pose
        return super().__call__(source, source_pose, target_pose, seeds)


def test_the_generator_is_told_the_camera_that_the_image_is_labelled_with(tmp_path):
    samples, pipe = people(), Told()
    plan = [replace(image, camid=1 + k % 5) for k, image in enumerate(plan_of(samples, suffix="png"))]
    generate(plan, samples, MemoryImages(len(samples)), pipe, new_store(tmp_path, samples, plan, pipe), 5, {})
    assert [pose.camid for pose in pipe.poses] == [image.camid for image in plan]
    for pose, image in zip(pipe.poses, plan):
        assert pose.xy is samples.poses[image.target_pose].xy


@pytest.mark.parametrize("batch_size", [1, 64])
def test_the_batch_size_changes_nothing(tmp_path, batch_size):
    for pipe in (Noise(), WarpAugmenter()):
        kind = type(pipe).__name__
        one = run(tmp_path / kind / "a", pipe, batch_size=5)
        other = run(tmp_path / kind / "b", pipe, batch_size=batch_size)
        assert contents(one) == contents(other)


def test_slices_of_a_plan_together_are_the_plan(tmp_path):
    samples, pipe, whole = people(), Noise(), run(tmp_path / "whole")
    together = {}
    for i in range(3):
        plan = plan_of(samples, suffix="png")[i::3]
        store = new_store(tmp_path / str(i), samples, plan, pipe)
        together |= contents(generate(plan, samples, MemoryImages(len(samples)), pipe, store, 5, {}))
    assert together == contents(whole)


def test_a_second_run_makes_only_what_is_missing(tmp_path):
    run(tmp_path, per_identity=2)
    pipe = Noise()
    store = run(tmp_path, pipe, per_identity=4)
    assert sum(pipe.batches) == 6
    assert len(store) == 12
    assert contents(store) == contents(run(tmp_path.with_name("fresh"), per_identity=4))
    again = Noise()
    run(tmp_path, again, per_identity=4)
    assert again.batches == []


def test_progress_counts_what_was_there(tmp_path):
    run(tmp_path, per_identity=2)
    seen = []
    run(tmp_path, per_identity=4, progress=lambda done, total: seen.append((done, total)))
    assert seen == [(6, 12), (11, 12), (12, 12)]


def test_drawing_stops_after_the_minutes_and_goes_on(tmp_path):
    samples = people()
    plan = plan_of(samples, suffix="png")
    store = new_store(tmp_path / "set", samples, plan, Noise())
    finished = Noise()

    def draw(minutes: float) -> Store:
        return generate(plan, samples, MemoryImages(len(samples)), finished, store, 5, {}, minutes=minutes)

    assert len(draw(minutes=0)) == 0
    assert not is_finished(store, plan)
    assert contents(draw(minutes=1)) == contents(run(tmp_path / "whole"))
    assert is_finished(store, plan)
    assert finished.batches == [5, 5, 2]


def test_a_set_that_lacks_nothing_is_found_without_its_generator(tmp_path):
    samples, config = people(), AugmentConfig()
    plan, more = (plan_of(samples, count, suffix="png") for count in (4, 5))
    assert finished_store(tmp_path, plan, samples, config) is None
    store = run(tmp_path)
    assert finished_store(tmp_path, plan, samples, config).images == store.images
    assert finished_store(tmp_path, more, samples, config) is None
    assert finished_store(tmp_path, plan, samples, AugmentConfig(seed=1)) is None
    assert finished_store(tmp_path, plan, samples[:8], config) is None
    store.path(store.images[3]).unlink()
    assert finished_store(tmp_path, plan, samples, config) is None


def files_in(folder: Path) -> set[str]:
    return {file.name for file in (folder / "bounding_box_train").iterdir()}


def generate_and_die(folder: Path, written: int) -> None:
    """Killed as soon as this run has written so many files, of which the last may be half a batch's."""
    torch.set_num_threads(1)  # a forked process must not use its parent's thread pool
    write, left = store_module._write_image, [written]

    def write_and_count(*arguments) -> None:
        write(*arguments)
        left[0] -= 1
        if left[0] <= 0:
            os.kill(os.getpid(), signal.SIGKILL)

    store_module._write_image = write_and_count
    run(folder, per_identity=20, batch_size=3)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("seed", range(3))
def test_killed_runs_lose_and_double_no_image(tmp_path, seed):
    rng = random.Random(seed)
    folder = tmp_path / "killed"
    for _ in range(5):
        count = rng.randrange(1, 12)
        process = multiprocessing.get_context("fork").Process(target=generate_and_die, args=(folder, count))
        process.start()
        process.join()
        assert process.exitcode == -signal.SIGKILL
        store = new_store(folder, people(), plan_of(people()), Noise())  # repairs
        assert {image.name for image in store.images} == files_in(folder)
    finished = contents(run(folder, per_identity=20))
    assert finished == contents(run(tmp_path / "whole", per_identity=20))
    assert files_in(folder) == set(finished)
    assert (folder / "manifest.jsonl").read_bytes() == (tmp_path / "whole" / "manifest.jsonl").read_bytes()


# --- bad input ----------------------------------------------------------------------------------------------------


def test_another_generator_or_setting_in_the_folder_is_refused(tmp_path):
    run(tmp_path, strength=1)
    with pytest.raises(OutputError, match=r"`sampling` is .*'steps': 1.* there, .*'steps': 2.* now"):
        run(tmp_path, strength=2)
    with pytest.raises(OutputError, match=r"`generator` is 'noise' there, 'copy-1' now"):
        run(tmp_path, CopyAugmenter())


def test_other_samples_in_the_folder_are_refused(tmp_path):
    samples, pipe = people(), Noise()
    run(tmp_path)
    plan = plan_of(samples[:8])
    with pytest.raises(OutputError, match="`samples` is"):
        create_store(tmp_path, plan, samples[:8], AugmentConfig(), pipe, {})
    moved = Samples(samples, {**samples.poses, samples[0].name: samples.poses[samples[1].name]})
    with pytest.raises(OutputError, match="`samples` is"):
        create_store(tmp_path, plan_of(moved), moved, AugmentConfig(), pipe, {})


def test_a_plan_of_other_samples_is_an_error(tmp_path):
    samples, pipe = people(), Noise()
    plan = plan_of(samples)
    with pytest.raises(DataError, match=r"0002_c1s1_000000_01_g0000\.jpg has the source 0002.*which is not a sample"):
        create_store(tmp_path, plan, samples[4:], AugmentConfig(), pipe, {})
    poses = {name: pose for name, pose in samples.poses.items() if name != samples[1].name}
    with pytest.raises(DataError, match=r"needs the pose of 0002_c2s1_000001_01\.jpg, which has no key points"):
        create_store(tmp_path, plan, Samples(samples, poses), AugmentConfig(), pipe, {})
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(
    ("returned", "message"),
    [
        (torch.zeros(4, 3, 8, 4, dtype=torch.uint8), r"g0000\.png: .*returned \[4, 3, 8, 4\].*\[5, 3, height, width\]"),
        (torch.zeros(5, 8, 4, 3, dtype=torch.uint8), r"returned \[5, 8, 4, 3\].*Return one image for each source"),
        ([None] * 5, r"returned list"),
        (torch.zeros(5, 3, 8, 4), r"g0000\.png: .*torch\.float32 values, expected uint8"),
        (torch.zeros(5, 3, 8, 4, dtype=torch.int64), r"g0000\.png: .*returned torch\.int64"),
        (
            torch.cat([torch.zeros(2, 3, 8, 4), torch.full((3, 3, 8, 4), torch.nan)]),
            r"g0002\.png: .*NaN or infinite values.*Sample in float32",
        ),
    ],
)
def test_what_is_no_batch_of_images_is_refused_and_not_written(tmp_path, returned, message):
    broken = type("Broken", (Noise,), {"__call__": lambda self, **inputs: SimpleNamespace(images=returned)})()
    with pytest.raises(OutputError, match=message):
        run(tmp_path, broken)
    assert not list((tmp_path / "bounding_box_train").iterdir())


@pytest.mark.parametrize(
    ("pipe", "message"),
    [
        (object(), r"object has no `digest`, `describe`, `__call__`\. .*docs/own_generator\.md"),
        (SimpleNamespace(digest="mine", describe=dict), r"SimpleNamespace has no `__call__`\. .*own_generator\.md"),
        (CopyAugmenter, r"CopyAugmenter is a class\. Give an object of it, CopyAugmenter\(\.\.\.\)"),
        (type("Mine", (Noise,), {"digest": lambda self: "mine"})(), r"Mine\.digest is <bound method.*expected text"),
        (
            type("Mine", (Noise,), {"describe": lambda self: {"sampler": "DDIM", "steps": "few", "scale": 2}})(),
            r"(?s)Mine\.describe\(\) \(see docs/own_generator\.md\).*`steps`: .*got 'few'.*`guidance`: Field required"
            r".*unknown key `scale`",
        ),
    ],
    ids=["nothing", "no call", "class", "digest", "describe"],
)
def test_what_is_no_generator_is_refused_before_anything_is_written(tmp_path, pipe, message):
    with pytest.raises(ConfigError, match=message):
        run(tmp_path / "set", pipe)
    assert not (tmp_path / "set").exists()
