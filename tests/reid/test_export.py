"""ONNX export: equal features, a batch of any size, and nothing written where the check fails."""

from __future__ import annotations

import sys

import numpy as np
import pytest
from reid_cases import ArrayImages, people, tiny_config

from reid_aug.errors import CheckpointError, MissingDependencyError
from reid_aug.reid import export
from reid_aug.reid.export import export_onnx
from reid_aug.reid.features import extract_features
from reid_aug.reid.model import build_model


@pytest.fixture
def model():
    return build_model(tiny_config().model, 6)


@pytest.mark.parametrize("backbone", ["test_resnet", "osnet_x0_25"])
def test_onnxruntime_gives_the_features_of_extract_features(backbone, tmp_path):
    onnxruntime = pytest.importorskip("onnxruntime")
    pytest.importorskip("onnx")
    config = tiny_config().model.model_copy(update={"backbone": backbone, "image_size": (64, 32)})
    model, images = build_model(config, 6), ArrayImages(people(), size=(64, 32))
    export_onnx(model, tmp_path / "model.onnx")
    session = onnxruntime.InferenceSession(str(tmp_path / "model.onnx"), providers=["CPUExecutionProvider"])
    (features,) = session.run(None, {"images": images.batch(range(30)).numpy()})
    np.testing.assert_allclose(features, extract_features(model, images).numpy(), atol=1e-4)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    assert model.training  # as before


def test_an_export_that_differs_is_not_written(model, tmp_path, monkeypatch):
    pytest.importorskip("onnxruntime")
    monkeypatch.setattr(export, "_TOLERANCE", -1.0)
    with pytest.raises(CheckpointError, match=r"model\.onnx: not written; onnxruntime's features differ"):
        export_onnx(model, tmp_path / "model.onnx")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("package", ["onnx", "onnxruntime"])
def test_a_missing_package_is_named_with_its_install(package, model, tmp_path, monkeypatch):
    pytest.importorskip("onnx")
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(MissingDependencyError, match=f"needs {package}: pip install onnx onnxruntime"):
        export_onnx(model, tmp_path / "model.onnx")


def test_the_graph_preprocesses(model, tmp_path):
    """uint8 in: a user needs no mean and no deviation."""
    onnx = pytest.importorskip("onnx")
    export_onnx(model, tmp_path / "model.onnx")
    graph = onnx.load(tmp_path / "model.onnx").graph
    assert graph.input[0].type.tensor_type.elem_type == onnx.TensorProto.UINT8
    assert [dimension.dim_param or dimension.dim_value for dimension in graph.input[0].type.tensor_type.shape.dim] == [
        "batch", 3, 32, 16,
    ]  # fmt: skip
