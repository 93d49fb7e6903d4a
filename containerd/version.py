"""Which containerd answers, and in which release."""

import re

from google.protobuf import empty_pb2

from containerd import errors
from containerd.api.services.version.v1 import version_pb2_grpc
from containerd.connection import Connection
from containerd.reachability import not_containerd
from containerd.types import ServerVersion

_RELEASE = re.compile(r"v?(\d+)\.(\d+)(?:\D|$)")


async def server_version(connection: Connection) -> ServerVersion:
    """The cheapest call there is, so also the probe for "does it answer".

    Raises: Unavailable, as NotContainerd when a gRPC server without this service answers.
    """
    stub = version_pb2_grpc.VersionStub(connection.channel)
    try:
        answer = await connection.unary(stub.Version, empty_pb2.Empty(), about="Version")
    except errors.Unimplemented as error:
        raise not_containerd(connection.socket_path, "another gRPC server answers there") from error
    return ServerVersion(answer.version, answer.revision, parse_release(answer.version))


def parse_release(text: str) -> tuple[int, int]:
    """Major and minor of "1.7.24~ds1", "v2.1.9" or "2.2.0-rc.1"; (0, 0) for a build that names no release."""
    match = _RELEASE.match(text)
    return (int(match[1]), int(match[2])) if match else (0, 0)
