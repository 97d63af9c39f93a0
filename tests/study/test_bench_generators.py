from pathlib import Path

import pytest
import torch

from reid_aug.config import GeneratorConfig, load_config, save_config
from reid_aug.errors import ConfigError
from reid_aug.generators.autoencoder import PatchPcaCodec
from reid_aug.generators.systems import build_denoiser
from reid_aug.study import bench_generators as bench

SHAPES = {
    "pidm": ["model.texture_levels=[1]", "model.learned_variance=false", "sampling.guidance=cumulative"],
    "imagpose": ["model.heads=2", "model.context_channels=16", "sampling.guidance=joint",
                 "sampling.guidance_scale={joint: 2.0}"],
}  # fmt: skip
SMALL = ["model.codec=patch_pca", "model.image_size=[32, 16]", "model.channels=[16, 32]", "model.layers_per_level=1"]


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


def test_a_row_says_what_a_system_costs(configs):
    rows = bench.bench_generators(list(configs.values()), batch_size=2, steps=2, device="cpu")
    assert [row["system"] for row in rows] == ["pidm", "imagpose"]
    for row, path in zip(rows, configs.values()):
        config = load_config(GeneratorConfig, path)
        model = build_denoiser(config.model, config.noise, PatchPcaCodec())
        assert row["parameters_million"] == sum(weights.numel() for weights in model.parameters()) / 1e6
        # Two passes of a convolution alone: 3x3, on every cell of the grid, multiplications and additions.
        first = model.conv_in if row["system"] == "pidm" else model.unet.conv_in.convolution
        cells = 8 * 4 if row["system"] == "pidm" else 16 * 8
        assert row["gflops_a_step"] > 2 * cells * first.weight.numel() / 1e9
        assert row["gflops_a_step"] < 1
        assert all(row[f"seconds_{name}"] > 0 for name in ("one_image", "three_poses", "batch"))
        assert (row["steps"], row["batch_size"]) == (2, 2)
    assert [row["passes"] for row in rows] == [3, 2]
    assert [row["published_million"] for row in rows] == [688.0, None]


def test_operations_are_those_of_one_image_through_the_denoiser_once(configs):
    """Guidance evaluates its branches as one batch: a rule with more of them leaves the row as it is."""
    config = load_config(GeneratorConfig, configs["pidm"])
    settings = (config, config.model_copy(update={"sampling": config.sampling.model_copy(
        update={"guidance": "joint", "guidance_scale": {"joint": 2.0}})}))  # fmt: skip
    found = []
    for changed in settings:
        save_config(changed, configs["pidm"].with_name("changed.yaml"))
        found += bench.bench_generators([configs["pidm"].with_name("changed.yaml")], 1, 1, torch.device("cpu"))
    assert [row["passes"] for row in found] == [3, 2]
    assert found[0]["gflops_a_step"] == pytest.approx(found[1]["gflops_a_step"])


def test_the_shipped_market_configurations_are_found():
    assert {"pidm_market.yaml", "pocold_market.yaml", "imagpose_market.yaml"} <= {
        path.name for path in bench.CONFIGS.glob("*_market.yaml")
    }


def test_no_configurations(tmp_path, monkeypatch):
    monkeypatch.setattr(bench, "CONFIGS", tmp_path)
    with pytest.raises(ConfigError, match=r"no \*_market\.yaml.* Name configs"):
        bench.bench_generators()
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read"):
        bench.bench_generators([tmp_path / "none.yaml"])
