from __future__ import annotations

import dataclasses
import math
from pathlib import Path

import pytest
import tiny_configs
import torch
import torch.nn.functional as F
from PIL import Image

from reid_aug.augment.inpaint import WarpInpainter
from reid_aug.augment.store import Store
from reid_aug.augment.training_free import CopyAugmenter, WarpAugmenter
from reid_aug.config import FilterConfig, ReidConfig, ScheduleConfig, build_config
from reid_aug.data.images import decode
from reid_aug.data.subsets import take_fraction
from reid_aug.errors import CheckpointError, ConfigError, DataError, OutputError
from reid_aug.generators.pipeline import load_generator
from reid_aug.reid.model import load_model
from reid_aug.reid.transforms import normalise
from reid_aug.study.evaluate_reid import Evaluation
from reid_aug.study.recipe import augment, filter_generated, image_size_of, open_augmenter, train_reid


@pytest.fixture
def subset(toy_market):
    return take_fraction(toy_market.train, 0.5, seed=0)


@pytest.fixture
def generator(finished) -> Path:
    return finished.folder / "generators" / "whole"


@pytest.fixture
def config() -> ReidConfig:
    return build_config(ReidConfig, tiny_configs.REID)


@pytest.fixture
def copies(subset, tmp_path) -> Store:
    return augment(subset, CopyAugmenter(), tmp_path / "copies", per_identity=1)


# --- augment ------------------------------------------------------------------------------------------------------


def test_a_generator_of_another_size_than_the_images(subset, generator, tmp_path):
    pipe = load_generator(generator)
    store = augment(subset, pipe, tmp_path / "out", sampling={"num_inference_steps": 1}, per_identity=1, seed=3)
    assert image_size_of(pipe) == tiny_configs.SIZE
    assert len(store) == len(set(subset.pids.tolist()))
    for image in store.images:
        assert (image.steps, image.verdict) == (1, "unfiltered")
        assert Image.open(store.path(image)).size == tiny_configs.SIZE[::-1]


def test_called_again_it_goes_on(subset, tmp_path):
    first = augment(subset, WarpAugmenter(), tmp_path / "out", per_identity=1)
    written = {image.name: first.path(image).stat().st_mtime_ns for image in first.images}
    calls = []
    more = augment(
        subset, WarpAugmenter(), tmp_path / "out", per_identity=2, progress=lambda *call: calls.append(call)
    )
    assert len(more) == 2 * len(first)
    assert {name: (first.folder / "bounding_box_train" / name).stat().st_mtime_ns for name in written} == written
    assert calls[0] == ("generate", len(first), len(more), "")
    assert calls[-1][1] == len(more)


def test_a_judge_filters_as_the_images_come(subset, finished, tmp_path):
    judge = load_model(finished.folder / "reid" / "standard-50-seed0")
    store = augment(subset, CopyAugmenter(), tmp_path / "out", judge=judge, per_identity=1)
    assert all(image.verdict in ("keep", "reject") for image in store.images)
    by_folder = finished.folder / "reid" / "standard-50-seed0"
    again = augment(subset, CopyAugmenter(), tmp_path / "again", judge=by_folder, per_identity=1)
    assert [image.verdict for image in again.images] == [image.verdict for image in store.images]
    kept = filter_generated(store, judge, subset, FilterConfig(min_margin=-2.0))
    assert kept == {"keep": len(store), "reject": 0}
    assert filter_generated(store, judge, subset, FilterConfig(min_margin=2.0)) == {"keep": 0, "reject": len(store)}


def test_the_filter_waits_for_all_images(subset, finished, tmp_path):
    judge = load_model(finished.folder / "reid" / "standard-50-seed0")
    planned = len(set(subset.pids.tolist()))
    with pytest.warns(UserWarning, match=rf"out: 0 of {planned} images are drawn\. Run it again"):
        store = augment(subset, WarpAugmenter(), tmp_path / "out", judge=judge, minutes=0, per_identity=1)
    assert len(store) == 0
    store = augment(subset, WarpAugmenter(), tmp_path / "out", judge=judge, minutes=10, per_identity=1)
    assert {image.verdict for image in store.images} <= {"keep", "reject"}
    assert len(store) == planned


