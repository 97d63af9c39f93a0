"""What the encoders of timm share: normalisation, and weights from a file or the hub."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from reid_aug.errors import CheckpointError, ConfigError

CLASSIFIERS = ("head.", "fc.", "classifier.")  # timm's names of what a feature extractor lacks


class TimmEncoder(nn.Module):
    """A network of timm, from scratch until :meth:`load`.

    Args:
        name: of the timm model.
        **arguments: further ones of ``timm.create_model``.

    Raises:
        ConfigError: timm has no such model, or it does not take the arguments.
    """

    field: str  # of the configuration that names the model; that of its weights ends in _weights
    remedy: str  # for a name that does not go

    def __init__(self, name: str, **arguments: Any):
        super().__init__()
        self.name, self.arguments = name, arguments
        try:
            self.network = self._create()
        except (RuntimeError, TypeError, AssertionError) as error:
            raise ConfigError(f"`{self.field}` {name!r} with {arguments}: {error}. {self.remedy}") from error
        mean, std = (torch.tensor(self.network.pretrained_cfg[key])[:, None, None] for key in ("mean", "std"))
        self.register_buffer("mean", mean, persistent=False)
        self.register_buffer("std", std, persistent=False)

    def load(self, weights: str) -> None:
        """Load trained weights: a local file, as its authors or timm publish it, or "timm" for timm's own from the hub.

        Raises:
            CheckpointError: no file, the hub is not reachable, or weights of another architecture.
        """
        try:
            source = {} if weights == "timm" else {"pretrained_cfg_overlay": _overlay(Path(weights))}
            trained = self._create(pretrained=True, **source)
        except Exception as error:  # timm and hub clients raise many kinds
            reason = str(error).split("\n")[0]
            raise CheckpointError(
                f"`{self.field}_weights` {weights!r}: not loaded into {self.name}: {reason} Give the local file of "
                f"its weights, e.g. model.safetensors of https://huggingface.co/timm (look for {self.name})."
            ) from error
        self.network.load_state_dict(trained.state_dict())

    def normalised(self, images: Tensor) -> Tensor:
        """[..., 3, H, W] in [-1, 1] as the network's weights expect it."""
        return ((images + 1) / 2 - self.mean) / self.std

    def _create(self, **arguments: Any) -> nn.Module:
        import timm

        return timm.create_model(self.name, num_classes=0, **self.arguments, **arguments)


def _overlay(path: Path) -> dict[str, Any]:
    """timm's settings that load a file without its classifier, and fail where anything else does not fit."""
    if path.suffix == ".safetensors":
        read = load_file(path)
    else:
        read = torch.load(path, map_location="cpu", weights_only=True)
        read = read.get("model", read.get("state_dict", read))  # where their authors' files have them
    weights = {name: value for name, value in read.items() if not name.startswith(CLASSIFIERS)}
    return {"state_dict": weights, "num_classes": 0}
