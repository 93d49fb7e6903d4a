"""Replaces a small file so that a crash or a power cut leaves the old one or the new one."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from pathlib import Path


def replace(
    path: Path, content: bytes, *, mark: str = "", finish: Callable[[int], None] = lambda descriptor: None
) -> None:
    """Readable for its owner alone, where `finish` does not change that of the written file. What a killed process
    leaves behind begins with a dot, the file's name, another dot and `mark`. Raises: OSError; the old file stands
    then."""
    descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.{mark}", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            finish(descriptor)
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
