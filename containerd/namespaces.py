"""Which namespaces this containerd has."""

from containerd.api.services.namespaces.v1 import namespace_pb2, namespace_pb2_grpc
from containerd.connection import Connection


async def namespace_names(connection: Connection) -> tuple[str, ...]:
    """Sorted. A namespace comes into being with its first image, blob or lease."""
    stub = namespace_pb2_grpc.NamespacesStub(connection.channel)
    answer = await connection.unary(stub.List, namespace_pb2.ListNamespacesRequest(), about="Namespaces.List")
    return tuple(sorted(namespace.name for namespace in answer.namespaces))
