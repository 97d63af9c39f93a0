"""docs/schedules.md says what the configuration and the policies are, and what it shows makes one and the same run."""

from __future__ import annotations

import json
import re
import shlex
import sys
from pathlib import Path

import pytest
import tiny_configs
import torch
import yaml

import reid_aug
from reid_aug.augment.schedule import POLICIES, make_schedule
from reid_aug.augment.store import Store
from reid_aug.cli import main
from reid_aug.cli.reid import SCHEDULE_HELP
from reid_aug.config import ReidConfig, ScheduleConfig, StudyConfig, build_config
from reid_aug.errors import ConfigError
from reid_aug.reid.model import load_model

TEXT = (Path(__file__).parents[1] / "docs" / "schedules.md").read_text(encoding="utf-8")
TABLES = [
    {cells[0].strip("` "): cells[1:] for cells in (row.strip("|").split("|") for row in table.splitlines()[2:])}
    for table in re.findall(r"(?:^\|.*\n)+", TEXT, re.MULTILINE)
]
AUXILIARY = ScheduleConfig(policy="auxiliary", synthetic=2, in_triplet=False)


def block(language: str) -> str:
    (text,) = re.findall(rf"^```{language}\n(.*?)^```", TEXT, re.DOTALL | re.MULTILINE)
    return text


def words_in(cell: str) -> list[str]:
    return re.findall(r"`(\w+)`", cell)


def test_the_first_table_has_every_policy_with_the_settings_it_goes_by():
    assert {policy: tuple(words_in(cells[-1])) for policy, cells in TABLES[0].items()} == {
        name: policy.settings for name, policy in POLICIES.items()
    }


def test_the_second_table_has_every_setting_with_its_default():
    written = {name: yaml.safe_load(cells[0].strip("` ")) for name, cells in TABLES[1].items()}
    assert written == ScheduleConfig().model_dump()


CHANGED = {"synthetic": 3, "start": 0.25, "weight": 0.5, "smoothing": 0.2, "in_triplet": False}


@pytest.mark.parametrize("policy", POLICIES)
def test_a_policy_goes_by_these_settings_and_no_other(policy):
    def mixes(**settings):
        schedule = make_schedule(ScheduleConfig(policy=policy, **settings), 8, 4)
        return [schedule(iteration) for iteration in range(8)]

    assert set(CHANGED) == set(ScheduleConfig.model_fields) - {"policy"}
    for name, value in CHANGED.items():
        if name in POLICIES[policy].settings:
            assert mixes(**{name: value}) != mixes()
        else:
            with pytest.raises(ConfigError, match=f"{policy} does not go by `{name}`"):
                mixes(**{name: value})


def test_the_studys_arm():
    study = build_config(StudyConfig, yaml.safe_load(block("yaml")))
    assert study.arms["augmented"].schedule == AUXILIARY


def test_the_options_help_names_every_policy():
    assert all(re.search(rf"\b{policy}(, the default)?: ", SCHEDULE_HELP) for policy in POLICIES)


# --- train-reid ---------------------------------------------------------------------------------------------------


@pytest.fixture
def train(toy_market, tmp_path, monkeypatch, capsys):
    """``reid-aug train-reid`` on the toy set with further words; the status, and what it said on the error stream."""
    settings = tmp_path / "reid.yaml"
    settings.write_text(yaml.safe_dump(tiny_configs.REID))
    reid_aug.augment(toy_market.train, "copies", tmp_path / "runs" / "aug", per_identity=1)
    monkeypatch.chdir(tmp_path)

    def run(*words: str, out: str = "runs/augmented") -> tuple[int, str]:
        command = ["reid-aug", "train-reid", str(settings), "--data", str(toy_market.root), "--store", "runs/aug"]
        monkeypatch.setattr(sys, "argv", [*command, "--out", out, *words])
        with pytest.raises(SystemExit) as exit:
            main()
        return exit.value.code or 0, capsys.readouterr().err

    return run


def test_the_command_and_the_python_train_the_same_model(train, toy_market):
    shown = shlex.split(block("sh").replace("\\\n", " "))
    assert train(*shown[shown.index("--schedule") :])[0] == 0
    names = {
        "reid_aug": reid_aug, "subset": toy_market.train, "market": toy_market,
        "config": build_config(ReidConfig, tiny_configs.REID),
    }  # fmt: skip
    exec(block("python"), names)
    assert names["schedule"] == AUXILIARY
    loaded, trained = load_model("runs/augmented").state_dict(), names["result"].model.state_dict()
    assert all(torch.equal(value, trained[name]) for name, value in loaded.items())


def test_the_run_folder_keeps_to_the_resolved_schedule(train, toy_market):
    ratio = ("--schedule", "fixed_ratio", "--set", "schedule.weight=0.5")
    assert train(*ratio)[0] == 0
    recorded = json.loads(Path("runs/augmented/run.json").read_text())["schedule"]
    config = build_config(ReidConfig, tiny_configs.REID)
    same = ScheduleConfig(policy="fixed_ratio", weight=0.5)
    reid_aug.train_reid(toy_market.train, Store.open("runs/aug"), schedule=same, config=config, out="runs/python")
    assert json.loads(Path("runs/python/run.json").read_text())["schedule"] == recorded
    assert train("--set", "schedule.policy=fixed_ratio", "--set", " schedule.weight=0.5")[0] == 0  # the same run
    code, said = train(*ratio[:2])
    assert code == 2 and "holds another run; different here: schedule (" in said


@pytest.mark.parametrize(
    ("words", "parts"),
    [
        (["--set", "schedule.synthetc=2"], ["schedule: unknown key `synthetc`", "policy, synthetic, start, weight"]),
        (["--set", "schedule.synthetic=0"], ["schedule: `synthetic`: ", "greater than 0 (got 0)"]),
        (["--set", "schedule.weight=much"], ["schedule: `weight`: ", "got 'much'"]),
        (["--set", "schedule.synthetic"], ["override 'schedule.synthetic': expected key.sub_key=value"]),
        (["--set", "schedule.policy=concat"], ["--schedule fixed_ratio: --set schedule.policy=concat", "one of them"]),
        (["--set", "schedule.start=0.2"], ["fixed_ratio does not go by `start`", "docs/schedules.md"]),
        (["--set", "schedule.synthetic=2"], ["`synthetic` is 2, but a batch has only 2 images"]),
    ],
)
def test_overrides_that_cannot_be(train, words, parts):
    code, said = train("--schedule", "fixed_ratio", *words)
    assert code == 2
    assert said.startswith("error: ")
    for part in parts:
        assert part in said
    assert not Path("runs/augmented").exists()


def test_settings_without_a_policy(train):
    code, said = train("--set", "schedule.synthetic=2")
    assert code == 2 and "none uses real images alone, but the store runs/aug is given" in said
