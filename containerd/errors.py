"""What can go wrong in a call to containerd, as types that a caller can tell apart.

Every message names the call, what it was about, and what to do where something can be done. This module knows
no gRPC: `connection` turns its status codes into these.
"""


class ContainerdError(Exception):
    """A call to containerd failed."""


class Unavailable(ContainerdError):
    """containerd cannot be talked to now. Trying again later may help; the subclasses say what to mend."""


class SocketMissing(Unavailable):
    """Nothing is at the socket's path: containerd is not started yet, or its socket is elsewhere."""


class SocketForbidden(Unavailable):
    """The socket may not be opened by this user: run as root, or give the user access to it."""


class SocketRefused(Unavailable):
    """The socket is there and nobody listens: containerd has stopped or crashed, and a start mends it."""


class NotContainerd(Unavailable):
    """Something answers at the path, but not as containerd does: the path is of another program."""


class DeadlineExceeded(Unavailable):
    """containerd is connected and did not answer in time: it is overloaded, stopped by a signal, or stuck."""


class NotFound(ContainerdError):
    """The thing is not there in that namespace. Normal; nothing to mend."""


class AlreadyExists(ContainerdError):
    """The thing is there already. For content this is as good as success."""


class RefLocked(ContainerdError):
    """Another writer has the ingest open: wait until it commits, or abort it."""


class FailedPrecondition(ContainerdError):
    """containerd refuses in its present state; for a commit: the bytes have another digest or size."""


class InvalidArgument(ContainerdError):
    """containerd does not accept an argument, such as a digest, a filter or a namespace."""


class OutOfRange(ContainerdError):
    """A read starts behind the end of the blob."""


class Unimplemented(ContainerdError):
    """This containerd does not have the service: too old, or the plugin is switched off in its config."""


class CallFailed(ContainerdError):
    """Any other failure; containerd's own words are in the message."""
