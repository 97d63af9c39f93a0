"""The commands as a user meets them: their help, one way through all of them, and what bad input leads to."""

from __future__ import annotations

import json
import shlex
import shutil
import subprocess
import sys
import warnings
from dataclasses import dataclass
from pathlib import Path

import click
import pytest
import tiny_configs
import typer
import yaml

from reid_aug.augment.store import Store
from reid_aug.cli import app, main
from reid_aug.data.keypoints import HEADER
from reid_aug.data.market1501 import load_market1501
from reid_aug.data.pairs import sample_pairs, write_pairs
from reid_aug.generators.pipeline import load_generator


@dataclass(frozen=True)
class Outcome:
    """What a command returned and printed."""

    code: int
    out: str
    err: str


@pytest.fixture
def call(monkeypatch, capsys):
    """Run ``reid-aug`` with the arguments, in this process."""
    monkeypatch.setenv("COLUMNS", "300")
    monkeypatch.setenv("DIFFUSERS_VERBOSITY", "error")

    def run(*arguments: object) -> Outcome:
        monkeypatch.setattr(sys, "argv", ["reid-aug", *map(str, arguments)])
        capsys.readouterr()
        code = 0
        with warnings.catch_warnings():
            try:
                main()
            except SystemExit as exit:
                code = exit.code or 0
        return Outcome(code, *capsys.readouterr())

    return run


@pytest.fixture
def files(tmp_path) -> dict[str, Path]:
    """Tiny configurations as files."""
    study = {
        "data_set": "toy", "fractions": [0.5], "seeds": [0], "reid": tiny_configs.REID,
        "arms": {name: tiny_configs.ARMS[name] for name in ("standard", "warp")},
    }  # fmt: skip
    paths = {}
    for name, values in (("reid", tiny_configs.REID), ("generator", tiny_configs.GENERATOR), ("study", study)):
        paths[name] = tmp_path / f"{name}.yaml"
        paths[name].write_text(yaml.safe_dump(values))
    return paths


@pytest.fixture
def broken(toy_root, tmp_path) -> Path:
    """A copy of the toy data set, to be broken."""
    return Path(shutil.copytree(toy_root, tmp_path / "data", ignore=shutil.ignore_patterns("parts")))


def assert_refused(outcome: Outcome, *parts: str) -> None:
    """Status 2 and one error, after warnings at most, with what it says."""
    assert outcome.code == 2, outcome
    assert outcome.out == ""
    (line,) = [index for index, line in enumerate(outcome.err.splitlines()) if line.startswith("error: ")]
    assert all(line.startswith("warning: ") for line in outcome.err.splitlines()[:line])
    assert "Traceback" not in outcome.err
    for part in parts:
        assert part in outcome.err


# --- help ---------------------------------------------------------------------------------------------------------


def leaves(command: click.Command, path: tuple[str, ...] = ()) -> dict[str, click.Command]:
    if not hasattr(command, "commands"):
        return {" ".join(path): command}
    return {
        name: leaf for key, child in command.commands.items() for name, leaf in leaves(child, (*path, key)).items()
    }


COMMANDS = leaves(typer.main.get_command(app))


def test_the_commands():
    assert {
        "demo", "data toy", "data check", "data holdout", "data merge", "pose extract", "train-generator", "generate",
        "filter", "train-reid", "extract-features", "export", "evaluate reid", "evaluate generator", "sweep", "report",
        "bench reid", "bench pose",
    } <= set(COMMANDS)  # fmt: skip


@pytest.mark.parametrize("name", COMMANDS)
def test_help_shows_an_example_that_the_command_takes(name, call):
    outcome = call(*name.split(), "--help")
    assert outcome.code == 0
    (example,) = [line.strip(" │\n") for line in outcome.out.splitlines() if "Example:" in line]
    words = shlex.split(example.removeprefix("Example: "))
    assert words[: 1 + len(name.split())] == ["reid-aug", *name.split()]
    COMMANDS[name].make_context(name, words[1 + len(name.split()) :])  # parses the options, runs nothing


# --- one way through ----------------------------------------------------------------------------------------------


