"""`make image`: the container image, from Debian packages, locked wheels and this checkout.

Needs apt, dpkg-deb and pip, and neither root nor a container engine. Prints what it made. Refuses to build an image in
which a library is lacking.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirror.version import VERSION
from tests.image import debian, recipe, wheels
from tests.image.bytecode import Compiler
from tests.image.elf import needed
from tests.image.layout import PlatformImage, Source, platform_image, write_layout
from tests.image.sbom import sbom
from tests.image.tree import File, ImageError, Layer, Link, Tree, layer, write_below
from tests.support.apt import FetchError, native_architecture

ROOT: Final = Path(__file__).resolve().parents[2]
CACHE: Final = ROOT / ".tools" / "image"
OUT: Final = ROOT / "build" / "image"
_OURS: Final = ("containerd", "dht", "mirror")
# Of our packages: what only generates others.
_NOT_SHIPPED: Final = (".proto", ".pyc", ".pyi")


@dataclass(frozen=True, slots=True)
class Trees:
    """The three layers' files, byte code included, bottom first, and the list of what they are."""

    architecture: str
    base: Tree
    wheels: Tree
    ours: Tree
    sbom: bytes

    def layers(self) -> tuple[Layer, ...]:
        return (
            layer(f"Debian {recipe.SUITE} packages", self.base),
            layer("wheels of requirements/run.txt", self.wheels),
            layer("peili", self.ours),
        )


def trees(architecture: str, cache: Path, *, created_s: int, ask_mirror: bool = False) -> Trees:
    """Raises: FetchError, ImageError."""
    native = native_architecture()
    if native not in recipe.MACHINES:
        raise ImageError(f"this machine is {native}; images are built on {' and '.join(recipe.MACHINES)}.")
    packages = debian.debs(architecture, cache, ask_mirror=ask_mirror)
    base = debian.base_tree(packages, architecture)
    locked = wheels.wheels(architecture, cache)
    middle = wheels.wheels_tree(locked)
    check_libraries(base | middle)
    listed = sbom(packages, locked, base, architecture, created_s)
    ours = own_tree() | {recipe.SBOM: File(listed)}
    runs_here = (
        base
        if architecture == native
        else debian.base_tree(debian.debs(native, cache, ask_mirror=False), native)
    )
    with tempfile.TemporaryDirectory(prefix="peili-image-") as scratch:
        compiler = Compiler(runs_here, native, Path(scratch))
        base, middle, ours = (tree | compiler.byte_code(tree) for tree in (base, middle, ours))
    return Trees(architecture, base, middle, ours, listed)


def is_fetched(architecture: str, cache: Path) -> bool:
    """Whether an image can be built without a network."""
    return debian.are_kept(architecture, cache) and wheels.are_kept(architecture, cache)


def own_tree() -> Tree:
    """Our packages as they stand in the checkout, and the command, which needs no shell."""
    tree: Tree = {
        recipe.COMMAND: File(recipe.COMMAND_TEXT.encode(), is_executable=True),
        "usr/share/doc/peili/copyright": File((ROOT / "LICENSE").read_bytes()),
    }
    for package in _OURS:
        for path in sorted((ROOT / package).rglob("*")):
            if path.is_file() and "__pycache__" not in path.parts and path.suffix not in _NOT_SHIPPED:
                tree[f"{recipe.SITE}/{path.relative_to(ROOT)}"] = File(path.read_bytes())
    metadata = f"Metadata-Version: 2.4\nName: peili\nVersion: {VERSION}\nLicense-Expression: Apache-2.0\n"
    tree[f"{recipe.SITE}/peili-{VERSION}.dist-info/METADATA"] = File(metadata.encode())
    return tree


def check_libraries(tree: Tree) -> None:
    """What is linked to must be there: else an extension fails when it is first imported, on a user's host."""
    there = {path.rpartition("/")[2] for path, node in tree.items() if isinstance(node, File | Link)}
    lacking = {
        f"{library} (of {path})"
        for path, node in tree.items()
        if isinstance(node, File)
        for library in needed(node.content)
        if library not in there
    }
    if lacking:
        raise ImageError(f"the image lacks {', '.join(sorted(lacking))}: mend tests/image/recipe.py.")


