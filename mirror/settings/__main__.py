"""Prints docs/settings.md; with --write, writes it. For developers, from a source checkout."""

from __future__ import annotations

import sys
from pathlib import Path

from mirror.settings.document import render

PAGE = Path(__file__).parents[2] / "docs" / "settings.md"


def main(arguments: list[str]) -> int:
    if arguments == ["--write"]:
        PAGE.write_text(render())
    elif not arguments:
        sys.stdout.write(render())
    else:
        sys.stderr.write("usage: python -m mirror.settings [--write]\n")
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
