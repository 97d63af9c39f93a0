"""Any folder of images, named and nested as it may be."""

from __future__ import annotations

from pathlib import Path

from reid_aug.data.market1501 import JUNK_PID, leave_out_undecodable
from reid_aug.errors import DataError
from reid_aug.records import Sample, Samples

_SUFFIXES = {".jpg", ".jpeg", ".png"}
_NO_CAMERA = 0


def load_folder(folder: str | Path, skip_bad: bool = False) -> Samples:
    """Every .jpg and .png image in ``folder`` and below, sorted by path; nothing is known of who they show (pid -1).

    Hidden files and folders are passed over.

    Args:
        skip_bad: decode every image once and leave out those that cannot be; a warning lists them.

    Raises:
        DataError: no such folder, or no image in it.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise DataError(f"{folder}: no such folder. Name one with .jpg or .png images in it.")
    paths = sorted(
        path
        for path in folder.rglob("*")
        if path.suffix.lower() in _SUFFIXES
        and path.is_file()
        and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )
    if not paths:
        raise DataError(f"{folder}: holds no .jpg or .png image, nor do its folders. Name another.")
    samples = [Sample(path, JUNK_PID, _NO_CAMERA) for path in paths]
    return Samples(leave_out_undecodable(samples) if skip_bad else samples)
