"""Whether there is room for what is fetched ahead is a matter of all transfers."""

from __future__ import annotations

from contextlib import nullcontext
from types import SimpleNamespace
from typing import cast

import pytest

from mirror.herd.layers_ahead import LayersAhead
from mirror.herd.transfer import Transfer
from mirror.oci.digest import Digest
from mirror.relay.spool import Spool
from mirror.store.base import ContentStore


def transfer(*, is_hungry: bool) -> Transfer:
    return cast(Transfer, SimpleNamespace(ahead=SimpleNamespace(is_hungry=is_hungry)))


def layers(transfers: dict[Digest, Transfer]) -> LayersAhead:
    def made(_digest: Digest, _registry: str) -> Transfer:
        raise AssertionError("nothing is to be made")

    store, spool = cast(ContentStore, None), cast(Spool, None)
    return LayersAhead(transfers, {}, store, spool, transfer=made, boundary=lambda _: nullcontext())


@pytest.mark.parametrize("hungry", [(), (False,), (False, True), (True, False), (False, False)])
def test_there_is_room_while_nobody_who_reads_could_be_given_more(hungry: tuple[bool, ...]) -> None:
    transfers = {Digest.of(bytes([number])): transfer(is_hungry=one) for number, one in enumerate(hungry)}
    ahead = layers(transfers)
    for digest in transfers:
        ahead.asked(digest)
    assert ahead.has_spare() is not any(hungry)
    for digest in transfers:
        ahead.left(digest)
    assert ahead.has_spare(), "nobody reads any more"


def test_a_digest_that_was_ended_meanwhile_is_nothing() -> None:
    layers({}).fed(Digest.of(b"gone"))
