"""Which command starts this very peili again, and which files it needs. Only `of_process` asks Python."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import mirror

_MODULE_MAIN = "__main__.py"


@dataclass(frozen=True, slots=True)
class Program:
    """As `unit.ServiceFacts` takes them. All paths are absolute. `working_dir` None: it does not matter."""

    words: tuple[str, ...]
    reads: tuple[str, ...]
    working_dir: str | None = None


def program(
    script: str, python: str, *, is_executable: bool, homes: Sequence[str], package_parent: str
) -> Program:
    """`script`: what Python was told to run. `homes`: of Python, and of its packages. `package_parent`: the directory
    that `mirror` lies in."""
    reads = tuple(dict.fromkeys((script, *homes, package_parent)))
    if script.rpartition("/")[2] == _MODULE_MAIN:  # python -m mirror
        return Program((python, "-m", "mirror"), reads, package_parent)
    return Program((script,) if is_executable else (python, script), reads)


def of_process() -> Program:
    """Of this process."""
    script = os.path.abspath(sys.argv[0])  # noqa: PTH100 - symbolic links stay: a venv's Python is one
    # A venv's Python is a link to another, which finds its libraries where it really lies.
    real = Path(sys.executable).resolve()
    return program(
        script,
        sys.executable,
        is_executable=os.access(script, os.X_OK),
        homes=(sys.prefix, sys.base_prefix, str(real.parent.parent)),
        package_parent=str(Path(mirror.__file__).resolve().parent.parent),
    )
