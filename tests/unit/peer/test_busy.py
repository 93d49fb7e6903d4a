"""What a peer without a free slot says: what is sent can be read, and only what may be believed is."""

from __future__ import annotations

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mirror.discovery.base import Peer
from mirror.peer.busy import (
    BUSY_ANSWER_MAX_BYTES,
    RETRY_AFTER_MAX_S,
    RETRY_AFTER_S,
    TOLD_PEERS_MAX_COUNT,
    decode,
    encode,
    retry_after_s,
)

TELLER = Peer("10.0.0.1", 29021)
private_v4 = st.integers(2, 2**24 - 2).map(
    lambda number: f"10.{number >> 16}.{number >> 8 & 255}.{number & 255}"
)
private_v6 = st.integers(1, 2**32).map(
    lambda number: f"fd00::{number >> 16 & 0xFFFF or 1:x}:{number & 0xFFFF or 1:x}"
)
peers = st.builds(Peer, private_v4 | private_v6, st.integers(1, 65535))


@given(st.lists(peers, unique=True, max_size=30))
def test_what_is_sent_can_be_read(told: list[Peer]) -> None:
    encoded = encode(told)
    assert decode(encoded, TELLER) == tuple(told[:TOLD_PEERS_MAX_COUNT])
    assert len(encoded) <= BUSY_ANSWER_MAX_BYTES
    assert len(json.loads(encoded)["peers"]) <= TOLD_PEERS_MAX_COUNT


def test_the_longest_addresses_fit() -> None:
    longest = [Peer("ffff:" * 7 + f"{number:04x}", 65535) for number in range(1, 17)]
    assert len(encode(longest)) <= BUSY_ANSWER_MAX_BYTES


def test_names_and_zones_mean_nothing_elsewhere_and_are_not_told() -> None:
    assert encode([Peer("host-7", 29021), Peer("fe80::1%eth0", 29021), Peer("10.0.0.7", 29021)]) == (
        b'{"peers":["10.0.0.7:29021"]}'
    )


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1:29021",
        "[::1]:29021",
        "169.254.169.254:80",
        "[fe80::1]:29021",
        "224.0.0.1:29021",
        "0.0.0.0:29021",
        "10.0.0.7:0",
        "10.0.0.7:65536",
        "10.0.0.7",
        "10.0.0.300:29021",
        "fd00::7:29021",
        "[fd00::7]",
        "host-7:29021",
        "http://10.0.0.7:29021",
        "10.0.0.7:29021/peer",
        "",
        str(TELLER),
    ],
)
def test_what_may_not_be_believed_is_passed_over(address: str) -> None:
    told = json.dumps({"peers": [address, "10.0.0.8:29021"]}).encode()
    assert decode(told, TELLER) == (Peer("10.0.0.8", 29021),)


def test_a_teller_on_loopback_means_the_same_loopback() -> None:
    told = b'{"peers":["127.0.0.1:7","127.0.0.1:8"]}'
    assert decode(told, Peer("127.0.0.1", 7)) == (Peer("127.0.0.1", 8),)


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"busy",
        b"[]",
        b'{"peers":"10.0.0.7:29021"}',
        b'{"peers":[7]}',
        b'{"errors":[{"code":"TOOMANYREQUESTS"}]}',
        b'{"peers":["\xff"]}',
        b'{"peers":["10.0.0.7:29021"]}' + b" " * BUSY_ANSWER_MAX_BYTES,
    ],
)
def test_an_answer_of_another_form_tells_nobody(data: bytes) -> None:
    assert decode(data, TELLER) == ()


def test_no_more_are_read_than_may_be_told_and_none_twice() -> None:
    told = [f"10.0.0.{number}:29021" for number in range(2, 40)]
    assert len(decode(json.dumps({"peers": told}).encode(), TELLER)) == TOLD_PEERS_MAX_COUNT
    assert len(decode(json.dumps({"peers": told[:1] * 5}).encode(), TELLER)) == 1


def test_fields_of_later_versions_are_passed_over() -> None:
    assert decode(b'{"later":{},"peers":["10.0.0.7:29021"]}', TELLER) == (Peer("10.0.0.7", 29021),)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("0", 0),
        ("3", 3),
        (" 7 ", 7),
        ("9999", RETRY_AFTER_MAX_S),
        (None, RETRY_AFTER_S),
        ("", RETRY_AFTER_S),
        ("soon", RETRY_AFTER_S),
        ("-1", RETRY_AFTER_S),
        ("1.5", RETRY_AFTER_S),
        ("9" * 400, RETRY_AFTER_S),
        ("Sun, 06 Nov 1994 08:49:37 GMT", RETRY_AFTER_S),
    ],
)
def test_when_to_come_again(header: str | None, seconds: int) -> None:
    assert retry_after_s(header) == seconds
