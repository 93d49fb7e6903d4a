"""Why does this socket not answer? Looks at the path and tries to connect, and gives the reason as an error.

It is asked only after a call has failed, never before one: a path that is good now may be gone at the call.
"""

import errno
import socket
import stat
from pathlib import Path

from containerd.errors import NotContainerd, SocketForbidden, SocketMissing, SocketRefused, Unavailable


def explain(socket_path: Path, grpc_details: str) -> Unavailable:
    """The error for a call that gRPC gave up; `grpc_details` is used where the socket itself looks well."""
    try:
        is_socket = stat.S_ISSOCK(socket_path.stat().st_mode)
        if is_socket:
            _connect(socket_path)
    except PermissionError:
        return SocketForbidden(
            f"containerd socket {socket_path}: permission denied; "
            "run as root, or as a user that may read and write the socket and enter its folders"
        )
    except (FileNotFoundError, NotADirectoryError):
        return SocketMissing(
            f"containerd socket {socket_path}: not there; start containerd, or name the path of its socket"
        )
    except ConnectionRefusedError:
        return SocketRefused(
            f"containerd socket {socket_path}: nobody listens; containerd has stopped, start it again"
        )
    except OSError as error:
        if error.errno == errno.EPROTOTYPE:
            return not_containerd(socket_path, "it is a datagram socket")
        return Unavailable(f"containerd socket {socket_path}: {error.strerror or error}")
    if not is_socket:
        return not_containerd(socket_path, "it is not a socket")
    if "Failed parsing HTTP/2" in grpc_details:
        return not_containerd(socket_path, "another protocol answers there")
    return Unavailable(f"containerd at {socket_path} does not answer: {grpc_details}")


def not_containerd(socket_path: Path, reason: str) -> NotContainerd:
    return NotContainerd(f"{socket_path} is not containerd: {reason}; name the path of containerd's socket")


def _connect(socket_path: Path) -> None:
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A listener whose queue is full would block; that it is full is proof enough that somebody listens.
        probe.setblocking(False)
        try:
            probe.connect(str(socket_path))
        except BlockingIOError:
            return