def test_every_command_after_the_other(call, files, tmp_path):
    data, runs = tmp_path / "data", tmp_path / "runs"

    def done(*arguments: object) -> str:
        outcome = call(*arguments)
        assert outcome.code == 0, outcome.err
        return outcome.out

    assert "train" in done("data", "toy", data, "--identities", 6)
    checked = done("data", "check", data)
    assert "undecodable images: 0" in checked and "training pairs:" in checked

    assert "query" in done("data", "holdout", data, tmp_path / "tune", "--share", 0.4)
    assert "undecodable images: 0" in done("data", "check", tmp_path / "tune")

    for split in ("query", "bounding_box_test"):  # nothing but scoring needs them
        (data / split).rename(tmp_path / split)
    subset = ("--data", data, "--fraction", 0.5)
    said = done("train-generator", files["generator"], *subset, "--out", runs / "pidm")
    assert str(runs / "pidm") in said and (runs / "pidm" / "model_index.json").exists()
    said = done(
        "generate", "--generator", runs / "pidm", *subset, "--per-identity", 1, "--steps", 1, "--out", runs / "pidm_set"
    )
    assert "6 images" in said
    line = json.loads((runs / "pidm_set" / "manifest.jsonl").read_text().splitlines()[0])
    assert (line["steps"], line["sampler"]) == (1, "DDIMScheduler")
    around = ("generate", "--generator", f"inpaint:{runs / 'pidm'}", *subset, "--per-identity", 1, "--steps", 1)
    assert "6 images" in done(*around, "--out", runs / "around")
    line = json.loads((runs / "around" / "manifest.jsonl").read_text().splitlines()[0])
    assert (line["steps"], line["generator"]) == (1, f"inpaint-1-{load_generator(runs / 'pidm').digest}")
    assert "12 images" in done("generate", *subset, "--per-identity", 2, "--out", runs / "aug")

    done("train-reid", files["reid"], *subset, "--out", runs / "standard")
    said = done("filter", runs / "aug", "--judge", runs / "standard", *subset, "--min-margin", -2)
    assert "kept 12, refused 0" in said
    mixed = ("train-reid", files["reid"], *subset, "--store", runs / "aug", "--schedule", "fixed_ratio")
    said = done(*mixed, "--set", "training.seed=3", "--out", runs / "mixed")
    assert f"reid-aug evaluate reid {runs / 'mixed'}" in said
    assert yaml.safe_load((runs / "mixed" / "reid_config.yaml").read_text())["training"]["seed"] == 3

    for split in ("query", "bounding_box_test"):
        (tmp_path / split).rename(data / split)
    merge = ("data", "merge", tmp_path / "merged", *subset, "--store", runs / "aug")
    assert "12 generated training images" in done(*merge)
    merged, real = load_market1501(tmp_path / "merged"), load_market1501(data)
    assert {image.name for image in merged.train} > {image.name for image in Store.open(runs / "aug").samples()}
    assert [image.name for image in merged.query] == [image.name for image in real.query]
    assert_refused(call(*merge), "merged: cannot be written", "Name another folder")
    assert_refused(call(*merge[:2], tmp_path / "other", *merge[3:], "--seed", 3), "not among", "that the set was")

    assert_refused(call(*mixed, "--seed", 3, "--out", runs / "other"), "not among", "Give the data, fraction and seed")

    scored = done("evaluate", "reid", runs / "mixed", "--data", data, "--rerank")
    assert "Rank-1" in scored and "data, cosine" in scored and "data, re-ranked" in scored

    score = ("evaluate", "generator", runs / "pidm", "--data", data, "--out", runs / "scores.jsonl")
    said = done(*score, "--count", 3, "--steps", 1, "--seed", 7, "--judge", runs / "standard")
    assert "M-SSIM" in said and "not scored, for no model was given: pose (--pose-model), LPIPS" in said
    pairs = tmp_path / "pairs.csv"
    write_pairs(pairs, sample_pairs(load_market1501(data).gallery, 3, seed=7))
    done("evaluate", "generator", "warp", "--data", data, "--pairs", pairs, "--out", runs / "scores.jsonl")
    first, second = [json.loads(line) for line in (runs / "scores.jsonl").read_text().splitlines()]
    assert (first["steps"], first["judge"], second["rank1"]) == (1, str(runs / "standard"), None)
    assert first["pairs_digest"] == second["pairs_digest"]

    said = done("sweep", files["study"], "--data", data, "--out", runs / "study", "--minutes", 0)
    assert "(0 cells)" in said
    said = done("sweep", files["study"], "--data", data, "--out", runs / "study", "--set", "seeds=[0]")
    assert "[1/2] 50 % standard seed 0: Rank-1" in said and "[2/2] 50 % warp" in said and "(2 cells)" in said
    assert f"report: {runs / 'study' / 'report.html'}" in done("report", runs / "study", "--data", data)


