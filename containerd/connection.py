"""How a call gets to containerd and how its failure comes back: one channel, deadlines, and our own errors.

The channel is made once and outlives containerd: it connects again by itself. This module knows no service,
and it never repeats a call; whether a call may be repeated is the caller's knowledge.
"""

from __future__ import annotations

import asyncio
import os
import re
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Final, Self, TypeVar, cast
from urllib.parse import quote

import grpc
import grpc.aio

from containerd import errors
from containerd.reachability import explain

if TYPE_CHECKING:
    from google.protobuf.message import Message

CALL_DEADLINE_S: Final = 10.0
"""containerd answers in about 1 ms; a write waits for fsync and for a running garbage collection."""

SILENCE_LIMIT_S: Final = 10.0
"""How long a stream of content may send nothing: a read of 1 MiB from a slow disk, with room."""

MESSAGE_LIMIT_BYTES: Final = 16 << 20
"""gRPC's default of 4 MiB is too small for Images.List on a full host; containerd's own limit is 16 MiB."""

FIRST_RECONNECT_MS: Final = 100
"""containerd restarts in 0.1 s or more, so an earlier try only fails."""

LONGEST_RECONNECT_MS: Final = 500
"""gRPC's default doubles up to 120 s (measured: 4.2 s late after 10 s without containerd), and every call
until then fails at once. A try costs one connect() to a local socket."""

SOCKET_PATH_LIMIT_BYTES: Final = 107
"""Linux: sun_path holds 108 bytes with its final NUL."""

_CHANNEL_OPTIONS: Final = (
    ("grpc.max_receive_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.max_send_message_length", MESSAGE_LIMIT_BYTES),
    ("grpc.initial_reconnect_backoff_ms", FIRST_RECONNECT_MS),
    ("grpc.max_reconnect_backoff_ms", LONGEST_RECONNECT_MS),
    # Channels to one path share their state otherwise, and with it the back-off of another client.
    ("grpc.use_local_subchannel_pool", 1),
    # No keepalive: containerd's server ends connections that ping more often than every five minutes.
)

# An ingest that another writer holds is UNAVAILABLE, too, on 1.6, 1.7 and 2.1; only the text tells.
_REF_LOCKED: Final = re.compile(r"\bref \S+ locked for ")

_ERRORS: Final[dict[grpc.StatusCode, type[errors.ContainerdError]]] = {
    grpc.StatusCode.NOT_FOUND: errors.NotFound,
    grpc.StatusCode.ALREADY_EXISTS: errors.AlreadyExists,
    grpc.StatusCode.FAILED_PRECONDITION: errors.FailedPrecondition,
    grpc.StatusCode.INVALID_ARGUMENT: errors.InvalidArgument,
    grpc.StatusCode.OUT_OF_RANGE: errors.OutOfRange,
    grpc.StatusCode.UNIMPLEMENTED: errors.Unimplemented,
}

RequestT = TypeVar("RequestT", bound="Message")
ResponseT = TypeVar("ResponseT", bound="Message")
Metadata = tuple[tuple[str, str], ...]


def namespace_metadata(namespace: str, lease_id: str = "") -> Metadata:
    """`lease_id` puts what the call creates under that lease; "" for none."""
    metadata: Metadata = (("containerd-namespace", namespace),)
    return (*metadata, ("containerd-lease", lease_id)) if lease_id else metadata


class Connection:
    """A channel to one containerd, for one event loop. Entering it, before any call, does not connect yet."""

    def __init__(self, socket_path: Path) -> None:
        self.socket_path = socket_path
        self._channel: grpc.aio.Channel | None = None

    @property
    def channel(self) -> grpc.aio.Channel:
        assert self._channel is not None, "enter the connection first"
        return self._channel

    async def __aenter__(self) -> Self:
        """Raises: InvalidArgument for a path that no socket can have."""
        path = self.socket_path.absolute()
        if (length := len(os.fsencode(path))) > SOCKET_PATH_LIMIT_BYTES:
            raise errors.InvalidArgument(
                f"containerd socket {path}: {length} bytes, but a socket's path has at most "
                f"{SOCKET_PATH_LIMIT_BYTES}; name a shorter path"
            )
        # The target is a URI: a % or # in the path would mean something else.
        self._channel = grpc.aio.insecure_channel(f"unix:{quote(str(path))}", options=_CHANNEL_OPTIONS)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        channel, self._channel = self.channel, None
        await channel.close()

    async def unary(
        self,
        method: grpc.aio.UnaryUnaryMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        about: str,
        metadata: Metadata = (),
        deadline_s: float = CALL_DEADLINE_S,
    ) -> ResponseT:
        """`about` names the call and its subject in error messages. Raises: ContainerdError."""
        with self.translated(about):
            return await method(request, timeout=deadline_s, metadata=metadata)

    async def stream(
        self,
        method: grpc.aio.UnaryStreamMultiCallable[RequestT, ResponseT],
        request: RequestT,
        *,
        about: str,
        metadata: Metadata = (),
        silence_limit_s: float = SILENCE_LIMIT_S,
    ) -> AsyncGenerator[ResponseT, None]:
        """The messages of the answer; the limit is for each, not for the whole. Raises: ContainerdError."""
        call = method(request, metadata=metadata)
        try:
            while True:
                with self.translated(about):
                    async with asyncio.timeout(silence_limit_s):
                        message = await call.read()
                if message is grpc.aio.EOF:
                    return
                # The stubs have no name for the type of EOF, so the line above narrows nothing.
                yield cast("ResponseT", message)
        finally:
            call.cancel()

    @contextmanager
    def translated(self, about: str) -> Iterator[None]:
        """Turns gRPC's errors, and a TimeoutError, of the body into ContainerdError."""
        try:
            yield
        except TimeoutError as error:
            raise self._translation(grpc.StatusCode.DEADLINE_EXCEEDED, "", about) from error
        except grpc.aio.AioRpcError as error:
            raise self._translation(error.code(), error.details() or "", about) from error

    def _translation(self, code: grpc.StatusCode, details: str, about: str) -> errors.ContainerdError:
        if code is grpc.StatusCode.UNAVAILABLE:
            if _REF_LOCKED.search(details):
                return errors.RefLocked(f"containerd {about}: {details}")
            return explain(self.socket_path, details)
        if code is grpc.StatusCode.DEADLINE_EXCEEDED:
            return errors.DeadlineExceeded(
                f"containerd at {self.socket_path}: {about}: no answer in time; it is overloaded or stuck"
            )
        if code in _ERRORS:
            return _ERRORS[code](f"containerd {about}: {details}")
        return errors.CallFailed(f"containerd {about}: {code.name}: {details}")
