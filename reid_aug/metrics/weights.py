"""Weight files of the networks that LPIPS and FID look through. Nothing is downloaded here: a file is given."""

from __future__ import annotations

from pathlib import Path

import torch

from reid_aug.errors import CheckpointError


def load_weights(file_name: str, weights_dir: str | Path | None, source: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """Path and state dict of ``file_name`` in ``weights_dir``; None looks where torch.hub keeps its downloads.

    Raises:
        CheckpointError: no such file, or not a state dict; ``source`` says where a copy comes from.
    """
    folder = Path(torch.hub.get_dir()) / "checkpoints" if weights_dir is None else Path(weights_dir)
    path = folder / file_name
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. {source}; give its folder as `weights_dir`.")
    try:
        weights = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage provokes: EOFError, RuntimeError, KeyError, ...
        raise CheckpointError(f"{path}: not a weight file ({type(error).__name__}). {source}.") from None
    if not isinstance(weights, dict) or not all(isinstance(value, torch.Tensor) for value in weights.values()):
        raise CheckpointError(f"{path}: holds no state dict. {source}.")
    return path, weights
