"""A program that sees an /etc of its own: a copy of the machine's in memory, with one folder in it that is a bed's.

Words to put in front of the program's. Needs root; what was mounted goes with the program.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

# $1: a folder for the copy; $2: which path shows $3.
_SCRIPT: Final = """
set -e
mkdir -p "$1/etc"
mount -t tmpfs tmpfs "$1/etc"
cp -a /etc/. "$1/etc"
rm -rf "$1$2"
mkdir -p "$1$2"
mount --bind "$1/etc" /etc
mount --bind "$3" "$2"
shift 3
exec "$@"
"""


def own_etc(state: Path, path: str, shown: Path) -> list[str | Path]:
    """`path`, below /etc, is `shown`. Nothing stays in `state` but an empty folder."""
    return ["unshare", "--mount", "--propagation", "private", "sh", "-c", _SCRIPT, "sh", state, path, shown]
