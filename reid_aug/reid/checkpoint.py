"""The folder of a re-ID training run: which run it is, its checkpoint, its result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import torch

from reid_aug.config import ReidConfig, save_config
from reid_aug.errors import CheckpointError, OutputError
from reid_aug.files import replacing, write_json
from reid_aug.records import ImageSource, Sample, Samples, Schedule
from reid_aug.reid.model import CONFIG_NAME, WEIGHTS_NAME
from reid_aug.reid.weights import weights_digest, weights_name

CHECKPOINT_NAME = "checkpoint.pt"
RUN_NAME = "run.json"  # the configuration, and digests of what the run is trained on
CHANGEABLE = {"checkpoint_every", "evaluate_every"}  # of the training, in a run that goes on: they change no weight
_HASHED = 256  # images at once


class RunFolder:
    """``out`` of one run, resumed when the same run is started in it again.

    Holds ``reid_config.yaml``, ``run.json``, ``logs/``, ``checkpoint.pt`` while training and ``model.safetensors``
    when finished.
    """

    def __init__(self, folder: str | Path):
        self.folder = Path(folder)
        self._checkpoint = self.folder / CHECKPOINT_NAME

    def claim(
        self,
        config: ReidConfig,
        train: Samples,
        schedule: Schedule,
        synthetic: Samples | None,
        synthetic_images: ImageSource | None,
        processes: int,
    ) -> None:
        """Make the folder this run's, or see that it already is.

        Raises:
            OutputError: it holds another run (the message says what differs), other files, or cannot be written.
        """
        identity = {
            "training images": _digest(_names(train)),
            "generated images": _digest([*_names(synthetic or ()), *_pixels(synthetic_images)]),
            "schedule": _digest(repr(schedule(iteration)) for iteration in range(config.training.iterations)),
            **config.model_dump(mode="json", exclude={"training": CHANGEABLE}),
        }
        if config.model.weights is not None:
            identity["model"]["weights"] = _start(config.model.weights)
        if not self.finished:  # what they trained, fewer may load
            identity["processes"] = processes
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
            if (self.folder / RUN_NAME).is_file():
                self._compare(identity)
            elif any(not path.name.startswith(".") for path in self.folder.iterdir()):
                raise OutputError(f"{self.folder}: holds files that are no re-ID run. Name a new or an empty folder.")
            else:
                write_json(self.folder / RUN_NAME, identity)
            save_config(config, self.folder / CONFIG_NAME)
        except OSError as error:
            raise OutputError(f"{self.folder}: cannot be written ({error.strerror}). Name another folder.") from None

    @property
    def finished(self) -> bool:
        return (self.folder / WEIGHTS_NAME).is_file()

    def save(self, state: dict[str, Any]) -> None:
        """Replace the checkpoint, whole or not at all."""
        with replacing(self._checkpoint) as path:
            torch.save(state, path)

    def load(self) -> dict[str, Any] | None:
        """The last checkpoint, or None.

        Raises:
            CheckpointError: it is damaged.
        """
        if not self._checkpoint.is_file():
            return None
        try:
            return torch.load(self._checkpoint, map_location="cpu", weights_only=True)
        except Exception as error:  # torch.load raises half a dozen kinds for a damaged file
            raise CheckpointError(
                f"{self._checkpoint}: damaged ({error}). Delete it to start this run again."
            ) from error

    def drop_checkpoint(self) -> None:
        self._checkpoint.unlink(missing_ok=True)

    def _compare(self, identity: dict[str, Any]) -> None:
        try:
            present = json.loads((self.folder / RUN_NAME).read_text(encoding="utf-8"))
        except ValueError as error:
            raise OutputError(f"{self.folder / RUN_NAME}: not JSON ({error}). Name another folder.") from None
        differing = list(_differences(present, identity))
        if differing:
            raise OutputError(
                f"{self.folder}: holds another run; different here: {', '.join(differing)}. Name another folder, or "
                "delete this one."
            )


def _start(weights: str) -> dict[str, str]:
    """Start weights by name and content, wherever they lie; by name alone where they are no longer there."""
    digest = weights_digest(weights)
    return {"name": weights_name(weights)} | ({} if digest is None else {"sha256": digest})


def _names(samples: Iterable[Sample]) -> Iterable[str]:
    return (f"{sample.name} {sample.pid}" for sample in samples)


def _pixels(images: ImageSource | None) -> Iterable[str]:
    """Digests of generated images: their names say whose they are, and nothing of what drew them."""
    total = 0 if images is None else len(images)
    for start in range(0, total, _HASHED):
        pixels = images.batch(range(start, min(start + _HASHED, total)))
        yield hashlib.sha256(pixels.cpu().contiguous().numpy()).hexdigest()


def _digest(lines: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()[:16]


def _differences(present: dict[str, Any], wanted: dict[str, Any], prefix: str = "") -> Iterable[str]:
    for key, value in wanted.items():
        there = present.get(key)
        if isinstance(value, dict) and isinstance(there, dict):
            yield from _differences(there, value, f"{prefix}{key}.")
        elif there != value:
            yield f"{prefix}{key} ({there!r} there, {value!r} asked for)"
