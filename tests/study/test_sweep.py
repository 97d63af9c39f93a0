from __future__ import annotations

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import tiny_configs

from reid_aug.augment.identity import judge
from reid_aug.augment.inpaint import WarpInpainter
from reid_aug.augment.store import KEPT, Store
from reid_aug.config import FilterConfig, GeneratorConfig, StudyConfig, load_config, save_config
from reid_aug.data.images import Images
from reid_aug.data.market1501 import load_market1501
from reid_aug.data.subsets import take_fraction
from reid_aug.errors import ConfigError, DataError, OutputError
from reid_aug.generators.pipeline import load_generator
from reid_aug.reid.features import extract_features
from reid_aug.reid.model import load_model
from reid_aug.study.cell import Study, generated_set, trained_generator
from reid_aug.study.results import Results
from reid_aug.study.sweep import announcer, generate_sets, run_sweep, train_generators

GENERATED = ["copies", "inpaint-whole", "own", "warp", "whole"]
SCORES = ("arm", "rank1", "rank5", "rank10", "mAP", "mINP", "real_images", "synthetic_images")


def made(folder: Path, arm: str) -> Path:
    """Where the arm's extra images are: those arms are named as their generators."""
    (found,) = (folder / "generated").glob(f"{arm}-??????-50-seed0")
    return found


def lines(folder: Path) -> list[dict]:
    return [json.loads(line) for line in (folder / "results.jsonl").read_text().splitlines()]


def scores(folder: Path) -> list[dict]:
    return [{name: line[name] for name in SCORES} for line in lines(folder)]


def never(*_):
    raise AssertionError("a cell was run")


@pytest.fixture
def copy(finished, tmp_path) -> Path:
    return Path(shutil.copytree(finished.folder, tmp_path / "study"))


# --- what a study leaves behind -----------------------------------------------------------------------------------


def test_every_arm_has_one_line_and_the_standard_one_is_first(finished, toy_market):
    arms = ["standard", "warp", "copies", "own", "whole", "inpaint-whole"]
    assert [line["arm"] for line in lines(finished.folder)] == arms
    assert finished.announced == [(done, 6, arm) for done, arm in enumerate(arms, start=1)]
    assert [line["generator"] for line in lines(finished.folder)] == [None, *arms[1:]]
    assert {line["iterations"] for line in lines(finished.folder)} == {2}
    subset = take_fraction(toy_market.train, 0.5, seed=0)
    assert {line["real_images"] for line in lines(finished.folder)} == {len(subset)}


def test_the_images_counted_are_those_that_the_filter_kept(finished):
    for line in lines(finished.folder):
        kept = 0 if line["arm"] == "standard" else len(list((made(finished.folder, line["arm"]) / KEPT).iterdir()))
        assert line["synthetic_images"] == kept


@pytest.mark.parametrize("arm", GENERATED)
def test_the_standard_arms_model_judged_the_images(finished, toy_market, arm):
    store = Store.open(made(finished.folder, arm))
    subset = take_fraction(toy_market.train, 0.5, seed=0)
    model = load_model(finished.folder / "reid" / "standard-50-seed0")
    generated = store.samples(("keep", "reject", "unfiltered"))
    verdicts = judge(
        extract_features(model, Images(generated, tiny_configs.SIZE)), generated.pids,
        extract_features(model, Images(subset, tiny_configs.SIZE)), subset.pids, FilterConfig(),
    )  # fmt: skip
    assert [image.verdict for image in store.images] == [verdict.verdict for verdict in verdicts]
    assert np.allclose([image.identity_score for image in store.images], [v.score for v in verdicts], atol=1e-5)


def test_a_generator_is_trained_for_each_subset_or_once_for_all(finished):
    folders = sorted(path.name for path in (finished.folder / "generators").iterdir())
    assert folders == ["own-50-seed0", "whole"]
    digests = {}
    for arm, folder in (("own", "own-50-seed0"), ("whole", "whole")):
        store = Store.open(made(finished.folder, arm))
        digests[arm] = store.settings["generator"]
        assert digests[arm] == load_generator(finished.folder / "generators" / folder).digest
    assert digests["own"] != digests["whole"]  # as they learned from different images


def test_an_arm_may_draw_around_the_warp_with_a_generator_of_another(finished):
    pipe = WarpInpainter(load_generator(finished.folder / "generators" / "whole"))
    around, alone = (Store.open(made(finished.folder, arm)) for arm in ("inpaint-whole", "whole"))
    assert around.settings["generator"] == pipe.digest != alone.settings["generator"]
    assert around.settings["sampling"] == alone.settings["sampling"]
    for first, second in zip(around.images, alone.images, strict=True):
        assert (first.name, first.seed) == (second.name, second.seed)
        assert around.path(first).read_bytes() != alone.path(second).read_bytes()


