from __future__ import annotations

from pathlib import Path

import pytest
import tiny_configs

from reid_aug.augment.store import Store
from reid_aug.config import GeneratorConfig, StudyConfig, build_config, load_config, save_config
from reid_aug.data.toy import make_toy_market
from reid_aug.generators.pipeline import load_generator
from reid_aug.study import demo


def test_the_demo_compares_with_and_without_generated_images():
    study = demo.demo_study("runs/generator")
    assert list(study.arms) == ["standard", "augmented"]
    assert study.generators[study.arms["augmented"].generator].folder == "runs/generator"
    assert study.generators[study.arms["augmented"].generator].sees == "other"
    assert len(study.seeds) >= 2  # one seed says nothing


def test_the_configurations_to_copy_are_those_of_the_demo_and_of_the_shipped_weights():
    configs = Path(__file__).parents[2] / "configs"
    assert load_config(StudyConfig, configs / "study" / "toy.yaml") == demo.demo_study(demo.GENERATOR)
    shipped = load_config(GeneratorConfig, demo.SHIPPED / demo.GENERATOR / "train_config.yaml")
    assert load_config(GeneratorConfig, configs / "generator" / "pidm_toy.yaml") == shipped


def test_it_says_beforehand_how_long_it_takes():
    assert "train the generator: about" in demo.plan_of(from_scratch=True)
    assert "train the generator" not in demo.plan_of(from_scratch=False)
    assert demo.plan_of(from_scratch=False).count("about") >= 3


@pytest.fixture
def small(monkeypatch, tmp_path):
    """The demo with fewer people, smaller networks, and the tiny recipe where the shipped generator's would be."""
    shipped = tmp_path / "weights" / demo.GENERATOR
    shipped.mkdir(parents=True)
    save_config(build_config(GeneratorConfig, tiny_configs.GENERATOR), shipped / "train_config.yaml")
    monkeypatch.setattr(demo, "SHIPPED", tmp_path / "weights")
    monkeypatch.setattr(demo, "PEOPLE", 3)

    def fewer(path, identities=4, seed=0, test_identities=3):
        return make_toy_market(path, identities=identities, seed=seed, test_identities=test_identities)

    monkeypatch.setattr(demo, "make_toy_market", fewer)
    arms = {"standard": {}, "augmented": tiny_configs.arm("generator", "fixed_ratio", generator=demo.GENERATOR)}
    monkeypatch.setattr(
        demo,
        "demo_study",
        lambda generator: tiny_configs.study(
            arms=arms, generators={demo.GENERATOR: {"folder": generator, "sees": "other"}}
        ),
    )
    return tmp_path / "demo"


def test_the_whole_demo_from_scratch(small):
    said: list = []
    stages: list[str] = []
    outcome = demo.run_demo(small, True, lambda stage, *_: stages.append(stage), said.append)
    assert {"encode images", "train generator", "generate", "train re-ID"} == set(stages)
    (generated,) = (small / "study-from-scratch" / "generated").glob("*-50-seed0")
    store = Store.open(generated)
    assert store.settings["generator"] == load_generator(small / "generator").digest
    assert f"report: {small / 'study-from-scratch' / 'report.html'}" in outcome
    page = (small / "study-from-scratch" / "report.html").read_text(encoding="utf-8")
    assert all(caveat in page for caveat in demo.CAVEATS)
    assert any("augmented seed 0: Rank-1" in str(line) for line in said)

    stages.clear()
    demo.run_demo(small, True, lambda stage, *_: stages.append(stage), said.append)
    assert stages == []  # everything was there
