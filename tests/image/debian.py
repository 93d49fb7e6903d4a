"""The base of the image: Debian packages, fetched once for each architecture and turned into a tree.

apt checks each package against the signed index of the machine's own mirror (`tests.support.apt`); what is kept is
checked again, by its hash, at each use. No maintainer script runs: what they would do is done here.
"""

from __future__ import annotations

import hashlib
import io
import json
import re
import shutil
import subprocess
import tarfile
import tempfile
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Final

from tests.image import recipe
from tests.image.tree import File, Folder, ImageError, Link, Tree
from tests.support.apt import Apt
from tests.support.apt_sources import security_mirrors
from tests.support.debs import ETC_APT

# Debian of 2023 and later has these as links; packages of the suite name both ways.
_MERGED: Final = ("bin", "lib", "lib64", "sbin")


@dataclass(frozen=True, slots=True)
class Deb:
    """`control`: its fields as dpkg prints them."""

    path: Path
    package: str
    version: str
    sha256: str
    control: str

    def field(self, name: str) -> str:
        found = re.search(rf"^{name}: (.*)$", self.control, re.MULTILINE)
        return found[1] if found else ""


def debs(architecture: str, cache: Path, *, ask_mirror: bool) -> list[Deb]:
    """In the order of the recipe. ask_mirror: take what the mirror has now, though older ones are kept. Raises:
    FetchError, ImageError."""
    listed = _listed(architecture, cache)
    if ask_mirror or not are_kept(architecture, cache):
        _fetch(architecture, listed.parent)
    return [_kept(listed.parent, line) for line in json.loads(listed.read_text())["debs"]]


def are_kept(architecture: str, cache: Path) -> bool:
    """Whether all that the recipe asks for is there."""
    listed = _listed(architecture, cache)
    if not listed.exists():
        return False
    lines = json.loads(listed.read_text())["debs"]
    return [line["package"] for line in lines] == sorted(recipe.DEBIAN_PACKAGES) and all(
        (listed.parent / line["path"]).exists() for line in lines
    )


def has_security_updates(architecture: str, cache: Path) -> bool:
    """Of what is kept."""
    return bool(json.loads(_listed(architecture, cache).read_text())["has_security_updates"])


def base_tree(packages: list[Deb], architecture: str) -> Tree:
    """Raises: ImageError."""
    tree: Tree = {
        **{name: Link(f"usr/{name}") for name in _MERGED if name != "lib64" or architecture == "amd64"},
        **{name: Folder() for name in ("dev", "etc", "proc", "run", "sys", "usr/sbin")},
        "root": Folder(0o700),
        "tmp": Folder(0o1777),
        recipe.DATA_DIR: Folder(0o700),
        "etc/passwd": File(
            b"root:x:0:0:root:/root:/nonexistent\nnobody:x:65534:65534:nobody:/nonexistent:/nonexistent\n"
        ),
        "etc/group": File(b"root:x:0:\nnogroup:x:65534:\n"),
        "etc/nsswitch.conf": File(b"passwd: files\ngroup: files\nhosts: files dns\n"),
        # Where OpenSSL looks by default; SSL_CERT_FILE names another.
        "usr/lib/ssl/cert.pem": Link(f"/{recipe.CERTIFICATES}"),
        "usr/lib/ssl/certs": Link("/etc/ssl/certs"),
        "usr/bin/python3": Link(recipe.PYTHON),
    }
    certificates: dict[str, bytes] = {}
    for deb in packages:
        for path, node in _files(deb).items():
            if path.startswith("usr/share/ca-certificates/") and isinstance(node, File):
                certificates[path] = node.content
            elif not recipe.is_unused_of_debian(path):
                tree[path] = node
        # As image scanners look for it where there is no dpkg.
        tree[f"var/lib/dpkg/status.d/{deb.package}"] = File(deb.control.encode())
    if not certificates:
        raise ImageError(
            "ca-certificates holds no certificates where they used to be: mend tests/image/debian.py."
        )
    tree[recipe.CERTIFICATES] = File(
        b"".join(text.rstrip() + b"\n" for _, text in sorted(certificates.items()))
    )
    return tree


def _files(deb: Deb) -> Tree:
    tree: Tree = {}
    packed = subprocess.run(["dpkg-deb", "--fsys-tarfile", deb.path], check=True, capture_output=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as tar:
        for entry in tar:
            path = _merged(entry.name.removeprefix("./").rstrip("/"))
            if entry.issym():
                tree[path] = Link(entry.linkname)
            elif entry.isfile() or entry.islnk():
                content = tar.extractfile(entry)
                assert content is not None
                tree[path] = File(content.read(), bool(entry.mode & 0o100))
    return tree


def _merged(path: str) -> str:
    return f"usr/{path}" if path.split("/")[0] in _MERGED else path


def _fetch(architecture: str, folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".fetching-") as scratch:
        apt = Apt.for_suite(
            recipe.SUITE, Path(scratch), ETC_APT, architecture=architecture, with_security=True
        )
        fetched = [_described(path) for path in apt.download_all(recipe.DEBIAN_PACKAGES)]
        lacking = set(recipe.DEBIAN_PACKAGES) - {deb.package for deb in fetched}
        if lacking:
            raise ImageError(f"apt fetched no {', '.join(sorted(lacking))} for {architecture}.")
        for deb in fetched:
            shutil.move(deb.path, folder / deb.path.name)
    fetched.sort(key=lambda deb: deb.package)
    lines = [asdict(deb) | {"path": deb.path.name} for deb in fetched]
    document = {"has_security_updates": bool(security_mirrors(ETC_APT)), "debs": lines}
    draft = folder / "packages.json.new"
    draft.write_text(json.dumps(document, indent=2) + "\n")
    draft.replace(folder / "packages.json")
    wanted = {deb.path.name for deb in fetched}
    for path in folder.glob("*.deb"):
        if path.name not in wanted:
            path.unlink()


def _listed(architecture: str, cache: Path) -> Path:
    return cache / f"debian-{recipe.SUITE}-{architecture}" / "packages.json"


def _kept(folder: Path, line: dict[str, str]) -> Deb:
    deb = Deb(**{**line, "path": folder / line["path"]})  # type: ignore[arg-type]
    if hashlib.sha256(deb.path.read_bytes()).hexdigest() != deb.sha256:
        raise ImageError(f"{deb.path} is not what was fetched: delete its folder and build again.")
    return deb


def _described(path: Path) -> Deb:
    control = subprocess.run(["dpkg-deb", "-f", path], check=True, capture_output=True, text=True).stdout
    sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
    deb = Deb(path, "", "", sha256, control)
    return Deb(path, deb.field("Package"), deb.field("Version"), sha256, control)