def test_the_time_of_each_stage_is_recorded(finished):
    stages = json.loads((finished.folder / "stages.json").read_text())
    assert set(stages) == {"train re-ID", "evaluate", "train generator", "generate", "filter"}
    assert min(stages.values()) > 0
    del stages["train generator"]  # before its cell begins
    assert sum(stages.values()) <= sum(line["seconds"] for line in lines(finished.folder))


def test_an_announcer_says_one_line_a_finished_cell(finished):
    said: list[str] = []
    announce = announcer(said.append)
    result = finished.results[1]
    announce(2, 6, result)
    (line,) = said
    assert line.startswith(f"[2/6] 50 % warp seed 0: Rank-1 {result.rank1:.1f}, mAP {result.mAP:.1f}")


# --- going on -----------------------------------------------------------------------------------------------------


def test_cells_are_not_run_twice(copy, finished, toy_market):
    before = (copy / "results.jsonl").read_bytes(), (copy / "stages.json").read_bytes()
    results = run_sweep(finished.config, toy_market, copy, announce=never)
    assert len(results) == len(tiny_configs.ARMS)
    assert ((copy / "results.jsonl").read_bytes(), (copy / "stages.json").read_bytes()) == before


def test_a_seed_is_added_and_arms_left_out_stay_in_the_study(copy, toy_market):
    added = tiny_configs.study(seeds=[1], arms={"standard": {}}, generators={})
    run_sweep(added, toy_market, copy)
    assert [(line["arm"], line["seed"]) for line in lines(copy)][len(tiny_configs.ARMS) :] == [("standard", 1)]
    saved = load_config(StudyConfig, copy / "study.yaml")
    assert (saved.seeds, list(saved.arms)) == ((0, 1), list(tiny_configs.ARMS))
    changed = {**tiny_configs.ARMS, "warp": tiny_configs.arm("warp", "finetune")}
    with pytest.raises(OutputError, match=r"arms\.warp"):
        run_sweep(tiny_configs.study(arms=changed), toy_market, copy)


def test_no_cell_is_begun_past_the_minutes(toy_market, tmp_path):
    results = run_sweep(tiny_configs.study(), toy_market, tmp_path / "study", minutes=0, announce=never)
    assert len(results) == 0
    assert load_config(StudyConfig, tmp_path / "study" / "study.yaml") == tiny_configs.study()


KILLED = """
import os, signal, sys
import tiny_configs
from reid_aug.data.market1501 import load_market1501
from reid_aug.study.sweep import run_sweep

stage, count, times = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
seen = []

def progress(name, done, total, note=""):
    seen.append((name, done) == (stage, count))
    if sum(seen) == times:
        os.kill(os.getpid(), signal.SIGKILL)

arms = {name: tiny_configs.ARMS[name] for name in ("standard", "own")}
run_sweep(tiny_configs.study(arms=arms), load_market1501(sys.argv[4]), sys.argv[5], progress=progress)
"""


@pytest.mark.parametrize(
    ("stage", "count", "times", "cells"),
    [
        pytest.param("generate", 6, 1, 1, id="while it generates"),
        pytest.param("train re-ID", 1, 2, 1, id="in the second training", marks=pytest.mark.slow),
        pytest.param("train generator", 2, 1, 1, id="as the generator ends", marks=pytest.mark.slow),
        pytest.param("train re-ID", 1, 1, 0, id="in the first training", marks=pytest.mark.slow),
    ],
)
def test_a_killed_study_goes_on_without_doubling_anything(finished, toy_root, tmp_path, stage, count, times, cells):
    folder = tmp_path / "study"
    command = [sys.executable, "-c", KILLED, stage, str(count), str(times), str(toy_root), str(folder)]
    killed = subprocess.run(command, cwd=Path(tiny_configs.__file__).parent, capture_output=True, text=True)
    assert killed.returncode == -signal.SIGKILL, killed.stderr
    assert len(Results(folder / "results.jsonl")) == cells
    arms = {name: tiny_configs.ARMS[name] for name in ("standard", "own")}
    run_sweep(tiny_configs.study(arms=arms), load_market1501(toy_root), folder)
    assert scores(folder) == [line for line in scores(finished.folder) if line["arm"] in arms]
    store, unbroken = (Store.open(made(where, "own")) for where in (folder, finished.folder))
    assert Counter(image.name for image in store.images) == Counter(image.name for image in unbroken.images)
    for one, other in zip(store.images, unbroken.images):
        assert (one.name, one.seed, one.verdict) == (other.name, other.seed, other.verdict)
        assert store.path(one).read_bytes() == unbroken.path(other).read_bytes()
    weights = Path("reid") / "own-50-seed0" / "model.safetensors"
    assert (folder / weights).read_bytes() == (finished.folder / weights).read_bytes()


