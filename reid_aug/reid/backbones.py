"""Feature extractors from timm and from torchreid's zoo, without their classifiers."""

from __future__ import annotations

import difflib
from collections.abc import Callable

import torch
from torch import Tensor, nn

from reid_aug.config import ReidModelConfig
from reid_aug.errors import CheckpointError, ConfigError
from reid_aug.reid.weights import load_backbone_weights
from reid_aug.torchreid_library import import_torchreid


def build_backbone(config: ReidModelConfig) -> nn.Module:
    """The network that turns images [B, 3, H, W] into features [B, D], its weights as the configuration says.

    A name that timm knows is timm's (with its tag, for instance ``resnet50.tv_in1k``), pooled as timm pools it; else
    torchreid's, with the feature that torchreid defines: OSNet's includes its 512-dimensional fully connected layer.

    Raises:
        ConfigError: an unknown name, or a network with several classifiers.
        CheckpointError: the weights are missing, cannot be downloaded or are of another architecture.
    """
    import timm

    if timm.is_model(config.backbone):
        backbone = _timm_backbone(config)
    elif config.backbone in _zoo():
        backbone = _torchreid_backbone(config)
    else:
        raise _unknown(config.backbone)
    if config.last_stride == 1:
        _keep_last_stage_resolution(backbone)
    if config.weights not in (None, "imagenet"):
        load_backbone_weights(backbone, config.weights, config.backbone)
    return backbone


def feature_dimension(backbone: nn.Module, image_size: tuple[int, int]) -> int:
    """D, as one blank image shows it.

    Raises:
        ConfigError: the backbone does not take this image size, or does not give one feature vector.
    """
    training = backbone.training
    try:
        with torch.inference_mode():
            features = backbone.eval()(torch.zeros(1, 3, *image_size))
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ConfigError(f"model.image_size: the backbone does not take {tuple(image_size)}: {error}.") from None
    finally:
        backbone.train(training)
    if not isinstance(features, Tensor) or features.ndim != 2:
        raise ConfigError("model.backbone: gives no single feature vector an image. Choose another, e.g. osnet_x1_0.")
    return features.shape[1]


def _zoo() -> dict[str, Callable]:
    return vars(import_torchreid().models)["__model_factory"]


def _unknown(name: str) -> ConfigError:
    import timm

    names = [*timm.list_models(), *_zoo()]
    near = difflib.get_close_matches(name, names, n=4, cutoff=0.5)
    offer = f"Closest names: {', '.join(near)}." if near else "See timm.list_models() and torchreid's model zoo."
    return ConfigError(f"model.backbone: neither timm nor torchreid has {name!r}. {offer}")


def _timm_backbone(config: ReidModelConfig) -> nn.Module:
    import timm

    try:
        pretrained = timm.get_pretrained_cfg(config.backbone)
    except RuntimeError:  # is_model looks at the name before the tag alone
        name = config.backbone.partition(".")[0]
        tags = ", ".join(timm.list_pretrained(f"{name}.*")) or f"{name}, without one"
        raise ConfigError(f"model.backbone: timm has no tag as in {config.backbone}. It has: {tags}.") from None
    fixed = pretrained is not None and pretrained.fixed_input_size
    size = {"img_size": tuple(config.image_size)} if fixed else {}
    if config.weights != "imagenet":
        return timm.create_model(config.backbone, num_classes=0, **size)
    try:
        return timm.create_model(config.backbone, pretrained=True, num_classes=0, **size)
    except Exception as error:  # whatever a hub client raises, the weights are not there
        raise _no_download(config.backbone, error) from error


def _torchreid_backbone(config: ReidModelConfig) -> nn.Module:
    backbone = _torchreid_network(config.backbone, pretrained=False)
    if not isinstance(getattr(backbone, "classifier", None), nn.Linear):
        raise ConfigError(
            f"model.backbone: torchreid's {config.backbone} has several classifiers; the recipe needs one feature. "
            "Choose another, e.g. osnet_x1_0."
        )
    if config.weights == "imagenet":
        from_scratch = backbone.state_dict()
        try:
            backbone = _torchreid_network(config.backbone, pretrained=True)
        except Exception as error:  # whatever a download client raises, the weights are not there
            raise _no_download(config.backbone, error) from error
        # torchreid only warns, or says nothing, where its zoo has no weights to give.
        if all(torch.equal(value, from_scratch[name]) for name, value in backbone.state_dict().items()):
            raise _no_download(config.backbone, "torchreid names none to download")
    backbone.classifier = nn.Identity()  # its forward then gives the feature in training and in evaluation alike
    return backbone


def _torchreid_network(name: str, pretrained: bool) -> nn.Module:
    """Built from the caller's seed each time, so that two from scratch are equal."""
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(torch.initial_seed())
        return import_torchreid().models.build_model(name, num_classes=1, pretrained=pretrained, use_gpu=False)


def _no_download(name: str, reason: object) -> CheckpointError:
    return CheckpointError(
        f"model.weights: the ImageNet weights of {name} could not be had ({reason}). Download them elsewhere and set "
        f"model.weights to the file, e.g. {name}.pth or {name}.safetensors; model.weights=null trains from scratch."
    )


def _keep_last_stage_resolution(backbone: nn.Module) -> None:
    """Stride 1 in a ResNet's last stage (Luo et al. 2019, section 3.5): twice the height and width of features."""
    stage = getattr(backbone, "layer4", None)
    if stage is None:
        return
    for name, module in list(stage.named_modules()):
        if isinstance(module, nn.Conv2d):
            module.stride = (1, 1)
        elif isinstance(module, nn.AvgPool2d | nn.MaxPool2d):  # of ResNet-D's shortcut and of anti-aliased variants
            parent, _, child = name.rpartition(".")
            setattr(stage.get_submodule(parent), child, nn.Identity())