def test_a_trained_model_elsewhere(call, finished_runs, toy_root, tmp_path):
    """On other data sets, on folders of any images, and out of this package."""
    reid, other = finished_runs / "reid", tmp_path / "other"
    assert call("data", "toy", other, "--identities", 4, "--seed", 3).code == 0
    form = ("--average-precision", "trapezoidal", "--single-shot", 2)
    outcome = call("evaluate", "reid", reid, "--data", toy_root, "--data", other, *form)
    assert outcome.code == 0, outcome.err
    for folder in (toy_root, other):
        assert f"{folder.name}, cosine: Rank-1" in outcome.out
    assert outcome.out.count("(trapezoidal)") == outcome.out.count("(2 single gallery shots)") == 2

    outcome = call("extract-features", reid, toy_root, "--out", tmp_path / "features.npz")
    assert outcome.code == 0, outcome.err
    images = sum(1 for path in toy_root.rglob("*") if path.suffix in (".jpg", ".png"))
    assert f"{images:,} images" in outcome.out
    assert_refused(call("extract-features", reid, toy_root, "--out", "features.csv"), ".npz or .safetensors")

    outcome = call("export", reid, "--out", tmp_path / "model.onnx")
    assert outcome.code == 0, outcome.err
    assert str(tmp_path / "model.onnx") in outcome.out and (tmp_path / "model.onnx").stat().st_size > 10_000
    assert_refused(call("bench", "reid", "--model", reid), "--model and --data", "Give both, or neither")


def test_training_a_generator_goes_on_when_called_again(call, files, toy_root, tmp_path):
    run = tmp_path / "run"
    train = ("train-generator", files["generator"], "--data", toy_root, "--out", run)
    half = (*train, "--fraction", 0.5)
    stopped = call(*half, "--minutes", 0)
    assert stopped.code == 0
    assert stopped.out.startswith("stopped at 1 of 2 iterations; run the same command again to go on   sample sheets: ")
    assert stopped.err.count("no pair") == 1  # one identity of that half has a single image: said once
    draw = ("generate", "--data", toy_root, "--generator", run, "--per-identity", 1, "--steps", 1)
    assert f"warning: {run}: not trained to its end" in call(*draw, "--out", tmp_path / "early").err
    for _ in ("goes on to its end", "is loaded"):
        assert call(*half).out.startswith(f"generator: {run}   sample sheets: ")
    assert "not trained" not in call(*draw, "--out", tmp_path / "set").err
    assert_refused(call(*train), str(run), "other images, poses or pairs", "Give the data, fraction and seed")
    assert_refused(call(*half, "--set", "training.batch_size=3"), "other settings", "train_config.yaml")


def test_a_key_point_file_is_looked_for_where_the_user_stands(call, broken, tmp_path, monkeypatch):
    (tmp_path / "here").mkdir()
    shutil.move(broken / "market-annotation-train.csv", tmp_path / "here" / "mine.csv")
    monkeypatch.chdir(tmp_path / "here")
    assert call("generate", "--data", broken, "--keypoints", "mine.csv", "--per-identity", 1, "--out", "set").code == 0
    assert_refused(call("generate", "--data", broken, "--keypoints", "none.csv", "--out", "set2"), "none.csv")


# --- bad input ----------------------------------------------------------------------------------------------------


def test_an_error_is_one_message_without_a_traceback(tmp_path):
    command = [sys.executable, "-m", "reid_aug", "data", "check", str(tmp_path / "none")]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == 2
    assert done.stderr.startswith(f"error: {tmp_path / 'none'}: no such folder. Name the one that holds")
    assert done.stdout == "" and "Traceback" not in done.stderr


def test_missing_folders(call, files, broken, tmp_path):
    train = ("train-reid", files["reid"], "--out", tmp_path / "out", "--data")
    assert_refused(call(*train, tmp_path / "none"), str(tmp_path / "none"), "no such folder", "bounding_box_train")
    shutil.rmtree(broken / "query")
    assert_refused(call("evaluate", "reid", tmp_path / "none", "--data", broken), "no reid_config.yaml")
    assert_refused(call("report", tmp_path / "none", "--data", broken), str(broken / "query"), "unpack it whole")
    sweep = ("sweep", files["study"], "--out", tmp_path / "out", "--data")
    assert_refused(call(*sweep, broken), str(broken / "query"), "unpack it whole")
    shutil.rmtree(broken / "bounding_box_train")
    assert_refused(call(*train, broken), str(broken / "bounding_box_train"), "unpack it whole")
    assert not (tmp_path / "out").exists()


def test_a_name_that_is_not_in_form(call, broken):
    first = next((broken / "bounding_box_train").iterdir())
    first.rename(first.with_name("person.jpg"))
    outcome = call("data", "check", broken)
    assert_refused(outcome, str(broken / "bounding_box_train" / "person.jpg"), "Rename it like 0002_c1s1_000451_03.jpg")


