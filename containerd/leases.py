"""Leases of containerd's garbage collector: what hangs on one stays until it expires or is deleted."""

from datetime import UTC, datetime, timedelta
from typing import Final, Literal

from containerd.api.services.leases.v1 import leases_pb2, leases_pb2_grpc
from containerd.connection import CALL_DEADLINE_S, Connection, namespace_metadata
from containerd.types import Lease

EXPIRE_LABEL: Final = "containerd.io/gc.expire"
"""RFC 3339. containerd deletes the lease, and what only it held, at the first collection after this."""

SYNC_DEADLINE_S: Final = 60.0
"""A call with `sync` waits for a whole garbage collection, which unlinks files: seconds on a slow disk."""


class Leases:
    def __init__(self, connection: Connection, namespace: str) -> None:
        self._connection = connection
        self._stub = leases_pb2_grpc.LeasesStub(connection.channel)
        self._metadata = namespace_metadata(namespace)
        self._where = f"in namespace {namespace}"

    async def create(self, lease_id: str, *, ttl_s: float, labels: dict[str, str] | None = None) -> Lease:
        """`ttl_s` counts from now on the wall clock, as containerd reads it. Raises: AlreadyExists."""
        expires_at = datetime.now(UTC) + timedelta(seconds=ttl_s)
        answer = await self._connection.unary(
            self._stub.Create,
            leases_pb2.CreateRequest(
                id=lease_id, labels={**(labels or {}), EXPIRE_LABEL: expires_at.isoformat(timespec="seconds")}
            ),
            about=f"Leases.Create {lease_id} {self._where}",
            metadata=self._metadata,
        )
        return _lease(answer.lease)

    async def list(self, *filters: str) -> tuple[Lease, ...]:
        answer = await self._connection.unary(
            self._stub.List,
            leases_pb2.ListRequest(filters=filters),
            about=f"Leases.List {self._where}",
            metadata=self._metadata,
        )
        return tuple(_lease(lease) for lease in answer.leases)

    async def delete(self, lease_id: str, *, sync: bool = False) -> None:
        """With `sync`, returns when the garbage collection is done. Raises: NotFound."""
        await self._connection.unary(
            self._stub.Delete,
            leases_pb2.DeleteRequest(id=lease_id, sync=sync),
            about=f"Leases.Delete {lease_id} {self._where}",
            metadata=self._metadata,
            deadline_s=SYNC_DEADLINE_S if sync else CALL_DEADLINE_S,
        )

    async def add_resource(
        self, lease_id: str, resource_id: str, kind: Literal["content", "ingests"] = "content"
    ) -> None:
        """`resource_id` is a digest, or the ref of an ingest. Raises: NotFound for the lease."""
        await self._connection.unary(
            self._stub.AddResource,
            leases_pb2.AddResourceRequest(
                id=lease_id, resource=leases_pb2.Resource(id=resource_id, type=kind)
            ),
            about=f"Leases.AddResource {resource_id} to {lease_id} {self._where}",
            metadata=self._metadata,
        )


def _lease(lease: leases_pb2.Lease) -> Lease:
    return Lease(lease.id, lease.created_at.ToDatetime(UTC), dict(lease.labels))
