"""Drives a dht.lookup.lookup.Lookup by hand. The key is zero, so a node's id is its distance."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from dht.contacts import Contact
from dht.endpoints import Endpoint
from dht.lookup.lookup import Answered, Ask, Finish, Lookup, Report
from dht.params import Params

PARAMS = Params()
KEY = bytes(20)
OWN = b"\xff" * 20
HEDGE_S = 0.05


class Provider(NamedTuple):
    node: bytes


def node(number: int) -> bytes:
    return number.to_bytes(20, "big")


def contact(number: int) -> Contact:
    return Contact(node(number), 1, (Endpoint("10.0.0.1", number % 60_000 + 1),), b"")


def contacts(*numbers: int) -> list[Contact]:
    return [contact(number) for number in numbers]


def providers(*numbers: int) -> list[Provider]:
    return [Provider(node(number)) for number in numbers]


def lookup(*numbers: int, want: int = 16, params: Params = PARAMS, own: bytes = OWN) -> Lookup[Provider]:
    return Lookup(KEY, own, contacts(*numbers), params, want=want, hedge_s=lambda _: HEDGE_S)


def asked(commands: Sequence[object]) -> list[int]:
    return [int.from_bytes(one.contact.node, "big") for one in commands if isinstance(one, Ask)]


def reported(commands: Sequence[object]) -> list[int]:
    return [
        int.from_bytes(one.node, "big")
        for command in commands
        if isinstance(command, Report)
        for one in command.providers
    ]


def finish(commands: Sequence[object]) -> Finish | None:
    ends = [one for one in commands if isinstance(one, Finish)]
    assert len(ends) <= 1
    assert not ends or commands[-1] is ends[0]
    return ends[0] if ends else None


def answered(number: int, *named: int, closer: Sequence[int] = ()) -> Answered[Provider]:
    return Answered(node(number), providers(*named), contacts(*closer))