def test_an_undecodable_image(call, files, broken, tmp_path):
    bad = sorted((broken / "bounding_box_train").iterdir())[3]
    bad.write_bytes(b"not an image")
    checked = call("data", "check", broken)
    assert checked.code == 2
    assert str(bad) in checked.out and "undecodable images: 1" in checked.out
    train = ("train-reid", files["reid"], "--data", broken, "--out", tmp_path / "out")
    assert_refused(call(*train), "1 image cannot be decoded", str(bad), "--skip-bad")
    assert not (tmp_path / "out").exists()
    left_out = call(*train, "--skip-bad")
    assert left_out.code == 0
    assert f"warning: left out, for they cannot be decoded: {bad}" in left_out.err


NOWHERE = "9999_c1s1_000001_01.jpg"


@pytest.mark.parametrize(
    ("name", "y", "x", "parts"),
    [
        (None, "[" + "5, " * 16 + "5]", "[" + "5, " * 16 + "5]", ["has 17 joints, expected 18", "Write -1"]),
        (None, "[NaN" + ", 5" * 17 + "]", "[5" + ", 5" * 17 + "]", ["joint 0 (nose)", "is not a number"]),
        (None, "[200" + ", 5" * 17 + "]", "[5" + ", 5" * 17 + "]", ["outside the image of height 128, width 64"]),
        (NOWHERE, "[5" + ", 5" * 17 + "]", "[5" + ", 5" * 17 + "]", [NOWHERE, "Add the image or remove the row"]),
    ],
    ids=["17 joints", "NaN", "outside", "no such image"],
)
def test_key_point_rows(call, broken, tmp_path, name, y, x, parts):
    csv = broken / "market-annotation-train.csv"
    name = name or next((broken / "bounding_box_train").iterdir()).name
    csv.write_text(f"{HEADER}\n{name}: {y}: {x}\n")
    outcome = call("generate", "--data", broken, "--out", tmp_path / "out")
    assert_refused(outcome, f"{csv}, line 2", *parts)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("fraction", [0, 1.5, -1, "nan"])
def test_fractions(call, toy_root, tmp_path, fraction):
    outcome = call("generate", "--data", toy_root, f"--fraction={fraction}", "--out", tmp_path / "out")
    assert_refused(outcome, "fraction: ", "is outside (0, 1]. Use e.g. 0.2")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("command", ["train-reid", "train-generator", "sweep"])
def test_configurations(call, toy_root, tmp_path, command):
    (tmp_path / "bad.yaml").write_text("speed: 3\n")
    run = (command, tmp_path / "bad.yaml", "--data", toy_root, "--out", tmp_path / "out")
    assert_refused(call(*run), str(tmp_path / "bad.yaml"), "unknown key `speed`. Remove it or use one of:")
    (tmp_path / "bad.yaml").write_text("")
    section = "reid.training" if command == "sweep" else "training"
    assert_refused(call(*run, "--set", f"{section}.iterations=many"), f"`{section}.iterations`", "got 'many'")
    assert_refused(call(*run, "--set", "speed"), "override 'speed': expected key.sub_key=value")
    assert not (tmp_path / "out").exists()


def test_checkpoints_of_another_architecture(call, finished_runs, toy_root, tmp_path):
    reid = Path(shutil.copytree(finished_runs / "reid", tmp_path / "reid"))
    settings = reid / "reid_config.yaml"
    settings.write_text(settings.read_text().replace("osnet_x0_25", "osnet_x0_5"))
    outcome = call("evaluate", "reid", reid, "--data", toy_root)
    assert_refused(outcome, str(reid / "model.safetensors"), "osnet_x0_5")

    generator = Path(shutil.copytree(finished_runs / "generator", tmp_path / "generator"))
    settings = generator / "denoiser" / "config.json"
    values = json.loads(settings.read_text())
    settings.write_text(json.dumps({**values, "channels": [32, 32]}))
    outcome = call("generate", "--generator", generator, "--data", toy_root, "--out", tmp_path / "out")
    assert_refused(outcome, str(generator), "another architecture")
    assert not (tmp_path / "out").exists()


@pytest.fixture
def finished_runs(call, files, toy_root, tmp_path) -> Path:
    """A re-ID model and a generator of the whole toy set."""
    for command, kind in (("train-reid", "reid"), ("train-generator", "generator")):
        assert call(command, files[kind], "--data", toy_root, "--out", tmp_path / "runs" / kind).code == 0
    return tmp_path / "runs"


