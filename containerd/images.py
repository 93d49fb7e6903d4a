"""Image names and their targets, in one namespace."""

from collections.abc import Mapping
from datetime import UTC

from google.protobuf.field_mask_pb2 import FieldMask

from containerd.api.services.images.v1 import images_pb2, images_pb2_grpc
from containerd.api.types import descriptor_pb2
from containerd.connection import CALL_DEADLINE_S, Connection, namespace_metadata
from containerd.leases import SYNC_DEADLINE_S
from containerd.types import Descriptor, Image


class Images:
    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._stub = images_pb2_grpc.ImagesStub(connection.channel)
        self._metadata = namespace_metadata(namespace)
        self._where = f"in namespace {namespace}"

    async def get(self, name: str) -> Image:
        """Raises: NotFound."""
        answer = await self._connection.unary(
            self._stub.Get,
            images_pb2.GetImageRequest(name=name),
            about=f"Images.Get {name} {self._where}",
            metadata=self._metadata,
        )
        return _image(answer.image)

    async def list(self, *filters: str) -> tuple[Image, ...]:
        """Images that match any filter (`containerd.filters`); all without one."""
        answer = await self._connection.unary(
            self._stub.List,
            images_pb2.ListImagesRequest(filters=filters),
            about=f"Images.List {self._where}",
            metadata=self._metadata,
        )
        return tuple(_image(image) for image in answer.images)

    async def create(self, name: str, target: Descriptor, labels: dict[str, str] | None = None) -> Image:
        """Raises: AlreadyExists. The target need not be there."""
        answer = await self._connection.unary(
            self._stub.Create,
            images_pb2.CreateImageRequest(
                image=images_pb2.Image(name=name, target=_descriptor(target), labels=labels or {})
            ),
            about=f"Images.Create {name} {self._where}",
            metadata=self._metadata,
        )
        return _image(answer.image)

    async def update(self, name: str, target: Descriptor, labels: Mapping[str, str]) -> Image:
        """The name points to this target from now on; its other labels stay. Raises: NotFound."""
        answer = await self._connection.unary(
            self._stub.Update,
            images_pb2.UpdateImageRequest(
                image=images_pb2.Image(name=name, target=_descriptor(target), labels=labels),
                update_mask=FieldMask(paths=["target", *(f"labels.{key}" for key in labels)]),
            ),
            about=f"Images.Update {name} {self._where}",
            metadata=self._metadata,
        )
        return _image(answer.image)

    async def delete(self, name: str, *, sync: bool = False) -> None:
        """With `sync`, returns when the garbage collection is done. Raises: NotFound."""
        await self._connection.unary(
            self._stub.Delete,
            images_pb2.DeleteImageRequest(name=name, sync=sync),
            about=f"Images.Delete {name} {self._where}",
            metadata=self._metadata,
            deadline_s=SYNC_DEADLINE_S if sync else CALL_DEADLINE_S,
        )


def _descriptor(target: Descriptor) -> descriptor_pb2.Descriptor:
    return descriptor_pb2.Descriptor(
        media_type=target.media_type,
        digest=target.digest,
        size=target.size_bytes,
        annotations=target.annotations,
    )


def _image(image: images_pb2.Image) -> Image:
    return Image(
        name=image.name,
        target=Descriptor(
            media_type=image.target.media_type,
            digest=image.target.digest,
            size_bytes=image.target.size,
            annotations=dict(image.target.annotations),
        ),
        labels=dict(image.labels),
        created_at=image.created_at.ToDatetime(UTC),
        updated_at=image.updated_at.ToDatetime(UTC),
    )