def test_a_judged_set_is_not_judged_again(copy, finished, toy_market):
    """Another machine's model may be a rounding away; the set that a training began with must not change under it."""
    store = Store.open(made(copy, "warp"))
    first = store.images[0]
    store.update([first.judged(0.5, "reject" if first.verdict == "keep" else "keep", "by hand")])
    kept = [line for line in (copy / "results.jsonl").read_text().splitlines(True) if '"warp"' not in line]
    (copy / "results.jsonl").write_text("".join(kept))
    shutil.rmtree(copy / "reid" / "warp-50-seed0")
    run_sweep(finished.config, toy_market, copy)
    assert Store.open(store.folder).images == store.images
    (line,) = [line for line in lines(copy) if line["arm"] == "warp"]
    assert line["synthetic_images"] == len(store.samples())


def test_stage_by_stage_gives_the_same_results(finished, toy_market, tmp_path):
    arms = {name: tiny_configs.ARMS[name] for name in ("standard", "own")}
    config, folder = tiny_configs.study(arms=arms), tmp_path / "study"
    assert train_generators(config, toy_market, folder, minutes=1e-9) == []  # one iteration of two
    (generator,) = train_generators(config, toy_market, folder)
    assert generator == folder / "generators" / "own-50-seed0"
    (store,) = generate_sets(config, toy_market, folder)
    assert {image.verdict for image in store.images} == {"unfiltered"}
    assert not (folder / "reid").exists()
    drawn = [store.path(image).read_bytes() for image in store.images]
    run_sweep(config, toy_market, folder)
    assert [Store.open(store.folder).path(image).read_bytes() for image in Store.open(store.folder).images] == drawn
    assert scores(folder) == [line for line in scores(finished.folder) if line["arm"] in arms]


def test_drawn_images_need_no_generator(copy, finished, toy_market):
    shutil.rmtree(copy / "generators")
    shutil.rmtree(copy / "reid")
    (copy / "results.jsonl").unlink()
    assert train_generators(finished.config, toy_market, copy) == []
    run_sweep(finished.config, toy_market, copy)
    assert not (copy / "generators").exists()
    assert scores(copy) == scores(finished.folder)


def test_drawing_stops_after_the_minutes(toy_market, tmp_path):
    study = Study(tiny_configs.study(), toy_market, tmp_path / "study")
    subset = take_fraction(toy_market.train, 0.5, seed=0)
    assert len(generated_set(study, "warp", subset, 0.5, 0, minutes=0)) == 0
    assert len(generated_set(study, "warp", subset, 0.5, 0)) > 0


def test_arms_that_ask_for_the_same_images_share_them(toy_market, tmp_path):
    arms = {
        "standard": {}, "ratio": tiny_configs.arm("warp", "fixed_ratio"), "after": tiny_configs.arm("warp", "finetune"),
        "more": {**tiny_configs.arm("warp", "finetune"), "augment": {"per_identity": 3, "batch_size": 3}},
    }  # fmt: skip
    stores = generate_sets(tiny_configs.study(arms=arms, generators={}), toy_market, tmp_path / "study")
    ratio, after, more = (store.folder for store in stores)
    assert ratio == after != more
    assert len(list((tmp_path / "study" / "generated").iterdir())) == 2


def test_a_study_changes_only_the_sampling_settings_that_it_names(toy_market, tmp_path):
    arms = {"standard": {}, "whole": tiny_configs.ARMS["whole"]}
    config = tiny_configs.study(arms=arms, sampling={"steps": 1})
    (store,) = generate_sets(config, toy_market, tmp_path / "study")
    own = load_generator(tmp_path / "study" / "generators" / "whole").describe()
    assert (own["steps"], own["guidance"]) == (2, "cumulative")
    for image in store.images:
        assert (image.steps, image.guidance, image.guidance_scale) == (1, own["guidance"], own["guidance_scale"])


def test_a_subsets_seed_is_its_generators(toy_market, tmp_path):
    config = tiny_configs.study(arms={"standard": {}, "own": tiny_configs.ARMS["own"]}, seeds=[3])
    (folder,) = train_generators(config, toy_market, tmp_path / "study")
    assert load_config(GeneratorConfig, folder / "train_config.yaml").training.seed == 3


def test_images_brought_from_another_machine_begin_a_study(finished, toy_market, tmp_path):
    for kind in ("generators", "generated"):
        shutil.copytree(finished.folder / kind, tmp_path / "study" / kind)
    stores = generate_sets(finished.config, toy_market, tmp_path / "study")
    assert [len(store) for store in stores] == [len(Store.open(store.folder)) for store in stores]
    assert not (tmp_path / "study" / "stages.json").exists()  # nothing was trained or drawn