def test_commands_that_need_no_poses_read_none(call, files, finished_runs, broken, tmp_path):
    for csv in broken.glob("*.csv"):
        csv.write_text("no key points")
    assert call("evaluate", "reid", finished_runs / "reid", "--data", broken).code == 0
    assert call("train-reid", files["reid"], "--data", broken, "--out", tmp_path / "out").code == 0
    assert_refused(call("generate", "--data", broken, "--out", tmp_path / "aug"), "market-annotation-t")


def test_a_file_in_the_place_of_a_folder(call, files, toy_root, tmp_path):
    file = files["reid"]
    train = ("train-reid", files["reid"], "--data", toy_root, "--out", tmp_path / "out", "--schedule", "concat")
    assert_refused(call(*train, "--store", file), f"{file}: is not a generated set")
    name = next((toy_root / "bounding_box_train").iterdir()).name
    draw = ("draw", "--data", toy_root, "--generator", "pidm_toy", "--source", name, "--pose", name, "--steps", 1)
    assert_refused(call(*draw, "--out", file / "sheet.png"), "sheet.png: cannot be written")


def test_folders_that_hold_another_run(call, files, finished_runs, toy_root, tmp_path):
    outcome = call("train-reid", files["reid"], "--data", toy_root, "--out", finished_runs / "reid", "--seed", 1)
    assert_refused(outcome, str(finished_runs / "reid"), "training.seed", "Name another folder")
    generate = ("generate", "--data", toy_root, "--per-identity", 1, "--out", tmp_path / "set")
    assert call(*generate).code == 0
    assert_refused(call(*generate, "--generator", "copies"), "the folder holds another run", "Name another folder")
    assert_refused(call("data", "toy", toy_root, "--seed", 5), "toy.json", "another toy data set")
    assert_refused(call("data", "toy", finished_runs), str(finished_runs), "not a toy data set")
    sweep = ("sweep", files["study"], "--data", toy_root, "--minutes", 0, "--out")
    assert_refused(call(*sweep, finished_runs), "not empty, and not a study")


def test_a_schedule_needs_its_store(call, files, toy_root, tmp_path):
    train = ("train-reid", files["reid"], "--data", toy_root, "--out", tmp_path / "out")
    assert_refused(call(*train, "--schedule", "concat"), "no store is given")
    assert_refused(call(*train, "--store", tmp_path), "is not a generated set")


def test_a_generator_is_not_scored_without_what_it_takes(call, toy_root, tmp_path):
    score = ("evaluate", "generator", "warp", "--data", toy_root)
    (tmp_path / "pairs.csv").write_text("from,to\nnobody.jpg,nobody2.jpg\n")
    assert_refused(call(*score, "--pairs", tmp_path / "pairs.csv"), "pairs.csv, line 2", "nobody.jpg")
    keypoints = toy_root / "market-annotation-train.csv"
    assert_refused(call(*score, "--keypoints", keypoints), "pairs: none of the", "key points of these images")
    assert_refused(call(*score, "--steps", 3), "`steps` is given. Leave it out")
    for option, name in (("--lpips-weights", "alexnet"), ("--fid-weights", "inception"), ("--judge", "reid_config")):
        assert_refused(call(*score, option, tmp_path / "none"), str(tmp_path / "none"), name)


def test_pose_extract_without_rtmlib_and_over_a_file(call, toy_root, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "rtmlib", None)
    extract = ("pose", "extract", toy_root / "query", "--out", tmp_path / "poses.csv")
    assert_refused(call(*extract), "pip install 'reid-aug[pose]'")
    assert not (tmp_path / "poses.csv").exists()
    (tmp_path / "poses.csv").write_text("mine")
    assert_refused(call(*extract), str(tmp_path / "poses.csv"), "is there already")
    assert (tmp_path / "poses.csv").read_text() == "mine"
    elsewhere = (*extract[:-1], tmp_path / "none" / "poses.csv")
    assert_refused(call(*elsewhere), f"the folder {tmp_path / 'none'} does not exist")


def test_ray_runs_whole_cells(call, files, toy_root, tmp_path):
    sweep = ("sweep", files["study"], "--data", toy_root, "--out", tmp_path / "out")
    assert_refused(call(*sweep, "--ray", "--until", "images"), "--ray: runs whole cells", "Leave it out")
    assert not (tmp_path / "out").exists()


def test_a_negative_seed_is_a_wrong_option(call, toy_root, tmp_path):
    for command in (
        ("data", "holdout", toy_root, tmp_path / "out"),
        ("generate", "--data", toy_root, "--out", tmp_path / "out"),
        ("evaluate", "generator", "warp", "--data", toy_root),
    ):
        outcome = call(*command, "--seed", -1)
        assert outcome.code == 2 and "--seed" in outcome.err and "Traceback" not in outcome.err
