from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from rich.console import Console

from reid_aug.config import GeneratorConfig, load_config, save_config
from reid_aug.errors import ConfigError
from reid_aug.generators.attention import PoseConstrainedAttention
from reid_aug.generators.autoencoder import PatchPcaCodec
from reid_aug.generators.systems import build_denoiser
from reid_aug.study import bench_generators as bench
from reid_aug.study.tables import comparisons_table, costs_table

SHAPES = {
    "pidm": ["model.texture_levels=[1]", "model.learned_variance=false", "sampling.guidance=cumulative"],
    "pocold": ["model.texture_levels=[0]", "model.heads=2", "sampling.guidance=cumulative"],
    "imagpose": ["model.heads=2", "model.context_channels=16", "sampling.guidance=joint",
                 "sampling.guidance_scale={joint: 2.0}"],
}  # fmt: skip
SMALL = ["model.codec=patch_pca", "model.image_size=[32, 16]", "model.channels=[16, 32]", "model.layers_per_level=1",
         "sampling.steps=4"]  # fmt: skip


@pytest.fixture(scope="module")
def configs(tmp_path_factory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("configs")
    (folder / "empty.yaml").write_text("{}")
    paths = {}
    for system, shape in SHAPES.items():
        config = load_config(GeneratorConfig, folder / "empty.yaml", [f"model.system={system}", *SMALL, *shape])
        paths[system] = folder / f"{system}.yaml"
        save_config(config, paths[system])
    return paths


def job_of(path: Path, *changes: str, steps: int = 2) -> bench.Job:
    config = load_config(GeneratorConfig, path, changes)
    return bench.Job(config, *bench._inputs(config, 3), steps, "cpu")


@pytest.mark.parametrize("system", ["pidm", "imagpose"])
def test_what_one_person_costs(configs, system):
    job = job_of(configs[system])
    row = bench.measure_person(job)
    model = build_denoiser(job.config.model, job.config.noise, PatchPcaCodec())
    trained = sum(weights.numel() for weights in model.parameters())
    assert row["trained_million"] == trained / 1e6
    codec = sum(weights.numel() for weights in PatchPcaCodec().parameters())
    assert row["parameters_million"] == pytest.approx((trained + codec) / 1e6)
    # A convolution alone: 3x3, on every cell of the grid, multiplications and additions, in every pass.
    first = model.conv_in if system == "pidm" else model.unet.conv_in.convolution
    cells = 8 * 4 if system == "pidm" else 16 * 8
    assert row["passes"] * 2 * cells * first.weight.numel() / 1e9 < row["gflops_a_step"] < 1
    assert all(row[f"seconds_{name}"] > 0 for name in ("one_image", "three_poses", "three_calls"))
    assert (row["steps"], row["measured_steps"]) == (4, 2)
    assert row["passes"] == {"pidm": 3, "imagpose": 2}[system]
    assert row["published_million"] == {"pidm": 688.0, "imagpose": None}[system]


def test_the_operations_of_a_step_are_those_of_all_passes(configs):
    joint = ("sampling.guidance=joint", "sampling.guidance_scale={joint: 2.0}")
    three, two = (bench._Sampling(job_of(configs["pidm"], *changes)).gflops_a_step() for changes in ((), joint))
    assert three / 3 == pytest.approx(two / 2)


def test_seconds_are_extrapolated_by_the_time_of_a_step(configs, monkeypatch):
    """A clock that stands still but for the denoiser: 5 s the first step, 2 s the others."""
    sampling = bench._Sampling(job_of(configs["pidm"], "sampling.steps=10", steps=3))
    clock = {"now": 0.0, "calls": 0}
    monkeypatch.setattr(sampling, "_now", lambda: clock["now"])

    def runs(module, inputs, output):
        clock["now"] += 2.0 if clock["calls"] else 5.0
        clock["calls"] += 1

    sampling.pipe.denoiser.register_forward_hook(runs)
    assert sampling.seconds(1) == 5 + 9 * 2
    assert clock["calls"] == 3


def test_dense_attention_is_the_sparse_one_made_in_full():
    torch.manual_seed(0)
    sparse = PoseConstrainedAttention(16, 16, heads=2, rows=4)
    torch.nn.init.normal_(sparse.out.weight)
    dense = bench.DenseAttention(16, 16, heads=2, rows=4)
    dense.load_state_dict(sparse.state_dict())
    inputs = (torch.randn(2, 16, 8, 4), torch.randn(2, 32, 16), torch.tensor([True, False]))
    torch.testing.assert_close(dense(*inputs), sparse(*inputs))


def test_every_measurement_of_memory_has_its_own_process(configs):
    """Large maps of few channels: the dense attention's matrix is most of what a call holds."""
    path = configs["pocold"].with_name("wide.yaml")
    changes = ["model.image_size=[128, 64]", "model.channels=[16, 16]", "model.heads=1", "model.attention_rows=4"]
    save_config(load_config(GeneratorConfig, configs["pocold"], changes), path)
    done = []
    (row,) = bench.bench_generators([path], batch_size=12, steps=1, device="cpu", progress=lambda *at: done.append(at))
    assert [at[:2] for at in done] == [(0, 3), (1, 3), (2, 3), (3, 3)]
    assert (row["system"], row["config"], row["batch_size"]) == ("pocold", "wide", 12)
    matrices = 12 * 3 * (32 * 16) ** 2 * 4 / 1e6  # of the images and passes, MB
    if row["peak_mb_batch"] is not None:
        assert row["peak_mb_batch"] + 0.8 * matrices < row["peak_mb_dense_batch"]
        assert row["peak_mb_one_image"] < row["peak_mb_batch"]
    console = Console(width=120)
    with console.capture() as capture:
        console.print(costs_table([row]), comparisons_table([row]))
    text = capture.get()
    assert f"~{row['seconds_batch']:.3g}" in text and "extrapolated from 1 steps" in text
    assert "12: MB" in text and "dense: MB" in text and "paper's" in text and "395.9" in text


def fails(job: bench.Job, name: str) -> dict:
    os._exit(9)  # as the system ends a process that asks for too much memory


def test_a_process_that_is_killed_is_named(configs):
    job = bench.replace(job_of(configs["pidm"]), count=64)
    with pytest.raises(ConfigError, match=r"pidm, batch: .* 64 images ended.* Ask for a smaller batch"):
        bench._alone(fails, job, "batch", "pidm, batch")


def test_the_shipped_market_configurations_are_found():
    assert {"pidm_market.yaml", "pocold_market.yaml", "cfld_market.yaml", "imagpose_market.yaml"} <= {
        path.name for path in bench.CONFIGS.glob("*_market.yaml")
    }


def test_no_configurations(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "CONFIGS", tmp_path)
    with pytest.raises(ConfigError, match=r"no \*_market\.yaml.* Name configs"):
        bench.bench_generators()
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        bench.bench_generators([tmp_path / "none.yaml"])
