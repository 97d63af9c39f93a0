"""Decoded images: read once by a pool of threads into one uint8 array, from which batches are gathered."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch
from PIL import Image

from reid_aug.errors import DataError
from reid_aug.records import Sample, Samples

Result = TypeVar("Result")


class Images:
    """The images of ``samples`` by position; an :class:`~reid_aug.records.ImageSource`.

    Where they fit ``memory_budget`` they are decoded here, once, and :meth:`batch` is one gather (the Market-1501
    training set at 128x64 is 318 MB). Otherwise every batch decodes its own images.

    Args:
        samples: whose images.
        size: (height, width) they are resized to.
        memory_budget: bytes the decoded array may take.

    Raises:
        DataError: images that cannot be decoded; all of them are counted and the first named. Past the budget, that
            is raised by the batch that meets one.
    """

    def __init__(self, samples: Samples, size: tuple[int, int] = (128, 64), memory_budget: int = 2 * 2**30):
        self.samples = samples
        self.size = tuple(size)
        needed = len(samples) * 3 * size[0] * size[1]
        self._array = self._decode(range(len(samples))) if needed <= memory_budget else None

    def __len__(self) -> int:
        return len(self.samples)

    def __repr__(self) -> str:
        where = "decoded on demand" if self._array is None else "in memory"
        return f"Images({len(self)} of {self.size[0]}x{self.size[1]}, {where})"

    def batch(self, indices: Sequence[int] | np.ndarray | torch.Tensor) -> torch.Tensor:
        """Images at ``indices`` [B] (an index may repeat): uint8 [B, 3, H, W], RGB, the caller's own copy."""
        indices = torch.as_tensor(np.asarray(indices, dtype=np.int64))
        if self._array is None:
            return self._decode(indices.tolist())
        return self._array[indices]

    def _decode(self, indices: Sequence[int]) -> torch.Tensor:
        images = torch.empty((len(indices), 3, *self.size), dtype=torch.uint8)
        paths = [self.samples[index].path for index in indices]

        def fill(position: int) -> Path | None:
            try:
                images[position] = decode(paths[position], self.size)
            except DataError:
                return paths[position]
            return None

        _raise_undecodable([path for path in _threaded(fill, range(len(paths))) if path is not None])
        return images


def decode(path: str | Path, size: tuple[int, int] | None = None) -> torch.Tensor:
    """One image file as uint8 [3, H, W], RGB, resized (bicubic, antialiased) where its size is not ``size``.

    Raises:
        DataError: the file is missing or is not a whole image.
    """
    image = _open(path)
    if size is not None and image.size != (size[1], size[0]):
        image = image.resize((size[1], size[0]), Image.Resampling.BICUBIC)
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).contiguous()


def find_undecodable(samples: Iterable[Sample]) -> list[Path]:
    """The files among ``samples`` that cannot be decoded, in order; reads every one of them."""

    def check(path: Path) -> Path | None:
        try:
            _open(path)
        except DataError:
            return path
        return None

    paths = [sample.path for sample in samples]
    return [path for path in _threaded(check, paths) if path is not None]


def _open(path: str | Path) -> Image.Image:
    try:
        with Image.open(path) as file:
            return file.convert("RGB")
    # Pillow's decoders raise whatever a damaged file leads them to, SyntaxError and struct.error among them.
    except Exception as error:
        raise DataError(f"{path}: cannot be decoded ({error}). Replace it, or leave it out (--skip-bad).") from None


def _threaded(function: Callable[..., Result], items: Iterable) -> list[Result]:
    """``function`` of every item, in order; Pillow lets go of the interpreter lock while it decodes."""
    with ThreadPoolExecutor(min(32, os.cpu_count() or 1)) as pool:
        return list(pool.map(function, items))


def _raise_undecodable(paths: list[Path]) -> None:
    paths = list(dict.fromkeys(paths))  # a batch may hold an image twice
    if not paths:
        return
    named = "\n".join(f"  {path}" for path in paths[:5])
    more = f"\n  and {len(paths) - 5} more" if len(paths) > 5 else ""
    count = "1 image" if len(paths) == 1 else f"{len(paths)} images"
    raise DataError(f"{count} cannot be decoded:\n{named}{more}\nReplace them, or leave them out (--skip-bad).")
