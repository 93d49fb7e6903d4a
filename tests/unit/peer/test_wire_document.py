"""The examples of docs/wire/peer-http.md, run."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from dht.ids import NodeId
from mirror.discovery.base import Peer
from mirror.oci.digest import Digest
from mirror.oci.errors import ErrorCode
from mirror.peer import busy, tag_answer, wire
from mirror.peer.slots import FREE_BODY_MAX_BYTES
from mirror.peer.tag_answer import TagAnswer, tag_target
from mirror.secret import ClusterSecret, Subkey
from mirror.tags.image_name import parse_tag_name

TEXT = (Path(__file__).resolve().parents[3] / "docs/wire/peer-http.md").read_text()


def example(name: str) -> dict[str, str]:
    found = re.search(rf"```example {name}\n(.*?)```", TEXT, re.DOTALL)
    assert found, f"the document has no example {name}"
    return dict(line.split(None, 1) for line in found[1].splitlines())


@pytest.fixture
def keys() -> tuple[Subkey, ...]:
    told = example("subkey")
    return ClusterSecret.parse(told["secret"].encode(), "the document").subkeys("peerhttp", told["cluster"])


def request_of(told: dict[str, str]) -> wire.Request:
    return wire.Request(told["method"], told["target"], told.get("range", ""))


def node_of(text: str) -> NodeId | None:
    return None if text == "-" else NodeId.parse(text)


def test_the_subkey(keys: tuple[Subkey, ...]) -> None:
    told = example("subkey")
    assert [(key.key.hex(), key.key_id) for key in keys] == [(told["subkey"], told["key-id"])]


@pytest.mark.parametrize("name", ["request", "challenge", "tag"])
def test_the_authorization(name: str, keys: tuple[Subkey, ...]) -> None:
    told = example(name)
    assert (
        wire.sign(request_of(told), keys[0], unix_s=int(told["time"]), node=node_of(told["node"]))
        == told["header"]
    )


def test_the_challenge(keys: tuple[Subkey, ...]) -> None:
    told = example("challenge")
    answerer = NodeId.parse(told["answerer"])
    verdict = wire.judge(
        told["header"],
        request_of(told),
        keys,
        node=answerer,
        now_unix_s=int(told["at"]),
        sender_address="10.0.0.1",
    )
    assert verdict == wire.Challenged(told["answer"])
    assert wire.read_challenge(told["answer"], told["header"], keys) == wire.Learned(
        answerer, int(told["at"])
    )


def test_the_tag() -> None:
    told = example("tag")
    name = parse_tag_name(told["name"])
    assert name is not None
    assert tag_target(name) == told["target"]
    answer = TagAnswer(Digest.of(b""), 1_799_990_000, None)
    assert tag_answer.encode(answer).decode() == told["body"]
    assert tag_answer.decode(told["body"].encode()) == answer
    assert f"at most {tag_answer.TAG_ANSWER_MAX_BYTES} bytes" in TEXT


def test_the_busy_answer() -> None:
    told = example("busy")
    others = (Peer("10.0.0.7", 29021), Peer("fd00::7", 29021))
    assert told["status"] == str(ErrorCode.TOOMANYREQUESTS.status)
    assert told["header"] == f"Retry-After: {busy.RETRY_AFTER_S}"
    assert told["others"] == " ".join(str(peer) for peer in others)
    assert busy.encode(others).decode() == told["body"]
    assert busy.decode(told["body"].encode(), Peer("10.0.0.1", 29021)) == others
    for number in (
        f"more than {FREE_BODY_MAX_BYTES} bytes",
        f"at most {busy.BUSY_ANSWER_MAX_BYTES} bytes",
        f"up to {busy.TOLD_PEERS_MAX_COUNT} other peers",
    ):
        assert number in TEXT


def test_the_names_of_the_document_are_those_of_the_code() -> None:
    for word in (
        wire.BLOB_PATH,
        wire.TAG_PATH,
        wire.CHANNEL_PATH,
        wire.HOP_HEADER,
        wire.VERSIONS_HEADER,
        wire.CHALLENGE_HEADER,
    ):
        assert word in TEXT
    assert f"{wire.FRESHNESS_S} s" in TEXT