def test_images_that_came_after_the_filter_are_said(subset, config, finished, tmp_path):
    judge, out = load_model(finished.folder / "reid" / "standard-50-seed0"), tmp_path / "out"
    judged = len(augment(subset, CopyAugmenter(), out, judge=judge, per_identity=1))
    store = augment(subset, CopyAugmenter(), out, per_identity=2)
    with pytest.warns(UserWarning, match=rf"{len(store) - judged} of {len(store)} images .* not judged.*Filter"):
        train_reid(subset, store, schedule="concat", config=config)


def test_settings_that_do_not_exist(subset, tmp_path):
    with pytest.raises(ConfigError, match=r"unknown key `per_identty`.*per_identity"):
        augment(subset, WarpAugmenter(), tmp_path / "out", per_identty=2)
    with pytest.raises(ConfigError, match=r"WarpAugmenter has none, but `steps` is given"):
        augment(subset, WarpAugmenter(), tmp_path / "out", sampling={"steps": 2})
    assert not (tmp_path / "out").exists()


def test_another_run_is_not_overwritten(subset, copies):
    with pytest.raises(OutputError, match="holds another run"):
        augment(subset, WarpAugmenter(), copies.folder, per_identity=1)


def test_the_generator_by_name_or_folder(subset, generator, tmp_path):
    named = augment(subset, "copies", tmp_path / "named", per_identity=1)
    assert {image.generator for image in named.images} == {CopyAugmenter.digest}
    for place in (generator, str(generator)):
        store = augment(subset, place, tmp_path / "own", sampling={"steps": 1}, per_identity=1)
        assert {image.generator for image in store.images} == {load_generator(generator).digest}
    with pytest.raises(CheckpointError, match=r"wrap: no model_index\.json"):
        augment(subset, "wrap", tmp_path / "other")
    with pytest.raises(ConfigError, match=r"object has no `digest`.*docs/own_generator\.md"):
        augment(subset, object(), tmp_path / "other")
    assert not (tmp_path / "other").exists()


def test_augmenters_by_name(generator):
    assert isinstance(open_augmenter("warp"), WarpAugmenter)
    assert isinstance(open_augmenter("copies"), CopyAugmenter)
    assert open_augmenter(str(generator)).digest == load_generator(generator).digest
    around = open_augmenter(f"inpaint:{generator}")
    assert isinstance(around, WarpInpainter) and around.generator.digest == load_generator(generator).digest
    assert image_size_of(around) == tiny_configs.SIZE
    with pytest.raises(CheckpointError, match=r"^wrap: no model_index\.json"):
        open_augmenter("inpaint:wrap")
    with pytest.raises(CheckpointError, match=r"wrap: no model_index\.json"):
        open_augmenter("wrap")


# --- train_reid ---------------------------------------------------------------------------------------------------


def test_scores_are_those_of_the_protocol_by_hand(subset, config, toy_market):
    trained = train_reid(subset, config=config, eval_on=toy_market)

    def features(samples):
        pixels = torch.stack([decode(sample.path, tiny_configs.SIZE) for sample in samples])
        with torch.inference_mode():
            return F.normalize(trained.model(normalise(pixels)))

    query, gallery = toy_market.query, toy_market.gallery
    similarity = features(query) @ features(gallery).T
    hits, precisions = [], []
    for row, sample in zip(similarity, query):
        order = [gallery[index] for index in row.argsort(descending=True).tolist()]
        ranked = [other for other in order if (other.pid, other.camid) != (sample.pid, sample.camid)]
        matches = [other.pid == sample.pid for other in ranked]
        if not any(matches):
            continue
        hits.append(matches[0])
        found = [rank for rank, match in enumerate(matches, start=1) if match]
        precisions.append(sum(count / rank for count, rank in enumerate(found, start=1)) / len(found))
    assert trained.scores.queries == len(hits)
    assert math.isclose(trained.scores.rank1, 100 * sum(hits) / len(hits), abs_tol=1e-4)
    assert math.isclose(trained.scores.mAP, 100 * sum(precisions) / len(precisions), abs_tol=1e-2)


def test_generated_images_are_trained_on(subset, copies, config):
    alone = train_reid(subset, config=config)
    mixed = train_reid(subset, copies, schedule="fixed_ratio", config=config)
    weights = [model.model.state_dict()["classifier.weight"] for model in (alone, mixed)]
    assert weights[0].shape == weights[1].shape
    assert not torch.equal(*weights)
    for folder in (copies.folder, str(copies.folder)):
        opened = train_reid(subset, folder, schedule="fixed_ratio", config=config)
        assert torch.equal(opened.model.state_dict()["classifier.weight"], weights[1])


