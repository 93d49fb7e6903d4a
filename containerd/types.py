"""What containerd answers, as plain frozen values. No protobuf gets past this package.

Digests are text here, exactly as containerd writes them; parsing them is the caller's business.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class ServerVersion:
    """`text` is containerd's own, such as "1.7.24~ds1"; `release` is its major and minor number."""

    text: str
    revision: str
    release: tuple[int, int]


@dataclass(frozen=True, slots=True)
class ContentInfo:
    """A committed blob as one namespace sees it: the labels are the namespace's, the bytes are shared.

    The label "containerd.io/distribution.source.<host>" holds the repositories that pulls took the blob from,
    joined by commas; the host comes without its port (seen on 1.6, 1.7 and 2.1).
    """

    digest: str
    size_bytes: int
    created_at: datetime
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class IngestStatus:
    """A blob being written. CRI's refs are "layer-<digest>", "config-…", "manifest-…" and "index-…".

    `total_bytes` is 0 until the writer has said the size.
    """

    ref: str
    offset_bytes: int
    total_bytes: int
    started_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Descriptor:
    media_type: str
    digest: str
    size_bytes: int
    annotations: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Image:
    """A name and its target. CRI makes three for a pull: by tag, by digest, and "sha256:<config>"."""

    name: str
    target: Descriptor
    labels: Mapping[str, str]
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True)
class Lease:
    id: str
    created_at: datetime
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class ImageCreated:
    """Comes after the whole image is unpacked, on every version."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class ImageUpdated:
    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class ImageDeleted:
    """Also says that content may be about to go: garbage collection announces none of what it removes."""

    namespace: str
    name: str


@dataclass(frozen=True, slots=True)
class ContentCreated:
    """A blob was committed. Only from containerd 2.1 on."""

    namespace: str
    digest: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class ContentDeleted:
    """A blob was deleted by name. Garbage collection never sends this."""

    namespace: str
    digest: str


@dataclass(frozen=True, slots=True)
class OtherEvent:
    """An event that this package has no type for, or whose payload it could not read."""

    namespace: str
    topic: str


Event = ImageCreated | ImageUpdated | ImageDeleted | ContentCreated | ContentDeleted | OtherEvent


@dataclass(frozen=True, slots=True)
class CriVersion:
    runtime_name: str
    runtime_version: str


@dataclass(frozen=True, slots=True)
class CriImage:
    """An image as CRI groups names: `id` is the digest of the config."""

    id: str
    tags: tuple[str, ...]
    digests: tuple[str, ...]
    size_bytes: int
