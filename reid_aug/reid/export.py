"""ONNX export of a trained model, checked against the model itself."""

from __future__ import annotations

import warnings
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from reid_aug.errors import CheckpointError, MissingDependencyError
from reid_aug.files import replacing
from reid_aug.reid.model import ReidModel
from reid_aug.reid.transforms import normalise

_TOLERANCE = 1e-4  # of L2-normalised features; runtimes fuse and reorder float32 sums


class _Deployed(nn.Module):
    """Preprocessing, network and normalisation in one graph, so that a user of it needs no constants of ours."""

    def __init__(self, model: ReidModel):
        super().__init__()
        self.model = model

    def forward(self, images: Tensor) -> Tensor:
        return F.normalize(self.model(normalise(images)))


def export_onnx(model: ReidModel, path: str | Path) -> None:
    """Write ``path``: ``images`` uint8 [B, 3, H, W] RGB at the model's size to ``features`` [B, D], L2-normalised.

    The file is put in place only after onnxruntime has given the same features as the model for random images.

    Raises:
        MissingDependencyError: onnx or onnxruntime is not installed.
        CheckpointError: onnxruntime gives other features.
    """
    try:
        import onnx  # noqa: F401 - torch's exporter needs it
        import onnxruntime
    except ImportError as error:
        raise MissingDependencyError(f"ONNX export needs {error.name}: pip install onnx onnxruntime") from None
    path = Path(path)
    training, device = model.training, next(model.parameters()).device
    rng = np.random.default_rng(0)
    images = torch.from_numpy(rng.integers(0, 256, (2, 3, *model.config.image_size), dtype=np.uint8))
    deployed = _Deployed(model.cpu()).eval()
    try:
        with torch.inference_mode():
            expected = deployed(images).numpy()
        with replacing(path) as temporary:
            _write(deployed, images, temporary, onnxruntime, expected, path)
    finally:
        model.to(device).train(training)


def _write(deployed: nn.Module, images: Tensor, temporary: Path, onnxruntime, expected: np.ndarray, path: Path) -> None:
    with warnings.catch_warnings():
        # The exporter that needs no further package is the older one, and says so.
        warnings.simplefilter("ignore", DeprecationWarning)
        torch.onnx.export(
            deployed,
            (images,),
            str(temporary),
            input_names=["images"],
            output_names=["features"],
            dynamic_axes={"images": {0: "batch"}, "features": {0: "batch"}},
            dynamo=False,
        )
    session = onnxruntime.InferenceSession(str(temporary), providers=["CPUExecutionProvider"])
    for batch in (images, images[:1]):
        (features,) = session.run(None, {"images": batch.numpy()})
        difference = float(np.abs(features - expected[: len(batch)]).max())
        if not difference <= _TOLERANCE:
            raise CheckpointError(
                f"{path}: not written; onnxruntime's features differ from the model's by {difference:.2g}. Export with "
                "another version of torch or onnxruntime."
            )