def test_epochs_are_converted_before_the_schedule_is_made(subset, copies, config):
    """Half of the training on real images means half of the iterations that the epochs come to."""
    settings = {**tiny_configs.REID, "training": {"epochs": 2, "identities": 4, "images": 2, "seed": 0}}
    calls = []
    schedule = ScheduleConfig(policy="finetune", start=0.5)
    in_epochs = build_config(ReidConfig, settings)
    by_epochs = train_reid(
        subset, copies, schedule=schedule, config=in_epochs, progress=lambda *call: calls.append(call)
    )
    stage, done, total, note = calls[-1]
    assert (stage, done) == ("train re-ID", total) and note.startswith("loss ")
    settings["training"] = {**settings["training"], "epochs": None, "iterations": total}
    by_iterations = train_reid(subset, copies, schedule=schedule, config=build_config(ReidConfig, settings))
    for one, other in zip(by_epochs.model.parameters(), by_iterations.model.parameters()):
        assert torch.equal(one, other)


def test_a_schedule_without_a_store_and_a_store_without_a_schedule(subset, copies, config, tmp_path):
    with pytest.raises(ConfigError, match="concat mixes in generated images, but no store is given"):
        train_reid(subset, schedule="concat", config=config, out=tmp_path / "reid")
    with pytest.raises(ConfigError, match=r"none uses real images alone, but the store .*copies is given"):
        train_reid(subset, copies, config=config, out=tmp_path / "reid")
    with pytest.raises(OutputError, match="is not a generated set"):
        train_reid(subset, tmp_path / "none", schedule="concat", config=config, out=tmp_path / "reid")
    with pytest.raises(ConfigError, match="`policy`"):
        train_reid(subset, copies, schedule="mixup", config=config, out=tmp_path / "reid")
    assert not (tmp_path / "reid").exists()


def test_a_store_of_other_real_images_is_neither_trained_on_nor_judged(toy_market, copies, config, finished):
    smaller = take_fraction(toy_market.train, 0.3, seed=0)
    with pytest.raises(DataError, match=r"manifest\.jsonl: .*not among the .* real images"):
        train_reid(smaller, copies, schedule="fixed_ratio", config=config)
    judge = load_model(finished.folder / "reid" / "standard-50-seed0")
    with pytest.raises(DataError, match=r"manifest\.jsonl: .*not among the .* real images"):
        filter_generated(copies, judge, smaller, FilterConfig())


def test_a_store_without_an_image_left_is_said(subset, copies, config):
    copies.update([image.judged(-1.0, "reject", "") for image in copies.images])
    with pytest.warns(UserWarning, match=r"copies: none of its 6 images is kept.*real images alone"):
        mixed = train_reid(subset, copies, schedule="fixed_ratio", config=config)
    plain = train_reid(subset, config=config)
    weights = plain.model.state_dict()
    assert all(torch.equal(value, weights[name]) for name, value in mixed.model.state_dict().items())


def test_held_out_identities_are_scored_and_not_trained_on(toy_market, config, tmp_path):
    store = augment(toy_market.train, CopyAugmenter(), tmp_path / "copies", per_identity=1)
    training = config.training.model_copy(update={"evaluate_every": 1})
    config = config.model_copy(update={"training": training})
    out = tmp_path / "reid"
    trained = train_reid(toy_market.train, store, schedule="concat", config=config, holdout=0.2, out=out)
    assert trained.model.state_dict()["classifier.weight"].shape[0] == 5  # of 6 identities
    assert trained.holdout.queries > 0 and trained.scores is None
    assert any(b"holdout_rank1" in path.read_bytes() for path in (out / "logs").iterdir())
    with pytest.raises(ConfigError, match=r"`training\.evaluate_every`: there is nobody to score.*Hold identities out"):
        train_reid(toy_market.train, config=config)
    config = config.model_copy(update={"training": training.model_copy(update={"evaluate_every": None})})
    assert train_reid(toy_market.train, config=config).holdout is None


def test_images_are_decoded_at_the_models_size(toy_market):
    query, gallery = Evaluation(dataclasses.replace(toy_market, gallery=toy_market.gallery[:3]), (96, 48)).images
    assert query.batch([0]).shape == (1, 3, 96, 48)
    assert gallery.batch([2]).shape == (1, 3, 96, 48)
