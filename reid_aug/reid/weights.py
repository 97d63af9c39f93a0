"""Weight files: read without pickle, and loaded wholly or refused."""

from __future__ import annotations

import hashlib
import pickle
import sys
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from reid_aug.errors import CheckpointError
from reid_aug.torchreid_library import load_tensors

SHIPPED = Path(__file__).parents[1] / "weights"  # files that come with the package
_CLASSIFIERS = ("classifier.", "fc.", "head.", "last_linear.")  # what zoos call the layer that a re-ID model replaces


def read_weights(path: str | Path) -> dict[str, Tensor]:
    """The tensors of a ``.safetensors`` or a PyTorch file, by name, without the prefix ``module.`` of DataParallel.

    A training checkpoint that holds them under ``state_dict`` or ``model`` is accepted, torchreid's too. ``path`` may
    also be the name of a file that the package ships.

    Raises:
        CheckpointError: no such file, damaged, or holding more than tensors.
    """
    path = _place(path)
    if not path.is_file():
        raise CheckpointError(f"{path}: no such weight file. Name an existing .pth or .safetensors file.")
    try:
        if path.suffix == ".safetensors":
            weights = load_file(path)
        else:
            weights = load_tensors(path)
    except pickle.UnpicklingError:
        raise CheckpointError(
            f"{path}: holds more than tensors, and loading it could run code. Save its state_dict alone, or as "
            ".safetensors."
        ) from None
    except (SafetensorError, RuntimeError, EOFError, OSError, ValueError, KeyError) as error:
        raise CheckpointError(f"{path}: not a weight file, or damaged ({error}). Fetch it again.") from None
    for key in ("state_dict", "model"):
        if isinstance(weights, dict) and isinstance(weights.get(key), dict):
            weights = weights[key]
    if not isinstance(weights, dict) or not all(isinstance(value, Tensor) for value in weights.values()):
        raise CheckpointError(f"{path}: expected tensors by name, a state_dict. Save the model's state_dict alone.")
    return {name.removeprefix("module."): value for name, value in weights.items()}


def weights_digest(path: str | Path) -> str | None:
    """First 16 hex digits of the SHA-256 of a weight file, as :func:`read_weights` finds it; None where it is not."""
    path = _place(path)
    return hashlib.sha256(path.read_bytes()).hexdigest()[:16] if path.is_file() else None


def _place(path: str | Path) -> Path:
    """Where a weight file lies, if it is one that the package ships by its name."""
    return SHIPPED / path if (SHIPPED / path).is_file() else Path(path)


def weights_name(path: str | Path) -> str:
    """What start weights are called in results, wherever they lie: the file, with its folder where all have one name.

    >>> weights_name("zoo/osnet_x0_25_msmt17.pth")
    'osnet_x0_25_msmt17.pth'
    >>> weights_name("runs/msmt17/model.safetensors")  # as training here names it; torchreid's are model.pth.tar-60
    'msmt17/model.safetensors'
    """
    path = Path(path)
    return f"{path.absolute().parent.name}/{path.name}" if path.name.startswith("model.") else path.name


def load_backbone_weights(backbone: nn.Module, path: str | Path, name: str) -> None:
    """Load a local file into ``backbone``; only a classifier may be in the file and not in the network.

    The file may also be the ``model.safetensors`` of a training of this package, on another data set say.

    Raises:
        CheckpointError: the file cannot be read, or any other name or shape differs.
    """
    weights = read_weights(path)
    if "classifier.weight" in weights and any(key.startswith("backbone.") for key in weights):
        weights = {key.removeprefix("backbone."): weights[key] for key in weights if key.startswith("backbone.")}
    # timm converts original checkpoints (DINOv2, Swin, ...) by a function beside the architecture.
    convert = getattr(sys.modules[type(backbone).__module__], "checkpoint_filter_fn", None)
    if convert is not None:
        weights = convert(weights, backbone)
    expected = backbone.state_dict()
    weights = {key: value for key, value in weights.items() if key in expected or not key.startswith(_CLASSIFIERS)}
    load_exactly(backbone, weights, path, name)


def load_exactly(module: nn.Module, weights: dict[str, Tensor], path: str | Path, name: str) -> None:
    """Load ``weights`` into ``module`` where every name and shape agrees.

    Raises:
        CheckpointError: naming the first differences.
    """
    expected = module.state_dict()
    # Counters of batches that older checkpoints lack and nothing here reads.
    missing = [key for key in expected if key not in weights and not key.endswith("num_batches_tracked")]
    unexpected = [key for key in weights if key not in expected]
    reshaped = [
        f"{key} {list(value.shape)} instead of {list(expected[key].shape)}"
        for key, value in weights.items()
        if key in expected and value.shape != expected[key].shape
    ]
    problems = [
        f"{len(keys)} {what}, e.g. {', '.join(keys[:3])}"
        for what, keys in (("missing", missing), ("not of this network", unexpected), ("of another shape", reshaped))
        if keys
    ]
    if problems:
        raise CheckpointError(
            f"{path}: not the weights of {name}: {'; '.join(problems)}. Name the backbone the file was made with, or "
            "another file."
        )
    module.load_state_dict(weights, strict=False)
