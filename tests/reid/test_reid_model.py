"""The network, its backbones from both zoos, its weight files, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest
import timm
import torch
from safetensors.torch import save_file
from torch import nn

from reid_aug.config import ReidConfig, ReidModelConfig, build_config
from reid_aug.errors import CheckpointError, ConfigError
from reid_aug.reid.model import build_model, load_model, save_model
from reid_aug.reid.weights import weights_name
from reid_aug.torchreid_library import import_torchreid

SMALL = {"backbone": "test_resnet", "image_size": (32, 16)}


def _model(**settings):
    return build_model(ReidModelConfig(**{**SMALL, **settings}), num_classes=5)


def test_training_gives_feature_and_logits_and_evaluation_the_neck():
    model = _model()
    images = torch.randn(4, 3, 32, 16)
    feature, logits = model.train()(images)
    assert feature.shape == (4, model.dimension) and logits.shape == (4, 5)
    model.eval()
    torch.testing.assert_close(model(images), model.neck(model.backbone(images)))
    assert not torch.equal(model(images), model.backbone(images))


def test_neck_has_a_frozen_bias_and_the_classifier_none():
    model = _model()
    assert isinstance(model.neck, nn.BatchNorm1d) and not model.neck.bias.requires_grad
    assert model.neck.weight.requires_grad and model.classifier.bias is None
    assert isinstance(_model(neck=False).neck, nn.Identity)


@pytest.mark.parametrize("backbone", ["test_resnet", "resnet18", "resnet18d", "resnet50_ibn_a"])
def test_last_stride_one_doubles_the_last_feature_map(backbone):
    sizes = []
    for stride in (1, 2):
        model = _model(backbone=backbone, last_stride=stride, image_size=(64, 32)).eval()
        stage = model.backbone.layer4
        stage.register_forward_hook(lambda module, inputs, output: sizes.append(output.shape[-2:]))
        model(torch.zeros(1, 3, 64, 32))
    assert sizes[0] == (2 * sizes[1][0], 2 * sizes[1][1])


@pytest.mark.parametrize("backbone", ["osnet_x0_25", "osnet_ain_x0_25", "squeezenet1_0", "test_vit", "test_convnext"])
def test_both_zoos_give_one_feature_vector(backbone):
    model = _model(backbone=backbone, image_size=(64, 32)).train()
    feature, logits = model(torch.randn(2, 3, 64, 32))
    assert feature.shape == (2, model.dimension) and logits.shape == (2, 5)
    assert model.eval()(torch.randn(2, 3, 64, 32)).shape == (2, model.dimension)


def test_osnets_feature_is_torchreids():
    torchreid = import_torchreid()
    reference = torchreid.models.build_model("osnet_x0_25", 7, pretrained=False).eval()
    model = _model(backbone="osnet_x0_25", image_size=(64, 32)).eval()
    weights = {name: value for name, value in reference.state_dict().items() if not name.startswith("classifier.")}
    model.backbone.load_state_dict(weights)
    images = torch.randn(2, 3, 64, 32)
    torch.testing.assert_close(model.backbone(images), reference(images))


def test_weights_are_drawn_from_the_seed_and_leave_the_global_state_alone():
    torch.manual_seed(3)
    expected = torch.rand(1)
    torch.manual_seed(3)
    config = ReidModelConfig(**SMALL)
    one, again, other = (build_model(config, 5, seed).state_dict() for seed in (0, 0, 1))
    assert torch.equal(torch.rand(1), expected)
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["backbone.conv1.0.weight"], other["backbone.conv1.0.weight"])


@pytest.mark.parametrize(
    "settings, message",
    [
        ({"backbone": "resnet5O"}, r"model\.backbone: neither timm nor torchreid has 'resnet5O'.*Closest.*resnet50"),
        ({"backbone": "osnet_x1.0"}, "Closest names: .*osnet_x1_0"),
        ({"backbone": "qqqqqqqq"}, r"timm\.list_models\(\)"),
        ({"backbone": "resnet50.tv_in1K"}, r"model\.backbone: timm has no tag as in resnet50\.tv_in1K.*tv_in1k"),
        ({"backbone": "hacnn"}, "several classifiers.*osnet_x1_0"),
        ({"backbone": "test_vit", "image_size": (33, 17)}, r"model\.image_size: the backbone does not take \(33, 17\)"),
    ],
)
def test_a_backbone_that_cannot_be_built_is_refused(settings, message):
    with pytest.raises(ConfigError, match=message):
        _model(**settings)


@pytest.mark.parametrize("backbone", ["mobilenetv2_x1_0", "test_resnet.r160_in1k", "osnet_x0_25"])
def test_imagenet_weights_are_never_silently_absent(backbone, monkeypatch, tmp_path):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setenv("HF_HOME", str(tmp_path))
    monkeypatch.setenv("TORCH_HOME", str(tmp_path))
    monkeypatch.setenv("HTTPS_PROXY", "http://127.0.0.1:9")
    with pytest.raises(CheckpointError, match=rf"ImageNet weights of {backbone}.*{backbone}\.pth or"):
        _model(backbone=backbone, weights="imagenet", image_size=(64, 32))


def _timm_weights(**settings):
    return timm.create_model("test_resnet", num_classes=10, **settings).state_dict()


def _data_parallel(weights):
    return {f"module.{name}": value for name, value in weights.items()}


@pytest.mark.parametrize("wrap", [dict, _data_parallel, lambda weights: {"state_dict": weights, "epoch": 3}])
def test_a_local_file_is_loaded_without_its_classifier(wrap, tmp_path):
    weights = _timm_weights()
    torch.save(wrap(weights), tmp_path / "weights.pth")
    model = _model(weights=str(tmp_path / "weights.pth"))
    loaded = model.backbone.state_dict()
    assert set(weights) - set(loaded) == {"fc.weight", "fc.bias"}
    assert all(torch.equal(loaded[name], weights[name]) for name in loaded)


def test_a_model_trained_here_is_a_start(tmp_path):
    trained = build_model(ReidModelConfig(**SMALL), 5, seed=9)
    save_model(trained, build_config(ReidConfig, {"model": SMALL}), tmp_path)
    loaded = _model(weights=str(tmp_path / "model.safetensors"))
    expected = trained.backbone.state_dict()
    assert all(torch.equal(value, expected[name]) for name, value in loaded.backbone.state_dict().items())
    assert not torch.equal(loaded.classifier.weight, trained.classifier.weight)


def test_a_checkpoint_of_torchreids_engines_is_a_start(tmp_path):
    state = {"state_dict": _timm_weights(), "epoch": 60, "rank1": np.float32(0.25)}
    torch.save(state, tmp_path / "model.pth.tar-60")
    loaded = _model(weights=str(tmp_path / "model.pth.tar-60")).backbone.state_dict()
    assert all(torch.equal(value, state["state_dict"][name]) for name, value in loaded.items())


def test_start_weights_are_called_by_what_tells_them_apart(tmp_path, monkeypatch):
    assert weights_name("zoo/osnet_x0_25_msmt17.pth") == weights_name("osnet_x0_25_msmt17.pth")
    assert weights_name("runs/duke/model.safetensors") == "duke/model.safetensors"
    assert weights_name("log/model/model.pth.tar-60") == "model/model.pth.tar-60"
    (tmp_path / "msmt17").mkdir()
    monkeypatch.chdir(tmp_path / "msmt17")
    assert weights_name("model.safetensors") == "msmt17/model.safetensors"


def test_a_safetensors_file_is_loaded(tmp_path):
    weights = _timm_weights()
    save_file(weights, tmp_path / "weights.safetensors")
    loaded = _model(weights=str(tmp_path / "weights.safetensors")).backbone.state_dict()
    assert all(torch.equal(loaded[name], weights[name]) for name in loaded)


def _write(path, kind):
    weights = _timm_weights()
    if kind == "other architecture":
        weights = timm.create_model("test_vit").state_dict()
    elif kind == "one missing":
        del weights["layer1.0.conv1.weight"]
    elif kind == "one reshaped":
        weights["layer1.0.conv1.weight"] = torch.zeros(2, 2, 3, 3)
    elif kind == "damaged":
        torch.save(weights, path)
        path.write_bytes(path.read_bytes()[:500])
        return
    elif kind == "more than tensors":
        weights = nn.Linear(1, 1)
    elif kind == "list":
        weights = [1, 2]
    torch.save(weights, path)


@pytest.mark.parametrize(
    "kind, message",
    [
        ("other architecture", "not the weights of test_resnet: .* missing, e.g. .* not of this network"),
        ("one missing", r"1 missing, e\.g\. layer1\.0\.conv1\.weight\. Name the backbone"),
        ("one reshaped", r"1 of another shape, e\.g\. layer1\.0\.conv1\.weight \[2, 2, 3, 3\] instead of"),
        ("damaged", "not a weight file, or damaged"),
        ("more than tensors", "holds more than tensors.*state_dict"),
        ("list", "expected tensors by name"),
    ],
)
def test_a_wrong_weight_file_is_refused_by_name(kind, message, tmp_path):
    path = tmp_path / "weights.pth"
    _write(path, kind)
    with pytest.raises(CheckpointError, match=message) as raised:
        _model(weights=str(path))
    assert str(path) in str(raised.value)


def test_a_missing_weight_file_is_named(tmp_path):
    with pytest.raises(CheckpointError, match=r"nowhere\.pth: no such weight file"):
        _model(weights=str(tmp_path / "nowhere.pth"))


def test_saved_and_loaded_models_give_the_same_features(tmp_path):
    # "imagenet" in the configuration must not be asked for again when a trained model is loaded.
    config = build_config(ReidConfig, {"model": {**SMALL, "weights": None}})
    model = build_model(config.model, 5).eval()
    saved = config.model_copy(update={"model": config.model.model_copy(update={"weights": "imagenet"})})
    save_model(model, saved, tmp_path / "run")
    loaded = load_model(tmp_path / "run", "cpu")
    images = torch.randn(2, 3, 32, 16)
    assert not loaded.training and loaded.config == saved.model
    assert torch.equal(loaded(images), model(images))
    assert sorted(path.name for path in (tmp_path / "run").iterdir()) == ["model.safetensors", "reid_config.yaml"]


def test_a_folder_without_a_model_is_refused(tmp_path):
    with pytest.raises(CheckpointError, match=r"no reid_config\.yaml in it\. Name the output folder"):
        load_model(tmp_path)
    config = build_config(ReidConfig, {"model": SMALL})
    save_model(build_model(config.model, 5), config, tmp_path)
    save_file({"x": torch.zeros(1)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"model\.safetensors: no classifier\.weight in it"):
        load_model(tmp_path)
    save_file({"classifier.weight": torch.zeros(5, 96)}, tmp_path / "model.safetensors")
    with pytest.raises(CheckpointError, match=r"not the weights of test_resnet as reid_config\.yaml describes it"):
        load_model(tmp_path)
