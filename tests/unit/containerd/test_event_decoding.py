"""Envelopes to events: every known payload, and nothing that raises."""

import pytest
from google.protobuf.any_pb2 import Any as AnyMessage
from google.protobuf.message import Message
from hypothesis import given
from hypothesis import strategies as st

from containerd.api.events import content_pb2, image_pb2
from containerd.api.services.events.v1 import events_pb2
from containerd.events import decode
from containerd.types import (
    ContentCreated,
    ContentDeleted,
    Event,
    ImageCreated,
    ImageDeleted,
    ImageUpdated,
    OtherEvent,
)

KNOWN: list[tuple[str, str, Message, Event]] = [
    (
        "/images/create",
        "containerd.services.images.v1.ImageCreate",
        image_pb2.ImageCreate(name="a:v1", labels={"l": "1"}),
        ImageCreated("ns", "a:v1"),
    ),
    (
        "/images/update",
        "containerd.services.images.v1.ImageUpdate",
        image_pb2.ImageUpdate(name="a:v1"),
        ImageUpdated("ns", "a:v1"),
    ),
    (
        "/images/delete",
        "containerd.services.images.v1.ImageDelete",
        image_pb2.ImageDelete(name="a:v1"),
        ImageDeleted("ns", "a:v1"),
    ),
    (
        "/content/create",
        "containerd.events.ContentCreate",
        content_pb2.ContentCreate(digest="sha256:0", size=5),
        ContentCreated("ns", "sha256:0", 5),
    ),
    (
        "/content/delete",
        "containerd.events.ContentDelete",
        content_pb2.ContentDelete(digest="sha256:0"),
        ContentDeleted("ns", "sha256:0"),
    ),
]
TYPES = [type_url for _, type_url, _, _ in KNOWN]


def envelope(topic: str, type_url: str, value: bytes) -> events_pb2.Envelope:
    event = AnyMessage(type_url=type_url, value=value)
    return events_pb2.Envelope(namespace="ns", topic=topic, event=event)


@pytest.mark.parametrize("host", ["", "types.containerd.io/"])
@pytest.mark.parametrize(("topic", "type_url", "payload", "expected"), KNOWN)
def test_known(topic: str, type_url: str, payload: Message, expected: Event, host: str) -> None:
    # The names of our own messages are part of the wire format, too.
    assert payload.DESCRIPTOR.full_name == type_url
    assert decode(envelope(topic, host + type_url, payload.SerializeToString())) == expected


def test_unknown() -> None:
    decoded = decode(envelope("/snapshot/prepare", "containerd.events.SnapshotPrepare", b"\n\x01a"))
    assert decoded == OtherEvent("ns", "/snapshot/prepare")


@pytest.mark.parametrize("type_url", TYPES)
def test_a_payload_that_is_cut_is_no_event_of_its_kind(type_url: str) -> None:
    assert decode(envelope("/t", type_url, b"\n\x7f")) == OtherEvent("ns", "/t")


@given(st.sampled_from([*TYPES, "", "/", "x"]), st.binary(max_size=50))
def test_no_payload_ends_the_stream(type_url: str, value: bytes) -> None:
    assert decode(envelope("/t", type_url, value)).namespace == "ns"
