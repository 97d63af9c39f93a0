"""Every YAML file that is shipped is read by its class."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from reid_aug.config import AutoencoderConfig, Config, GeneratorConfig, ReidConfig, StudyConfig, load_config
from reid_aug.data.images import Images
from reid_aug.data.pairs import make_pairs
from reid_aug.generators.systems import SYSTEMS
from reid_aug.generators.training import train_generator
from reid_aug.reid.backbones import build_backbone

ROOT = Path(__file__).parents[1] / "configs"
KINDS: dict[str, type[Config]] = {
    "autoencoder": AutoencoderConfig, "generator": GeneratorConfig, "reid": ReidConfig, "study": StudyConfig
}  # fmt: skip
FILES = sorted(ROOT.rglob("*.yaml"))


def test_every_folder_has_a_class_and_a_file():
    assert {path.parent.name for path in FILES} == set(KINDS)
    assert all(path.parent.parent == ROOT for path in FILES)


@pytest.mark.parametrize("path", FILES, ids=lambda path: f"{path.parent.name}/{path.name}")
def test_a_file_is_read_and_says_what_it_is_for(path):
    load_config(KINDS[path.parent.name], path)
    assert path.read_text(encoding="utf-8").startswith("# ")
    assert yaml.safe_load(path.read_text(encoding="utf-8"))


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "reid"], ids=lambda path: path.name)
def test_a_re_id_files_backbone_exists(path):
    build_backbone(load_config(ReidConfig, path, ["model.weights=null"]).model)


@pytest.mark.parametrize("path", [path for path in FILES if path.parent.name == "study"], ids=lambda path: path.name)
def test_a_study_has_something_to_compare(path):
    study = load_config(StudyConfig, path)
    assert len(study.arms) > 1
    assert all(0 < fraction <= 1 for fraction in study.fractions)


def test_the_gpu_study_trains_the_shipped_market_generator():
    study = load_config(StudyConfig, ROOT / "study" / "market1501_gpu.yaml")
    shipped = load_config(GeneratorConfig, ROOT / "generator" / "pidm_market.yaml")
    assert study.generators["full"].config == study.generators["strict"].config == shipped


def test_every_system_has_its_sizes():
    names = {path.stem for path in FILES if path.parent.name == "generator"}
    assert {f"{system}_{size}" for system in SYSTEMS for size in ("tiny", "toy", "market")} <= names
    assert {"cfld_sd15", "imagpose_sd15"} <= names


@pytest.mark.parametrize("system", SYSTEMS)
def test_a_tiny_generator_is_trained_and_draws_in_seconds(system, toy_market, tmp_path):
    short = ["training.iterations=2", "sampling.steps=1"]
    config = load_config(GeneratorConfig, ROOT / "generator" / f"{system}_tiny.yaml", short)
    train = toy_market.train
    pipe = train_generator(train, Images(train), make_pairs(train), config, tmp_path)
    pose = [train.poses[train[0].name]]
    drawn = pipe(Images(train).batch([0]), pose, pose, seeds=[0], output_type="uint8").images
    assert drawn.shape == (1, 3, 128, 64)
