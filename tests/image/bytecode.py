"""Byte code for the sources of a layer, made by the Python that the image runs.

It is found by its place and never compared with its source (unchecked-hash): the root of a container is read-only, and
a time or a size to compare would be one more thing that differs between builds. Byte code is the same for every
machine, so that an image for another architecture is compiled by this machine's Python of the same release.
"""

from __future__ import annotations

import subprocess
from pathlib import Path
from typing import Final

from tests.image import recipe
from tests.image.tree import File, ImageError, Tree, write_below

_TIMEOUT_S: Final = 600.0


class Compiler:
    """`scratch` is a folder of its own; the interpreter is written there once. architecture: this machine's."""

    def __init__(self, base: Tree, architecture: str, scratch: Path) -> None:
        self._scratch = scratch
        self._architecture = architecture
        self._root = scratch / "interpreter"
        write_below(self._root, base)
        self._layer_count = 0

    def byte_code(self, layer: Tree) -> Tree:
        """Raises: ImageError."""
        sources: Tree = {path: node for path, node in layer.items() if path.endswith(".py")}
        self._layer_count += 1
        folder = self._scratch / f"layer{self._layer_count}"
        write_below(folder, sources)
        command = [*self._python(), "-sP", "-m", "compileall", "-qq", "-f", "-x", recipe.NOT_COMPILED]
        command += ["--invalidation-mode=unchecked-hash", "-s", str(folder), "-p", "/", str(folder)]
        environment = {"PYTHONHOME": str(self._root / "usr"), "PATH": "/usr/bin:/bin"}
        done = subprocess.run(
            command, env=environment, capture_output=True, text=True, timeout=_TIMEOUT_S, check=False
        )
        if done.returncode:
            raise ImageError(
                f"the image's Python cannot compile its sources: {done.stdout}{done.stderr}"[-1000:]
            )
        made = {str(path.relative_to(folder)): File(path.read_bytes()) for path in folder.rglob("*.pyc")}
        if not made:
            raise ImageError(f"no byte code was made below {folder}.")
        return dict(made)

    def _python(self) -> list[str]:
        """By the image's own loader and libraries, of which this machine needs to have none."""
        machine = f"{recipe.MACHINES[self._architecture]}-linux-gnu"
        loader = self._root / recipe.LOADERS[self._architecture]
        return [
            str(loader.resolve()),
            "--library-path",
            str(self._root / "usr/lib" / machine),
            str(self._root / "usr/bin" / recipe.PYTHON),
        ]