def test_a_generator_that_does_not_fit_its_time_goes_on_with_fewer_iterations(toy_market, tmp_path):
    arms = {"standard": {}, "own": tiny_configs.ARMS["own"]}

    def with_iterations(count: int) -> StudyConfig:
        config = {**tiny_configs.GENERATOR, "training": {**tiny_configs.GENERATOR["training"], "iterations": count}}
        return tiny_configs.study(arms=arms, generators={"own": {"config": config}})

    folder = tmp_path / "study"
    assert train_generators(with_iterations(1000), toy_market, folder, minutes=0) == []
    subset = take_fraction(toy_market.train, 0.5, seed=0)
    begun = trained_generator(Study(with_iterations(1000), toy_market, folder), "own", subset, 0.5, 0, minutes=0)
    assert (begun / "checkpoint.pt").exists()
    (folder,) = train_generators(with_iterations(2), toy_market, tmp_path / "study")
    assert folder == begun and load_config(GeneratorConfig, folder / "train_config.yaml").training.iterations == 2
    with pytest.raises(OutputError, match=r"own-50-seed0: holds a run with other settings"):
        train_generators(with_iterations(3), toy_market, tmp_path / "study")


def test_the_starting_weights_may_lie_elsewhere(copy, finished, toy_market):
    def with_weights(path: str) -> StudyConfig:
        reid = {**tiny_configs.REID, "model": {**tiny_configs.REID["model"], "weights": path}}
        return tiny_configs.study(reid=reid)

    here, there, other = map(with_weights, ("here/start.pth", "there/start.pth", "here/other.pth"))
    save_config(here, copy / "study.yaml")
    run_sweep(there, toy_market, copy, minutes=0)
    assert load_config(StudyConfig, copy / "study.yaml") == there
    with pytest.raises(OutputError, match=r"other settings \(reid\)"):
        run_sweep(other, toy_market, copy, minutes=0)


# --- what is refused ----------------------------------------------------------------------------------------------


def with_arm(**changes) -> dict:
    return {"arms": {**tiny_configs.ARMS, "warp": tiny_configs.arm("warp", "concat", **changes)}}


@pytest.mark.parametrize(
    ("changes", "named"),
    [
        ({"reid": {**tiny_configs.REID, "loss": {"label_smoothing": 0.2}}}, "reid"),
        ({"data_set": "other"}, "data_set"),
        ({"sampling": {"steps": 3}}, "sampling"),
        (with_arm(augment={"per_identity": 3, "batch_size": 3}), r"arms\.warp"),
        (
            {
                "generators": {
                    "own": {"config": {**tiny_configs.GENERATOR, "sampling": {"steps": 3}}},
                    "whole": {"config": tiny_configs.GENERATOR, "sees": "train"},
                }
            },
            r"generators\.own",
        ),
    ],
)
def test_other_settings_are_refused_and_change_nothing(copy, toy_market, changes, named):
    before = (copy / "study.yaml").read_bytes()
    with pytest.raises(OutputError, match=rf"other settings \({named}\)\. Name another folder"):
        run_sweep(tiny_configs.study(**changes), toy_market, copy, announce=never)
    assert (copy / "study.yaml").read_bytes() == before


def test_a_schedule_that_cannot_be_is_refused_before_anything_is_drawn(toy_market, tmp_path):
    warp = tiny_configs.arm("warp", "concat", schedule={"policy": "concat", "start": 0.1})
    config = tiny_configs.study(arms={"standard": {}, "warp": warp}, generators={})
    with pytest.raises(ConfigError, match="concat does not go by `start`"):
        generate_sets(config, toy_market, tmp_path / "study")
    assert not (tmp_path / "study").exists()


def test_another_data_set_is_refused_and_changes_nothing(copy, toy_market):
    other = dataclasses.replace(toy_market, query=toy_market.query[1:])
    before = (copy / "study.yaml").read_bytes()
    with pytest.raises(DataError, match=r"not the images that the study in .* was run on"):
        run_sweep(tiny_configs.study(seeds=[0, 1]), other, copy, announce=never)
    assert (copy / "study.yaml").read_bytes() == before


def test_a_folder_of_something_else_is_refused(toy_market, tmp_path):
    (tmp_path / "thesis.txt").write_text("mine")
    with pytest.raises(OutputError, match="not empty, and not a study"):
        run_sweep(tiny_configs.study(), toy_market, tmp_path, announce=never)
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_a_file_is_no_folder_of_a_study(toy_market, tmp_path):
    (tmp_path / "study").write_text("mine")
    with pytest.raises(OutputError, match=r"study: a file, not a folder"):
        run_sweep(tiny_configs.study(), toy_market, tmp_path / "study", announce=never)


def test_a_study_of_another_version_is_refused(copy, finished, toy_market):
    (copy / "study.yaml").write_text("fractoins: [0.5]\n")
    with pytest.raises(OutputError, match=r"another version: .*unknown key `fractoins`"):
        run_sweep(finished.config, toy_market, copy, announce=never)
