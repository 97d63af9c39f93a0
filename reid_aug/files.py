"""Reading and writing files with the package's own errors; what is written is there whole or not at all."""

from __future__ import annotations

import errno
import json
import os
import shutil
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from reid_aug.errors import DataError, OutputError


def read_lines(path: Path, remedy: str) -> list[str]:
    """The lines of a UTF-8 text file; ``remedy`` ends the message of the DataError where it cannot be read."""
    try:
        return path.read_text(encoding="utf-8-sig").split("\n")
    except OSError as error:
        raise DataError(f"{path}: cannot be read ({error.strerror}). {remedy}") from None
    except UnicodeDecodeError as error:
        raise DataError(f"{path}: not UTF-8 text (byte {error.start}). {remedy}") from None


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A temporary path beside ``path`` to write; at the end of the block it takes the place of ``path``.

    A block that raises leaves ``path`` as it was. The temporary name is hidden and ends in ``.tmp``.

    Raises:
        OutputError: the folder is missing or cannot be written.
    """
    temporary = path.with_name(f".{path.name}.tmp")
    try:
        yield temporary
        with open(temporary, "r+b") as file:  # Windows syncs only what is open for writing
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}). Name a file in an existing folder that has room."
        ) from error
    finally:
        with suppress(NotADirectoryError):  # a file is in the folder's place
            temporary.unlink(missing_ok=True)


@contextmanager
def making_folder(path: Path) -> Iterator[Path]:
    """An empty temporary folder beside ``path`` to fill; at the end of the block it becomes ``path``.

    A block that raises leaves nothing. The temporary name is hidden and ends in ``.tmp``.

    Raises:
        OutputError: ``path`` is a file or a folder that is not empty, or cannot be written.
    """
    path = path.absolute()
    temporary = path.with_name(f".{path.name}.tmp")
    shutil.rmtree(temporary, ignore_errors=True)
    try:
        if path == Path.cwd():  # it can be filled, but not be replaced
            raise OSError(errno.EBUSY, "it is the folder that you are in")
        if path.exists() and any(path.iterdir()):  # now, rather than after all the work
            raise OSError(errno.ENOTEMPTY, os.strerror(errno.ENOTEMPTY))
        temporary.mkdir(parents=True)
        yield temporary
        os.replace(temporary, path)
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror or error}). Name another folder.") from error
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def check_place(path: Path) -> None:
    """See that ``path`` can be written, before the work whose outcome it will hold.

    Raises:
        OutputError: no such folder.
    """
    if not path.parent.is_dir():
        raise OutputError(f"{path}: the folder {path.parent} does not exist. Make it, or name another.")


def write_text(path: Path, text: str) -> None:
    """Write ``path`` as UTF-8 with line feeds alone; raises OutputError like :func:`replacing`."""
    with replacing(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


def write_lines(path: Path, lines: Iterable[str]) -> None:
    """Write ``lines``, each ended by a line feed; raises OutputError like :func:`replacing`."""
    write_text(path, "".join(f"{line}\n" for line in lines))


def append_line(path: Path, line: str) -> None:
    """Add ``line`` at the end of ``path``, making file and folder where missing; on the disk when this returns.

    Raises:
        OutputError: it cannot be written.
    """
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with path.open("ab") as file:
            file.write(f"{line}\n".encode())
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise OutputError(
            f"{path}: cannot be written ({error.strerror or error}). Name a file in a folder that has room."
        ) from error


def write_json(path: Path, values: dict[str, Any]) -> None:
    """Write ``values`` as indented JSON; raises OutputError like :func:`replacing`."""
    write_text(path, json.dumps(values, indent=2) + "\n")
