"""What the fake containerd remembers: blobs and ingests in a folder laid out as containerd's, the rest here.

Rules, each seen on 1.6, 1.7 and 2.1 unless a version is named
1. Bytes are shared by all namespaces; labels, names and leases belong to one.
2. A namespace exists from its first image, blob or lease on.
3. A commit announces /content/create from 2.1 on, and nothing before.
4. Delete takes a blob out of its namespace at once and announces it; its file goes at the next collection.
5. A collection announces nothing about content.
"""

from __future__ import annotations

import asyncio
import hashlib
import re
import shutil
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

import grpc
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from google.protobuf.timestamp_pb2 import Timestamp

from containerd.api.events import content_pb2 as content_events
from containerd.api.events import image_pb2 as image_events
from containerd.api.services.content.v1 import content_pb2
from containerd.api.services.events.v1 import events_pb2
from containerd.api.services.images.v1 import images_pb2
from containerd.api.services.leases.v1 import leases_pb2
from tests.support import containerd_filters, oci_image

CRI_NAMESPACE: Final = "k8s.io"
EXPIRE: Final = "containerd.io/gc.expire"
ROOT: Final = "containerd.io/gc.root"
REFERS: Final = "containerd.io/gc.ref.content"
MANAGED: Final = {"io.cri-containerd.image": "managed"}
DIGEST: Final = re.compile(r"sha256:[0-9a-f]{64}")


class Refused(Exception):
    """A call that containerd would refuse."""

    def __init__(self, code: grpc.StatusCode, details: str) -> None:
        super().__init__(details)
        self.code = code
        self.details = details


@dataclass(slots=True)
class Lease:
    message: leases_pb2.Lease
    digests: set[str] = field(default_factory=set)


@dataclass(slots=True)
class Namespace:
    content: dict[str, content_pb2.Info] = field(default_factory=dict)
    images: dict[str, images_pb2.Image] = field(default_factory=dict)
    leases: dict[str, Lease] = field(default_factory=dict)


@dataclass(slots=True)
class Ingest:
    status: content_pb2.Status
    folder: Path
    locked: bool = False

    @property
    def data(self) -> Path:
        return self.folder / "data"


@dataclass(eq=False, slots=True)
class Subscriber:
    accepts: Callable[[containerd_filters.Lookup], bool]
    queue: asyncio.Queue[events_pb2.Envelope] = field(default_factory=asyncio.Queue)


