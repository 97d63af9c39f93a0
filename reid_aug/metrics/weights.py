"""Weight files of the networks that LPIPS and FID look through. Nothing is downloaded here: a file is given."""

from __future__ import annotations

from pathlib import Path

import torch

from reid_aug.errors import CheckpointError


def load_weights(file_name: str, given: str | Path | None, source: str) -> tuple[Path, dict[str, torch.Tensor]]:
    """Path and state dict of a weight file.

    Args:
        file_name: its name where it comes from.
        given: the file, under any name, or the folder it is in; None looks where torch.hub keeps its downloads.
        source: says where a copy comes from.

    Raises:
        CheckpointError: no such file, or not a state dict; repeats ``source``.
    """
    path = Path(torch.hub.get_dir()) / "checkpoints" if given is None else Path(given)
    if not path.is_file():
        path = path / file_name
    if not path.is_file():
        raise CheckpointError(f"{path}: no such file. {source}; give it or its folder.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:  # torch.load raises whatever the damage provokes: EOFError, RuntimeError, KeyError, ...
        raise CheckpointError(f"{path}: not a weight file ({type(error).__name__}). {source}.") from None
    if not isinstance(state, dict) or not all(isinstance(value, torch.Tensor) for value in state.values()):
        raise CheckpointError(f"{path}: holds no state dict. {source}.")
    return path, state
