"""Cells side by side, on a Ray of this machine."""

from __future__ import annotations

import json
import sys
from types import SimpleNamespace

import pytest
import tiny_configs
import torch

from reid_aug.errors import CheckpointError, MissingDependencyError
from reid_aug.study import cluster
from reid_aug.study.sweep import run_sweep

ARMS = {name: tiny_configs.ARMS[name] for name in ("standard", "copies", "whole", "own")}


def lines(folder) -> dict:
    """Scores and numbers of images, by cell."""
    read = map(json.loads, (folder / "results.jsonl").read_text().splitlines())
    kept = ("rank1", "mAP", "real_images", "synthetic_images")
    return {(line["arm"], line["fraction"], line["seed"]): [line[name] for name in kept] for line in read}


@pytest.fixture
def one_thread():
    """As the tasks have, for sums in another order would differ."""
    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(threads)


@pytest.mark.slow
def test_cells_side_by_side_are_those_one_after_another(toy_market, tmp_path, one_thread, monkeypatch):
    pytest.importorskip("ray")
    config = tiny_configs.study(arms=ARMS, seeds=[0, 1])
    done = []
    monkeypatch.chdir(tmp_path)  # relative paths are the caller's
    run_sweep(config, toy_market, tmp_path / "here", minutes=None)
    results = run_sweep(config, toy_market, "ray", run=cluster.run_cells, announce=lambda *call: done.append(call[:2]))
    assert len(results) == 8 and done == [(number, 8) for number in range(1, 9)]
    assert lines(tmp_path / "ray") == lines(tmp_path / "here")
    stages = json.loads((tmp_path / "ray" / "stages.json").read_text())
    assert set(stages) == {"train re-ID", "evaluate", "train generator", "generate", "filter"}
    again = run_sweep(config, toy_market, tmp_path / "ray", run=cluster.run_cells, announce=lambda *_: pytest.fail())
    assert len(again) == 8


@pytest.mark.slow
def test_an_error_of_ours_comes_as_it_is(toy_market, tmp_path):
    pytest.importorskip("ray")
    reid = {**tiny_configs.REID, "model": {**tiny_configs.REID["model"], "weights": str(tmp_path / "none.pth")}}
    config = tiny_configs.study(arms={"standard": {}}, reid=reid)
    with pytest.raises(CheckpointError, match=r"none\.pth: no such weight file") as raised:
        run_sweep(config, toy_market, tmp_path / "study", run=cluster.run_cells)
    assert "Traceback" not in str(raised.value) and "ray::" not in str(raised.value)


@pytest.mark.parametrize(
    ("machines", "tasks", "expected"),
    [
        ([{"CPU": 16.0}], 3, {"num_cpus": 5}),
        ([{"CPU": 2.0}], 15, {"num_cpus": 1}),
        ([{"CPU": 8.0}, {"CPU": 4.0}], 3, {"num_cpus": 2}),
        ([{"CPU": 64.0}, {"CPU": 8.0, "GPU": 1.0}, {"CPU": 32.0, "GPU": 2.0}], 15, {"num_gpus": 1, "num_cpus": 8}),
        ([{"GPU": 4.0}], 15, {"num_gpus": 1, "num_cpus": 0}),
        ([{"CPU": 4.0}], 0, {"num_cpus": 4}),
    ],
)
def test_a_task_asks_for_no_more_than_a_machine_has(machines, tasks, expected):
    nodes = [{"Alive": True, "Resources": machine} for machine in machines]
    ray = SimpleNamespace(nodes=lambda: [*nodes, {"Alive": False, "Resources": {"CPU": 1.0}}])
    assert cluster._share(ray, tasks) == expected


def test_without_ray_it_is_said_what_to_install(toy_market, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(MissingDependencyError, match=r"pip install 'reid-aug\[ray\]'"):
        run_sweep(tiny_configs.study(), toy_market, tmp_path / "study", run=cluster.run_cells)