class State:
    """`remote` is what a pull through CRI finds, by reference; `cri_config` is what its Status tells."""

    def __init__(self, content_root: Path, version_text: str) -> None:
        major, minor = version_text.split(".")[:2]
        self.content_root = content_root
        self.version_text = version_text
        self.release = (int(major), int(minor))
        self.remote: dict[str, oci_image.Image] = {}
        self.cri_config: dict[str, object] = {}
        self.namespaces: defaultdict[str, Namespace] = defaultdict(Namespace)
        self.ingests: dict[tuple[str, str], Ingest] = {}
        self.subscribers: set[Subscriber] = set()
        for folder in ("blobs/sha256", "ingest"):
            (content_root / folder).mkdir(parents=True)

    def blob_path(self, digest: str) -> Path:
        if not DIGEST.fullmatch(digest):
            raise Refused(grpc.StatusCode.INVALID_ARGUMENT, f'"{digest}" failed validation')
        return self.content_root / "blobs" / digest.replace(":", "/")

    def info(self, namespace: str, digest: str) -> content_pb2.Info:
        self.blob_path(digest)
        if (info := self.namespaces[namespace].content.get(digest)) is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"content digest {digest}: not found")
        return info

    def open_ingest(self, namespace: str, ref: str, total: int, expected: str) -> Ingest:
        if expected in self.namespaces[namespace].content:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, f"content {expected}: already exists")
        if (ingest := self.ingests.get((namespace, ref))) is None:
            key = f"{namespace}/1/{ref}"
            folder = self.content_root / "ingest" / hashlib.sha256(key.encode()).hexdigest()
            folder.mkdir()
            status = content_pb2.Status(started_at=now(), updated_at=now(), ref=ref, total=total)
            ingest = self.ingests[namespace, ref] = Ingest(status, folder)
            ingest.data.touch()
            (folder / "ref").write_text(key)
            for name in ("startedat", "updatedat"):
                (folder / name).write_text(datetime.now(UTC).isoformat())
            if total:
                (folder / "total").write_text(str(total))
        if ingest.locked:
            details = f"ref {namespace}/1/{ref} locked for 1ms (since now): unavailable"
            raise Refused(grpc.StatusCode.UNAVAILABLE, details)
        ingest.locked = True
        if expected and self.blob_path(expected).exists():
            # Another namespace has the bytes: the writer stands at the end at once (sharing policy "shared").
            shutil.copy(self.blob_path(expected), ingest.data)
            ingest.data.chmod(0o644)
        ingest.status.offset = ingest.data.stat().st_size
        return ingest

    def append(self, ingest: Ingest, offset: int, data: bytes) -> None:
        if offset != ingest.status.offset:
            raise Refused(
                grpc.StatusCode.OUT_OF_RANGE,
                f"write @{offset} must occur at current offset {ingest.status.offset}: out of range",
            )
        with ingest.data.open("ab") as file:
            file.write(data)
        ingest.status.offset += len(data)
        ingest.status.updated_at.CopyFrom(now())

    def commit(
        self, namespace: str, ref: str, total: int, expected: str, labels: dict[str, str], lease_id: str
    ) -> str:
        ingest = self.ingests[namespace, ref]
        data = ingest.data.read_bytes()
        digest = oci_image.digest_of(data)
        if total and total != len(data):
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f'"{ref}" failed size validation: {len(data)} != {total}: failed precondition',
            )
        if expected and expected != digest:
            raise Refused(
                grpc.StatusCode.FAILED_PRECONDITION,
                f"unexpected commit digest {digest}, expected {expected}: failed precondition",
            )
        self.abort(namespace, ref)
        self.add_blob(namespace, data, labels)
        if lease_id:
            self.lease(namespace, lease_id).digests.add(digest)
        return digest

    def abort(self, namespace: str, ref: str) -> None:
        if (ingest := self.ingests.pop((namespace, ref), None)) is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f"reference {ref}: not found")
        shutil.rmtree(ingest.folder)

    def add_blob(self, namespace: str, data: bytes, labels: dict[str, str]) -> None:
        digest = oci_image.digest_of(data)
        if digest in self.namespaces[namespace].content:
            return
        path = self.blob_path(digest)
        if not path.exists():
            path.write_bytes(data)
            path.chmod(0o444)
        self.namespaces[namespace].content[digest] = content_pb2.Info(
            digest=digest, size=len(data), created_at=now(), labels=labels
        )
        if self.release >= (2, 1):
            self.publish(
                namespace, "/content/create", content_events.ContentCreate(digest=digest, size=len(data))
            )

    def delete_blob(self, namespace: str, digest: str) -> None:
        self.info(namespace, digest)
        del self.namespaces[namespace].content[digest]
        self.publish(namespace, "/content/delete", content_events.ContentDelete(digest=digest))

    def add_image(self, namespace: str, image: images_pb2.Image) -> images_pb2.Image:
        images = self.namespaces[namespace].images
        if image.name in images:
            raise Refused(grpc.StatusCode.ALREADY_EXISTS, f'image "{image.name}": already exists')
        images[image.name] = stored = images_pb2.Image()
        stored.CopyFrom(image)
        stored.created_at.CopyFrom(now())
        stored.updated_at.CopyFrom(now())
        self.publish(namespace, "/images/create", image_events.ImageCreate(name=image.name))
        return stored

    def move_image(self, namespace: str, image: images_pb2.Image) -> None:
        """A name that is there gets another target."""
        stored = self.namespaces[namespace].images[image.name]
        stored.target.CopyFrom(image.target)
        stored.updated_at.CopyFrom(now())
        self.publish(namespace, "/images/update", image_events.ImageUpdate(name=image.name))

    def update_image(self, namespace: str, image: images_pb2.Image, paths: Sequence[str]) -> images_pb2.Image:
        stored = self.namespaces[namespace].images.get(image.name)
        if stored is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f'image "{image.name}": not found')
        set_labels(paths, image.labels, stored.labels)
        if "target" in paths:
            stored.target.CopyFrom(image.target)
        stored.updated_at.CopyFrom(now())
        self.publish(namespace, "/images/update", image_events.ImageUpdate(name=image.name))
        return stored

    def delete_image(self, namespace: str, name: str) -> None:
        if self.namespaces[namespace].images.pop(name, None) is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f'image "{name}": not found')
        self.publish(namespace, "/images/delete", image_events.ImageDelete(name=name))

    def lease(self, namespace: str, lease_id: str) -> Lease:
        if (lease := self.namespaces[namespace].leases.get(lease_id)) is None:
            raise Refused(grpc.StatusCode.NOT_FOUND, f'lease "{lease_id}": not found')
        return lease

    def pull(self, namespace: str, reference: str, image: oci_image.Image) -> None:
        """Leaves what a pull through CRI leaves, and announces it in the same order."""
        registry, _, rest = reference.partition("/")
        repository, _, tag = rest.rpartition(":")
        manifest = image.manifest.digest
        # containerd leaves the port of the registry out.
        source = {f"containerd.io/distribution.source.{registry.partition(':')[0]}": repository}
        refers = {f"{REFERS}.config": image.config.digest}
        refers |= {f"{REFERS}.l.{number}": layer.digest for number, layer in enumerate(image.layers)}
        self.add_blob(namespace, image.manifest.content, source | refers)
        self.add_blob(namespace, image.config.content, source)
        for layer in image.layers:
            self.add_blob(namespace, layer.content, source)
            for step in ("Prepare", "Commit"):
                payload = AnyMessage(type_url=f"containerd.events.Snapshot{step}")
                self.publish_any(namespace, f"/snapshot/{step.lower()}", payload)
        names = (f"{registry}/{repository}:{tag}", image.config.digest, f"{registry}/{repository}@{manifest}")
        for name in names:
            message = images_pb2.Image(name=name, labels=MANAGED)
            message.target.media_type = image.manifest.media_type
            message.target.digest = manifest
            message.target.size = len(image.manifest.content)
            present = self.namespaces[namespace].images.get(name)
            if present is None:
                self.add_image(namespace, message)
            elif present.target.digest != manifest:
                self.move_image(namespace, message)
            if self.release == (1, 6) and name == image.config.digest:
                self.publish(namespace, "/images/update", image_events.ImageUpdate(name=names[0]))

    def collect(self) -> None:
        """Forgets what nothing holds, in every namespace, and then the files that no namespace knows."""
        for namespace in self.namespaces.values():
            for lease_id, lease in list(namespace.leases.items()):
                expires = lease.message.labels.get(EXPIRE)
                if expires is not None and datetime.fromisoformat(expires) <= datetime.now(UTC):
                    del namespace.leases[lease_id]
            kept = set(self._held(namespace))
            for digest in set(namespace.content) - kept:
                del namespace.content[digest]
        known = {digest for namespace in self.namespaces.values() for digest in namespace.content}
        for path in (self.content_root / "blobs/sha256").iterdir():
            if f"sha256:{path.name}" not in known:
                path.unlink()

    def publish(self, namespace: str, topic: str, payload: Message) -> None:
        event = AnyMessage(type_url=payload.DESCRIPTOR.full_name, value=payload.SerializeToString())
        self.publish_any(namespace, topic, event)

    def publish_any(self, namespace: str, topic: str, event: AnyMessage) -> None:
        envelope = events_pb2.Envelope(timestamp=now(), namespace=namespace, topic=topic, event=event)
        lookup = containerd_filters.lookup_in({"namespace": namespace, "topic": topic}, {})
        for subscriber in self.subscribers:
            if subscriber.accepts(lookup):
                subscriber.queue.put_nowait(envelope)

    def namespace_names(self) -> list[str]:
        return [name for name, here in self.namespaces.items() if here.content or here.images or here.leases]

    @staticmethod
    def _held(namespace: Namespace) -> Iterator[str]:
        waiting = [image.target.digest for image in namespace.images.values()]
        waiting += [digest for lease in namespace.leases.values() for digest in lease.digests]
        waiting += [digest for digest, info in namespace.content.items() if ROOT in info.labels]
        seen: set[str] = set()
        while waiting:
            digest = waiting.pop()
            if digest in seen or digest not in namespace.content:
                continue
            seen.add(digest)
            yield digest
            labels = namespace.content[digest].labels
            waiting += [value for key, value in labels.items() if key.startswith(REFERS)]


def set_labels(paths: Sequence[str], given: Mapping[str, str], stored: MutableMapping[str, str]) -> None:
    for path in paths:
        if path.startswith("labels."):
            key = path.removeprefix("labels.")
            stored[key] = given[key]


def now() -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(datetime.now(UTC))
    return stamp
