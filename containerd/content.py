"""Blobs and ingests of one namespace: look, read, write, delete.

Bytes are never checked here: containerd checks a digest when it commits, and a reader who distrusts the disk
must hash for himself. Where blob files can be read, reading them is ten times cheaper than `read` (measured).
"""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing, asynccontextmanager
from datetime import UTC

from google.protobuf.field_mask_pb2 import FieldMask

from containerd.api.services.content.v1 import content_pb2, content_pb2_grpc
from containerd.connection import Connection, namespace_metadata
from containerd.types import ContentInfo, IngestStatus
from containerd.writing import Writer


class Content:
    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._stub = content_pb2_grpc.ContentStub(connection.channel)
        self._namespace = namespace
        self._metadata = namespace_metadata(namespace)
        self._where = f"in namespace {namespace}"

    async def info(self, digest: str) -> ContentInfo:
        """Raises: NotFound."""
        answer = await self._connection.unary(
            self._stub.Info,
            content_pb2.InfoRequest(digest=digest),
            about=f"Content.Info {digest} {self._where}",
            metadata=self._metadata,
        )
        return _info(answer.info)

    async def set_labels(self, digest: str, labels: Mapping[str, str]) -> None:
        """Adds these to the blob's labels, and replaces those of the same keys; others stay. Raises: NotFound."""
        await self._connection.unary(
            self._stub.Update,
            content_pb2.UpdateRequest(
                info=content_pb2.Info(digest=digest, labels=labels),
                update_mask=FieldMask(paths=[f"labels.{key}" for key in labels]),
            ),
            about=f"Content.Update {digest} {self._where}",
            metadata=self._metadata,
        )

    async def list(self, *filters: str) -> AsyncGenerator[ContentInfo, None]:
        """Blobs that match any filter (`containerd.filters`), all without one; by digest."""
        messages = self._connection.stream(
            self._stub.List,
            content_pb2.ListContentRequest(filters=filters),
            about=f"Content.List {self._where}",
            metadata=self._metadata,
        )
        async with aclosing(messages):
            async for message in messages:
                for info in message.info:
                    yield _info(info)

    async def read(
        self, digest: str, *, offset_bytes: int = 0, size_bytes: int | None = None
    ) -> AsyncGenerator[bytes, None]:
        """Chunks of up to 1 MiB, to the end without `size_bytes`; fewer bytes where the blob ends first.

        Raises: NotFound; OutOfRange when `offset_bytes` is behind the end (at the end, nothing is read).
        """
        if offset_bytes < 0 or (size_bytes is not None and size_bytes < 0):
            # containerd takes a negative number for 0, which is not what such a caller meant.
            raise ValueError(f"negative range: offset {offset_bytes}, size {size_bytes}")
        if size_bytes == 0:
            return
        messages = self._connection.stream(
            self._stub.Read,
            content_pb2.ReadContentRequest(digest=digest, offset=offset_bytes, size=size_bytes or 0),
            about=f"Content.Read {digest} {self._where}",
            metadata=self._metadata,
        )
        async with aclosing(messages):
            async for message in messages:
                yield message.data

    async def delete(self, digest: str) -> None:
        """Takes the blob out of this namespace at once, and announces it. Raises: NotFound."""
        await self._connection.unary(
            self._stub.Delete,
            content_pb2.DeleteContentRequest(digest=digest),
            about=f"Content.Delete {digest} {self._where}",
            metadata=self._metadata,
        )

    async def list_statuses(self, *filters: str) -> tuple[IngestStatus, ...]:
        """Ingests under way or left behind."""
        answer = await self._connection.unary(
            self._stub.ListStatuses,
            content_pb2.ListStatusesRequest(filters=filters),
            about=f"Content.ListStatuses {self._where}",
            metadata=self._metadata,
        )
        return tuple(
            IngestStatus(
                ref=status.ref,
                offset_bytes=status.offset,
                total_bytes=status.total,
                started_at=status.started_at.ToDatetime(UTC),
                updated_at=status.updated_at.ToDatetime(UTC),
            )
            for status in answer.statuses
        )

    async def abort(self, ref: str) -> None:
        """Throws an ingest away. Raises: NotFound."""
        await self._connection.unary(
            self._stub.Abort,
            content_pb2.AbortRequest(ref=ref),
            about=f"Content.Abort {ref} {self._where}",
            metadata=self._metadata,
        )

    @asynccontextmanager
    async def writer(
        self, ref: str, *, digest: str, size_bytes: int, lease_id: str = ""
    ) -> AsyncIterator[Writer]:
        """Opens the ingest `ref`, or resumes it at `Writer.offset_bytes`. Without a commit it stays.

        A blob that hangs on no lease, no image and no gc.root label may be collected at any time.
        Raises: AlreadyExists when the blob is in the store; RefLocked when somebody else writes this ingest.
        """
        call = self._stub.Write(metadata=namespace_metadata(self._namespace, lease_id))
        writer = Writer(self._connection, call, f"Content.Write {ref} {self._where}")
        try:
            await writer.open(ref, digest, size_bytes)
            yield writer
        finally:
            try:
                await writer.close()
            finally:
                call.cancel()


def _info(info: content_pb2.Info) -> ContentInfo:
    return ContentInfo(
        digest=info.digest,
        size_bytes=info.size,
        created_at=info.created_at.ToDatetime(UTC),
        labels=dict(info.labels),
    )
