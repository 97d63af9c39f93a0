"""Reading and writing small text files with the package's own errors."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path

from reid_aug.errors import DataError, OutputError


def read_lines(path: Path, remedy: str) -> list[str]:
    """The lines of a UTF-8 text file; ``remedy`` ends the message of the DataError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {remedy}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}). {remedy}") from None


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write ``path`` whole or not at all.

    Raises:
        OutputError: the folder is missing or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        with open(temporary, "w", encoding="utf-8", newline="\n") as file:
            file.writelines(f"{line}\n" for line in lines)
        os.replace(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise OutputError(f"{path}: cannot be written ({error.strerror}). Name a file in an existing folder.") from None
