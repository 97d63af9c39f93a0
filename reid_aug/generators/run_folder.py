"""The folder of a generator's training run: its configuration, its checkpoint, and the generator it ends in."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch

from reid_aug.config import GeneratorConfig, load_config, save_config
from reid_aug.errors import CheckpointError, ConfigError, OutputError
from reid_aug.files import replacing, write_json
from reid_aug.generators.pipeline import CHECKPOINT, PosePipeline

SETTINGS = "train_config.yaml"
DATA = "train_data.json"  # digest of what a run that is done learnt from; until then its checkpoint has it
# Of the loop, in a run that goes on: a diverged one needs a lower rate, one that outgrows its time fewer iterations.
CHANGEABLE = ("learning_rate", "gradient_clip", "iterations", "checkpoint_every", "sample_every", "compile")


def is_trained(folder: Path) -> bool:
    """Whether ``folder`` has a generator that was trained to the end of its iterations."""
    return (folder / "model_index.json").exists() and not (folder / CHECKPOINT).exists()


def check_settings(folder: Path, config: GeneratorConfig) -> None:
    """See that the run in ``folder`` is the one of ``config``, or one that can go on as ``config`` says.

    Raises:
        OutputError: it is another one.
    """
    try:
        there = load_config(GeneratorConfig, folder / SETTINGS)
    except ConfigError:
        there = None
    goes_on = there is not None and not is_trained(folder) and fixed_settings(there) == fixed_settings(config)
    if there != config and not goes_on:
        raise OutputError(f"{folder}: holds a run with other settings ({SETTINGS}). Name another folder.")


class RunFolder:
    """``train_config.yaml``, ``checkpoint.pt`` while training, the generator's own files and ``train_data.json`` after.

    A run that was stopped goes on when it is started in its folder again.

    Args:
        path: the folder; :meth:`claim` makes it.
        config: of the run.

    Raises:
        OutputError: the folder holds a run of other settings, or files that are no run.
    """

    def __init__(self, path: str | Path, config: GeneratorConfig):
        self.path, self.config = Path(path), config
        self.checkpoint = self.path / CHECKPOINT
        self.settings = self.path / SETTINGS
        begun = self.checkpoint.exists() or (self.path / "model_index.json").exists()
        if begun:
            check_settings(self.path, config)
        elif not self.settings.exists() and self.path.exists() and any(self.path.iterdir()):
            raise OutputError(f"{self.path}: not empty, and not a training run. Name another folder.")

    def learns_from(self, data: str) -> None:
        """Note the digest of what the run learns from; one that is done must have learnt from the same.

        Raises:
            OutputError: it was trained on other images, poses or pairs.
        """
        self.data = data
        if is_trained(self.path):
            self._check_data(self._learnt_from())

    def claim(self) -> None:
        """Make the folder this run's; called once everything that can be wrong with the run has been checked."""
        self.path.mkdir(parents=True, exist_ok=True)
        save_config(self.config, self.settings)

    def save(self, state: Mapping[str, Any], iteration: int) -> None:
        """Write the state of ``iteration`` whole or not at all."""
        saved = {name: part.state_dict() for name, part in state.items()}
        with replacing(self.checkpoint) as path:
            torch.save({"iteration": iteration, "data": self.data, **saved}, path)

    def load(self, state: Mapping[str, Any]) -> int:
        """Put the checkpoint, if there is one yet, into ``state``; returns the iterations done.

        Raises:
            CheckpointError: the checkpoint is damaged or of another architecture.
            OutputError: it was trained on other images, poses or pairs.
        """
        if not self.checkpoint.exists():
            return 0
        try:
            saved = torch.load(self.checkpoint, map_location="cpu", weights_only=True)
            self._check_data(saved["data"])
            for name, part in state.items():
                part.load_state_dict(saved[name])
        except (OSError, EOFError, KeyError, RuntimeError, ValueError, UnpicklingError) as error:
            raise CheckpointError(
                f"{self.checkpoint}: cannot be resumed: {error}. Remove the folder and train again."
            ) from error
        return saved["iteration"]

    def finish(self, pipe: PosePipeline, trained: bool) -> None:
        """Save the generator into the folder, its files moved in place once all are written.

        Once it is ``trained`` to the end there is nothing to resume, and the checkpoint goes.
        """
        partial = self.path / ".generator"
        shutil.rmtree(partial, ignore_errors=True)
        pipe.save_pretrained(partial)
        # model_index.json last: a folder without it is not taken for a generator.
        for entry in sorted(partial.iterdir(), key=lambda entry: entry.name == "model_index.json"):
            place = self.path / entry.name
            if place.is_dir():
                shutil.rmtree(place)
            os.replace(entry, place)
        partial.rmdir()
        if trained:
            write_json(self.path / DATA, {"digest": self.data})
            self.checkpoint.unlink(missing_ok=True)

    def _check_data(self, there: str) -> None:
        if there != self.data:
            raise OutputError(
                f"{self.path}: holds a run on other images, poses or pairs. Give the data, fraction and seed of "
                "that run, or name another folder."
            )

    def _learnt_from(self) -> str:
        """Digest of the data of a run that is done."""
        try:
            return json.loads((self.path / DATA).read_text(encoding="utf-8"))["digest"]
        except (OSError, ValueError, KeyError):
            raise OutputError(
                f"{self.path}: holds a trained generator, and no {DATA} says on which data. Name another folder."
            ) from None


def fixed_settings(config: GeneratorConfig) -> dict[str, Any]:
    """The settings that stay the same for the whole of a run."""
    return config.model_dump(exclude={"training": set(CHANGEABLE)})
