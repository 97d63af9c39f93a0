"""The re-ID network: backbone, BNNeck, classifier; its saving and loading."""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor, nn

from reid_aug.config import ReidConfig, ReidModelConfig, load_config, save_config
from reid_aug.errors import CheckpointError
from reid_aug.files import replacing
from reid_aug.reid.backbones import build_backbone, feature_dimension
from reid_aug.reid.weights import load_exactly, read_weights

WEIGHTS_NAME = "model.safetensors"
CONFIG_NAME = "reid_config.yaml"


class ReidModel(nn.Module):
    """Backbone, batch-norm neck with a frozen bias, bias-free classifier (Luo et al. 2019, Fig. 5).

    The metric losses see the feature before the neck, the classifier and the test see the one after it.
    """

    def __init__(self, config: ReidModelConfig, num_classes: int):
        super().__init__()
        self.config = config
        self.backbone = build_backbone(config)
        self.dimension = feature_dimension(self.backbone, config.image_size)
        self.neck = nn.BatchNorm1d(self.dimension) if config.neck else nn.Identity()
        if config.neck:
            self.neck.bias.requires_grad_(False)
        self.classifier = nn.Linear(self.dimension, num_classes, bias=False)
        nn.init.normal_(self.classifier.weight, std=0.001)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor] | Tensor:
        """Float [B, 3, H, W], ImageNet-normalised.

        Returns:
            In training: the feature before the neck [B, D] and the logits [B, N]. In evaluation: the feature after
            the neck [B, D], not normalised.
        """
        feature = self.backbone(images)
        after_neck = self.neck(feature)
        return (feature, self.classifier(after_neck)) if self.training else after_neck


def build_model(config: ReidModelConfig, num_classes: int, seed: int = 0) -> ReidModel:
    """A model whose layers without pretrained weights are drawn from ``seed``.

    Raises:
        ConfigError: an unknown backbone, or an image size it does not take.
        CheckpointError: weights that are missing, damaged or of another architecture.
    """
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(seed)
        return ReidModel(config, num_classes)


def build_blank(config: ReidModelConfig, num_classes: int) -> ReidModel:
    """The network of :func:`build_model` without its start weights, which need not be there: to load a state into."""
    model = build_model(config.model_copy(update={"weights": None}), num_classes)
    model.config = config
    return model


def save_model(model: ReidModel, config: ReidConfig, folder: str | Path) -> None:
    """Write ``model.safetensors`` and ``reid_config.yaml`` (the resolved configuration), the weights last."""
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    save_config(config, folder / CONFIG_NAME)
    weights = {name: value.detach().cpu().contiguous() for name, value in model.state_dict().items()}
    with replacing(folder / WEIGHTS_NAME) as path:
        save_file(weights, path)


def load_model(folder: str | Path, device: str | torch.device | None = None) -> ReidModel:
    """The model that :func:`save_model` or training left in ``folder``, in evaluation mode.

    ``device`` None is the GPU where there is one.

    Raises:
        CheckpointError: no model there, or weights that are damaged or of another architecture.
    """
    folder = Path(folder)
    for name in (CONFIG_NAME, WEIGHTS_NAME):
        if not (folder / name).is_file():
            raise CheckpointError(f"{folder}: no {name} in it. Name the output folder of a finished re-ID training.")
    config = load_config(ReidConfig, folder / CONFIG_NAME).model
    weights = read_weights(folder / WEIGHTS_NAME)
    if "classifier.weight" not in weights:
        raise CheckpointError(
            f"{folder / WEIGHTS_NAME}: no classifier.weight in it, so not a re-ID model of this package."
        )
    model = build_blank(config, len(weights["classifier.weight"]))
    load_exactly(model, weights, folder / WEIGHTS_NAME, f"{config.backbone} as {CONFIG_NAME} describes it")
    return model.to(device or ("cuda" if torch.cuda.is_available() else "cpu")).eval()
