"""The container image for the tests that run it: built once for each state of what goes into it, kept below build/.

Fetches nothing: what is tested is the recipe, not today's packages. `newer` is the same image
with a later version of ours on top, for upgrades.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirror.version import VERSION
from tests.image import recipe
from tests.image.build import CACHE, ROOT, is_fetched, own_tree, trees
from tests.image.layout import Source, platform_image, write_layout
from tests.image.tree import File, layer
from tests.image.wheels import LOCK
from tests.support.apt import native_architecture
from tests.support.apt_sources import debian_mirrors
from tests.support.debs import DEBIAN, ETC_APT
from tests.support.missing import NO_DEBIAN_SOURCES, NO_TOOLS, Missing

FETCH: Final = "run `python -m tests.image.build --fetch` in the checkout (network access needed)."
BUILT: Final = ROOT / "build" / "test-images"
NEWER_VERSION: Final = f"{VERSION}.post1"


@dataclass(frozen=True, slots=True)
class BuiltImage:
    """`tar` is for `ctr image import`, which then knows it as `name`."""

    name: str
    layout: Path
    unpacked_bytes: int
    compressed_bytes: int

    @property
    def tar(self) -> Path:
        return self.layout.with_name(f"{self.layout.name}.tar")


@dataclass(frozen=True, slots=True)
class BuiltImages:
    current: BuiltImage
    newer: BuiltImage


def built_images() -> BuiltImages | Missing:
    """Raises: FetchError, ImageError."""
    if not debian_mirrors(ETC_APT) or shutil.which("apt-get") is None or shutil.which("dpkg-deb") is None:
        return Missing(
            NO_DEBIAN_SOURCES, "the image is made of Debian packages; no source names them.", DEBIAN
        )
    if not is_fetched(native_architecture(), CACHE):
        return Missing(NO_TOOLS, f"the packages of the image are not below {CACHE.parent.name}/.", FETCH)
    folder = BUILT / _inputs_hash()
    BUILT.mkdir(parents=True, exist_ok=True)
    with (BUILT / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "images.json").exists():
            for other in BUILT.iterdir():  # Of an earlier state.
                if other.is_dir():
                    shutil.rmtree(other)
            _build(folder)
    lines = json.loads((folder / "images.json").read_text())
    return BuiltImages(
        *(BuiltImage(**{**lines[key], "layout": folder / key}) for key in ("current", "newer"))
    )


def _build(folder: Path) -> None:
    architecture = native_architecture()
    made = trees(architecture, CACHE, created_s=0)
    layers = made.layers()
    version_file = f"{recipe.SITE}/mirror/version.py"
    node = made.ours[version_file]
    assert isinstance(node, File)
    later = node.content.replace(f'"{VERSION}"'.encode(), f'"{NEWER_VERSION}"'.encode())
    assert later != node.content
    # Its byte code would be believed.
    compiled = f"{recipe.SITE}/mirror/__pycache__/version.cpython-311.pyc"
    ours = {path: one for path, one in made.ours.items() if path != compiled} | {version_file: File(later)}
    lines = {}
    for key, version, stack in (
        ("current", VERSION, layers),
        ("newer", NEWER_VERSION, (*layers[:2], layer("peili", ours))),
    ):
        image = platform_image(architecture, stack, Source(version, "", 0))
        name = f"localhost/peili:{version}"
        write_layout(folder / key, [image], name)
        lines[key] = {
            "name": name,
            "unpacked_bytes": image.unpacked_bytes,
            "compressed_bytes": image.compressed_bytes,
        }
    (folder / "images.json").write_text(json.dumps(lines))


def _inputs_hash() -> str:
    seen = hashlib.sha256(LOCK.read_bytes())
    for path in sorted(
        (*(ROOT / "tests" / "image").glob("*.py"), Path(__file__), *CACHE.glob("debian-*/*.json"))
    ):
        seen.update(path.read_bytes())
    for name, node in sorted(own_tree().items()):
        assert isinstance(node, File)
        seen.update(name.encode() + hashlib.sha256(node.content).digest())
    return seen.hexdigest()[:16]