def source_of_checkout() -> Source:
    """The last commit's; SOURCE_DATE_EPOCH wins, as everywhere."""
    created = os.environ.get("SOURCE_DATE_EPOCH") or _git("log", "-1", "--format=%ct") or "0"
    revision = _git("rev-parse", "HEAD")
    if revision and _git("status", "--porcelain", "--", *_OURS, "requirements", "tests/image"):
        revision += "-dirty"
    return Source(VERSION, revision, int(created))


def _git(*words: str) -> str:
    """Empty outside a clone, and where there is no git, as in the Dockerfile's build."""
    if shutil.which("git") is None:
        return ""
    done = subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=False)
    return done.stdout.strip() if done.returncode == 0 else ""


def main(arguments: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description="Build the container image, without a container engine.")
    parser.add_argument(
        "--platform",
        action="append",
        metavar="linux/ARCH",
        choices=[f"linux/{name}" for name in recipe.MACHINES],
        help="repeatable; this machine's if none is given",
    )
    parser.add_argument("--name", default=f"localhost/peili:{VERSION}", help="%(default)s if not given")
    parser.add_argument("--cached", action="store_true", help="do not ask the mirror whether there is news")
    parser.add_argument(
        "--fetch", action="store_true", help="only fetch what is not there yet, for the tests"
    )
    parser.add_argument(
        "--trees",
        type=Path,
        metavar="DIR",
        help="write each layer's files to a folder of its own instead, for the Dockerfile; of one platform",
    )
    parser.add_argument("--out", type=Path, default=OUT, help="folder; its .tar lies beside it")
    options = parser.parse_args(arguments)
    source = source_of_checkout()
    try:
        architectures = [it.removeprefix("linux/") for it in options.platform or []] or [
            native_architecture()
        ]
        if options.fetch:
            for one in architectures:
                debian.debs(one, CACHE, ask_mirror=False)
                wheels.wheels(one, CACHE)
            return 0
        if options.trees is not None:
            _write_trees(architectures[-1], source, options)
            return 0
        images = [_build(one, source, options) for one in dict.fromkeys(architectures)]
    except (FetchError, ImageError) as error:
        print(f"peili: {error}", file=sys.stderr)
        return 1
    top = write_layout(options.out, images, options.name)
    print(f"{options.name}  {top}\n{options.out}/  {options.out}.tar")
    return 0


def _build(architecture: str, source: Source, options: argparse.Namespace) -> PlatformImage:
    built = trees(architecture, CACHE, created_s=source.created_s, ask_mirror=not options.cached)
    image = platform_image(architecture, built.layers(), source)
    options.out.parent.mkdir(parents=True, exist_ok=True)
    (options.out.parent / f"{options.out.name}-sbom-{architecture}.spdx.json").write_bytes(built.sbom)
    if not debian.has_security_updates(architecture, CACHE):
        print(
            f"peili: warning: this machine's apt sources name no mirror of {recipe.SUITE}-security: "
            "the image lacks security updates since the last point release",
            file=sys.stderr,
        )
    for one in image.layers:
        print(
            f"{architecture}  {one.what:<32} {_mb(one.unpacked_bytes)} unpacked {_mb(len(one.blob))} packed"
        )
    print(
        f"{architecture}  {'all':<32} {_mb(image.unpacked_bytes)} unpacked {_mb(image.compressed_bytes)} packed"
    )
    return image


def _write_trees(architecture: str, source: Source, options: argparse.Namespace) -> None:
    built = trees(architecture, CACHE, created_s=source.created_s, ask_mirror=not options.cached)
    for name, tree in (("base", built.base), ("wheels", built.wheels), ("peili", built.ours)):
        write_below(options.trees / name, tree, is_used_from_outside=False)


def _mb(count_bytes: int) -> str:
    return f"{count_bytes / 1e6:6.1f} MB"


if __name__ == "__main__":
    sys.exit(main())
