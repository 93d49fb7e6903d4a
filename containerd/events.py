"""containerd's events, typed, from a stream that is known to be open.

containerd sends no headers when it accepts a subscription (seen on 1.6, 1.7 and 2.1: none until the first
event), and an event published right after the call was lost in 17 to 24 of 50 tries. So a caller who lists
state and then believes the stream would miss events. `subscribe` therefore publishes a marker until the
stream shows it.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import aclosing, asynccontextmanager
from typing import TYPE_CHECKING, Final

import grpc.aio
from google.protobuf import any_pb2
from google.protobuf.message import DecodeError

from containerd import errors
from containerd.api.events import content_pb2, image_pb2
from containerd.api.services.events.v1 import events_pb2, events_pb2_grpc
from containerd.connection import Connection, namespace_metadata
from containerd.filters import equals
from containerd.types import (
    ContentCreated,
    ContentDeleted,
    Event,
    ImageCreated,
    ImageDeleted,
    ImageUpdated,
    OtherEvent,
)

OPEN_LIMIT_S: Final = 5.0
"""How long a subscription may take to show its marker; seen: one or two rounds of `MARKER_PERIOD_S`."""

MARKER_PERIOD_S: Final = 0.02
"""Pause between two markers: longer than containerd needs to register a subscription."""

MARKER_TOPIC: Final = "/peili/subscribed/"
"""Followed by a random word. No part of containerd, Docker or Kubernetes subscribes to such a topic."""

# Publishing asks for a namespace and does not create it (seen on 1.6, 1.7 and 2.1).
_MARKER_NAMESPACE: Final = "peili"
# Every program that prints events can decode this one.
_MARKER_TYPE: Final = "google.protobuf.Empty"

_PAYLOADS: Final[dict[str, Callable[[str, bytes], Event]]] = {
    "containerd.services.images.v1.ImageCreate": lambda namespace, payload: ImageCreated(
        namespace, image_pb2.ImageCreate.FromString(payload).name
    ),
    "containerd.services.images.v1.ImageUpdate": lambda namespace, payload: ImageUpdated(
        namespace, image_pb2.ImageUpdate.FromString(payload).name
    ),
    "containerd.services.images.v1.ImageDelete": lambda namespace, payload: ImageDeleted(
        namespace, image_pb2.ImageDelete.FromString(payload).name
    ),
    "containerd.events.ContentCreate": lambda namespace, payload: _content_created(namespace, payload),
    "containerd.events.ContentDelete": lambda namespace, payload: ContentDeleted(
        namespace, content_pb2.ContentDelete.FromString(payload).digest
    ),
}


class Events:
    """Events of all namespaces."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._stub = events_pb2_grpc.EventsStub(connection.channel)

    @asynccontextmanager
    async def subscribe(self, *filters: str) -> AsyncIterator[AsyncIterator[Event]]:
        """Every event from now on, or those that match any filter. List state after entering.

        The stream has no end of its own: it raises Unavailable when containerd goes away, and then the caller
        must subscribe and list again. containerd keeps what a slow reader has not taken.
        Read it in a task of its own: cancelling a read, as a timeout around it does, ends the stream.
        Raises: ContainerdError when the stream cannot be opened.
        """
        topic = MARKER_TOPIC + secrets.token_hex(8)
        wanted = [*filters, equals("topic", value=topic)] if filters else []
        call = self._stub.Subscribe(events_pb2.SubscribeRequest(filters=wanted))
        try:
            await self._wait_until_open(call, topic)
            events = self._events(call)
            async with aclosing(events):
                yield events
        finally:
            call.cancel()

    async def _wait_until_open(self, call: _SubscribeCall, topic: str) -> None:
        # What arrives before the marker may be dropped: it was true before the caller lists.
        try:
            with self._connection.translated("Events.Subscribe"):
                async with asyncio.timeout(OPEN_LIMIT_S), asyncio.TaskGroup() as group:
                    markers = group.create_task(self._publish_markers(topic))
                    while (await self._next(call)).topic != topic:
                        pass
                    markers.cancel()
        except ExceptionGroup as failures:
            # Publishing and reading fail together when containerd is away: one error says it.
            raise failures.exceptions[0] from failures

    async def _publish_markers(self, topic: str) -> None:
        request = events_pb2.PublishRequest(topic=topic, event=any_pb2.Any(type_url=_MARKER_TYPE))
        while True:
            await self._connection.unary(
                self._stub.Publish,
                request,
                about=f"Events.Publish {topic}",
                metadata=namespace_metadata(_MARKER_NAMESPACE),
            )
            await asyncio.sleep(MARKER_PERIOD_S)

    async def _events(self, call: _SubscribeCall) -> AsyncGenerator[Event, None]:
        while True:
            envelope = await self._next(call)
            # Markers, of this and of other subscribers, are of no interest to anybody.
            if not envelope.topic.startswith(MARKER_TOPIC):
                yield decode(envelope)

    async def _next(self, call: _SubscribeCall) -> events_pb2.Envelope:
        with self._connection.translated("Events.Subscribe"):
            envelope = await call.read()
        if envelope is grpc.aio.EOF:
            raise errors.Unavailable("containerd ended the event stream; subscribe again")
        assert isinstance(envelope, events_pb2.Envelope)
        return envelope


def decode(envelope: events_pb2.Envelope) -> Event:
    """Never raises: what cannot be read is an OtherEvent, since one bad event must not end the stream."""
    # A type URL may have a host before the name; containerd writes none.
    read = _PAYLOADS.get(envelope.event.type_url.rpartition("/")[2])
    if read is not None:
        try:
            return read(envelope.namespace, envelope.event.value)
        except DecodeError:
            pass
    return OtherEvent(envelope.namespace, envelope.topic)


def _content_created(namespace: str, payload: bytes) -> ContentCreated:
    message = content_pb2.ContentCreate.FromString(payload)
    return ContentCreated(namespace, message.digest, message.size)


if TYPE_CHECKING:
    _SubscribeCall = grpc.aio.UnaryStreamCall[events_pb2.SubscribeRequest, events_pb2.Envelope]
