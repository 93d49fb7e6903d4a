"""Writes docs/api/*.json with --write. For developers, from a source checkout."""

from __future__ import annotations

import sys
from pathlib import Path

from mirror.admin.schemas import render

FOLDER = Path(__file__).parents[2] / "docs" / "api"


def main(arguments: list[str]) -> int:
    if arguments != ["--write"]:
        sys.stderr.write("usage: python -m mirror.admin --write\n")
        return 2
    FOLDER.mkdir(exist_ok=True)
    for name, text in render().items():
        (FOLDER / name).write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
