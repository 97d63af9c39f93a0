"""Features and the names of their images in one file."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from safetensors.torch import save_file
from torch import Tensor

from reid_aug.errors import ConfigError
from reid_aug.files import check_place, replacing


def feature_writer(path: str | Path) -> Callable[[Sequence[str], Tensor], None]:
    """A function that writes names and float32 features [N, D] to ``path``; made before they are extracted.

    ``.npz`` holds the arrays ``names`` and ``features`` (``numpy.load`` reads it without pickle), ``.safetensors`` the
    tensor ``features`` and, in its metadata, ``names`` as a JSON list.

    Raises:
        ConfigError: another suffix.
        OutputError: no such folder.
    """
    path = Path(path)
    writers = {".npz": _write_npz, ".safetensors": _write_safetensors}
    if path.suffix not in writers:
        raise ConfigError(f"{path}: features are written as .npz or .safetensors. Name a file that ends in one.")
    check_place(path)

    def write(names: Sequence[str], features: Tensor) -> None:
        with replacing(path) as temporary:
            writers[path.suffix](temporary, names, features)

    return write


def _write_npz(path: Path, names: Sequence[str], features: Tensor) -> None:
    with open(path, "wb") as file:  # given a path, numpy adds its suffix
        np.savez(file, names=np.array(names), features=features.numpy())


def _write_safetensors(path: Path, names: Sequence[str], features: Tensor) -> None:
    save_file({"features": features}, path, metadata={"names": json.dumps(list(names))})
