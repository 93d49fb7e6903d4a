"""Where containerd keeps its blobs, asked from containerd itself."""

from pathlib import Path

from containerd import errors
from containerd.api.services.introspection.v1 import introspection_pb2, introspection_pb2_grpc
from containerd.connection import Connection
from containerd.filters import all_of, equals


async def content_root(connection: Connection) -> Path:
    """The folder that holds blobs/ and ingest/, as containerd sees it; it may be mounted elsewhere here.

    Raises: NotFound when containerd's content store is not the local one.
    """
    stub = introspection_pb2_grpc.IntrospectionStub(connection.channel)
    wanted = all_of(equals("type", value="io.containerd.content.v1"), equals("id", value="content"))
    answer = await connection.unary(
        stub.Plugins, introspection_pb2.PluginsRequest(filters=[wanted]), about="Introspection.Plugins"
    )
    for plugin in answer.plugins:
        if root := plugin.exports.get("root"):
            return Path(root)
    raise errors.NotFound("containerd names no content root: its content store is not the built-in one")
