"""Which platforms of an image an export takes. Pure.

Without a choice all go that are here as a whole, one at least. Those that were chosen must be here.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from mirror.archive.documents import Platform, Reference
from mirror.archive.errors import ArchiveInvalid, ImageAbsent
from mirror.archive.image_tree import ImageTree, Node
from mirror.oci.digest import Digest

# What builders call the platform of an attestation.
NO_PLATFORM = "unknown"


@dataclass(frozen=True, slots=True)
class Choice:
    """`platform` None: all of them."""

    platform: Platform | None

    def takes(self, platform: Platform) -> bool:
        wanted = self.platform
        if wanted is None:
            return True
        return (wanted.os, wanted.architecture) == (platform.os, platform.architecture) and (
            not wanted.variant or wanted.variant == (platform.variant or _default_variant(platform))
        )


@dataclass(frozen=True, slots=True)
class ManifestToExport:
    reference: Reference
    platform: Platform
    config: Reference
    layers: tuple[Reference, ...]

    @property
    def is_runnable(self) -> bool:
        """Not an attestation."""
        return self.platform.os not in ("", NO_PLATFORM)


@dataclass(frozen=True, slots=True)
class ImageToExport:
    """`absent`: platforms that are not here."""

    name: str
    target: Reference
    manifests: tuple[ManifestToExport, ...]
    blobs: Mapping[Digest, int]
    absent: tuple[str, ...]


def parse_choice(text: str) -> Choice | None:
    """`all`, or OS/ARCH[/VARIANT]; None: it is neither."""
    if text == "all":
        return Choice(None)
    parts = text.split("/")
    if len(parts) not in (2, 3) or not all(part.isascii() and part.isalnum() for part in parts):
        return None
    return Choice(Platform(*parts))


def select(
    name: str,
    tree: ImageTree,
    platforms: Mapping[Digest, Platform],
    here: Mapping[Digest, int],
    choice: Choice | None,
) -> tuple[list[Node], tuple[str, ...]]:
    """The manifests that go, and the platforms that do not since they are not here. `here`: sizes of leaves. Raises:
    ImageAbsent, ArchiveInvalid."""
    lacking: dict[Digest, Digest] = {digest: digest for digest in tree.absent}
    for node in tree.manifests():
        for leaf in node.document.children:
            if leaf.digest in here:
                if here[leaf.digest] != leaf.size_bytes:
                    raise ArchiveInvalid(
                        f"{leaf.digest} has {here[leaf.digest]} bytes, its manifest says {leaf.size_bytes}"
                    )
            elif not leaf.is_foreign:
                lacking.setdefault(node.reference.digest, leaf.digest)
    wanted = [digest for digest, one in platforms.items() if choice is None or choice.takes(one)]
    if not wanted:
        shown = ", ".join(sorted({str(one) for one in platforms.values()})) or "nothing"
        asked = f"for {choice.platform}" if choice is not None and choice.platform else "in it"
        raise ImageAbsent(f"{name} has nothing {asked}: it has {shown}")
    missing = [digest for digest in wanted if digest in lacking]
    if missing and (choice is not None or len(missing) == len(wanted)):
        digest = missing[0]
        raise ImageAbsent(
            f"{name} for {platforms[digest]} is not on this host as a whole: {lacking[digest]} is absent; pull it first"
        )
    selected = [node for node in tree.manifests() if node.reference.digest in set(wanted) - set(missing)]
    return selected, tuple(dict.fromkeys(str(platforms[digest]) for digest in missing))


def _default_variant(platform: Platform) -> str:
    """Source: containerd, `platforms.Normalize`."""
    return {"arm64": "v8", "arm": "v7"}.get(platform.architecture, "")
