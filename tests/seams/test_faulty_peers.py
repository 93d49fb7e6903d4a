"""What containerd gets when peers die, stall, lie or talk nonsense: the right bytes, or an end that it can go on from.

Real registry server, real peer server, and peers that fail at a chosen byte.
"""

from __future__ import annotations

import asyncio
import json
import random
import time

import pytest

from mirror.discovery.base import Discovery, Peer
from mirror.oci.digest import Digest
from mirror.steer.timers import Rungs
from mirror.swarm.pieces import PieceLayout
from tests.support.faulty_peer import Fault, FaultyPeer, faulty_peer
from tests.support.memory_discovery import MemoryCluster
from tests.support.mirror_host import MirrorHost, ask, mirror_host

BLOB = random.Random(5).randbytes(5 * 1024 * 1024 + 77)
SMALL = BLOB[:3000]
# Well within a piece: the last bytes before a stall may stay in the kernel.
CUT_AT = 2 * 1024 * 1024 + 500_013
PIECE_BYTES = PieceLayout.of(len(BLOB)).piece_bytes


def url(host: MirrorHost, data: bytes = BLOB, kind: str = "blobs") -> str:
    return f"{host.registry_url}/v2/team/app/{kind}/{Digest.of(data)}"


def first_then(data: bytes, first: FaultyPeer, second: FaultyPeer) -> Discovery:
    """Both are known from the start."""
    cluster = MemoryCluster()
    cluster.announce(str(Digest.of(data)), first.peer)
    cluster.announce(str(Digest.of(data)), second.peer)
    return cluster.member(Peer("127.0.0.1", 1))


@pytest.mark.parametrize("fault", [Fault.FIN, Fault.RST, Fault.STALL])
async def test_a_peer_that_dies_or_stalls_is_replaced_at_the_piece(fault: Fault) -> None:
    """What is sent twice is less than two pieces: the one that was cut, and one that was asked for a second time."""
    async with faulty_peer(BLOB, fault, CUT_AT) as dying, faulty_peer(BLOB, Fault.NONE) as good:
        async with mirror_host(discovery=first_then(BLOB, dying, good)) as host:
            answer = await ask(url(host))
    assert (answer.status, answer.whole) == (200, True)
    assert answer.body == BLOB
    sent_bytes = sum(span.length_bytes for span in (*dying.sent_spans, *good.sent_spans))
    assert all(span.stop <= CUT_AT for span in dying.sent_spans if span.length_bytes)
    # A reset may take along what was on its way.
    twice_bytes = 2 * PIECE_BYTES if fault is not Fault.RST else CUT_AT + PIECE_BYTES
    assert sent_bytes < len(BLOB) + twice_bytes


async def test_a_range_is_resumed_within_the_range() -> None:
    async with faulty_peer(BLOB, Fault.FIN, CUT_AT) as dying, faulty_peer(BLOB, Fault.NONE) as good:
        async with mirror_host(discovery=first_then(BLOB, dying, good)) as host:
            answer = await ask(url(host), Range=f"bytes={CUT_AT - 9}-{CUT_AT + 9}")
    assert (answer.status, answer.body) == (206, BLOB[CUT_AT - 9 : CUT_AT + 10])


async def test_a_peer_that_stalls_alone_ends_the_body() -> None:
    """containerd would wait for ever; from an ended body it goes on at the next host."""
    kept_bytes = CUT_AT // PIECE_BYTES * PIECE_BYTES
    async with faulty_peer(BLOB, Fault.STALL, CUT_AT) as stalling:
        async with mirror_host(peers=[stalling.peer]) as host:
            started_s = time.monotonic()
            answer = await ask(url(host))
            assert (answer.whole, answer.body) == (False, BLOB[:kept_bytes])
            assert 1.5 < time.monotonic() - started_s < 4
            again = await ask(url(host), Range=f"bytes={kept_bytes}-")
            assert again.status == 404


@pytest.mark.parametrize(
    "fault",
    [
        Fault.SILENT,
        Fault.NO_LENGTH,
        Fault.COMPRESSED,
        Fault.NOT_HTTP,
        Fault.ERROR_500,
        Fault.REDIRECT,
        Fault.ABSENT,
        Fault.OTHER_VERSION,
    ],
)
@pytest.mark.parametrize("data", [BLOB, SMALL], ids=["large", "small"])
async def test_nonsense_before_the_first_byte_is_a_404(fault: Fault, data: bytes) -> None:
    """And it is quick: containerd's next host is the origin."""
    async with faulty_peer(data, fault) as bad, mirror_host(peers=[bad.peer]) as host:
        started_s = time.monotonic()
        answer = await ask(url(host, data))
        assert (answer.status, json.loads(answer.body)["errors"][0]["code"]) == (404, "BLOB_UNKNOWN")
        assert time.monotonic() - started_s < (4 if fault is Fault.SILENT else 1)


async def test_a_peer_without_a_free_slot_is_waited_for() -> None:
    async with faulty_peer(BLOB, Fault.BUSY) as busy, mirror_host(peers=[busy.peer]) as host:
        busy.faults_count = 2
        assert (await ask(url(host))).body == BLOB


async def test_a_peer_that_never_has_a_free_slot_holds_a_pull_for_as_long_as_the_ladder_says() -> None:
    rungs = Rungs(held_long_s=0.2, silent_max_s=0.6)
    async with faulty_peer(BLOB, Fault.BUSY) as busy, mirror_host(peers=[busy.peer], rungs=rungs) as host:
        async with asyncio.timeout(3):
            assert (await ask(url(host))).status == 404
    assert len(busy.gets) >= 2


@pytest.mark.parametrize("fault", [Fault.WRONG_RANGE, Fault.IGNORE_RANGE])
async def test_another_range_than_was_asked_for_is_not_delivered(fault: Fault) -> None:
    async with faulty_peer(BLOB, fault) as bad, mirror_host(peers=[bad.peer]) as host:
        assert (await ask(url(host), Range="bytes=100-")).status == 404


async def test_a_peer_cannot_send_the_daemon_elsewhere() -> None:
    async with faulty_peer(BLOB, Fault.REDIRECT) as bad, faulty_peer(BLOB, Fault.NONE) as elsewhere:
        bad.location = f"http://{elsewhere.peer}/peer/v1/blobs/{Digest.of(BLOB)}"
        async with mirror_host(peers=[bad.peer]) as host:
            assert (await ask(url(host))).status == 404
    assert elsewhere.gets == []


@pytest.mark.parametrize(
    "fault",
    [Fault.SILENT, Fault.NO_LENGTH, Fault.COMPRESSED, Fault.ERROR_500, Fault.WRONG_BYTE, Fault.SHORT_LENGTH],
)
async def test_a_small_blob_comes_right_from_the_next_peer(fault: Fault) -> None:
    async with faulty_peer(SMALL, fault, 100) as bad, faulty_peer(SMALL, Fault.NONE) as good:
        async with mirror_host(discovery=first_then(SMALL, bad, good)) as host:
            answer = await ask(url(host, SMALL))
    assert (answer.status, answer.body) == (200, SMALL)
    assert len(bad.gets) == 1


async def test_a_wrong_byte_never_completes_a_body() -> None:
    """The tail is withheld, the digest given up, what containerd holds thrown away, the peer left aside."""
    async with faulty_peer(BLOB, Fault.WRONG_BYTE, 1000) as lying, mirror_host(peers=[lying.peer]) as host:
        answer = await ask(url(host))
        assert (answer.status, answer.whole) == (200, False)
        assert len(answer.body) < len(BLOB)
        assert host.store.discarded == [Digest.of(BLOB)]
        gets_count = len(lying.gets)
        for headers in ({"Range": f"bytes={len(answer.body)}-"}, {}):
            again = await ask(url(host), **headers)
            assert again.status == 404
        assert len(lying.gets) == gets_count


async def test_after_a_wrong_byte_the_digest_is_given_up_even_where_a_good_peer_has_it() -> None:
    """What containerd holds by now is wrong: the rest of it, however right, would complete a wrong blob."""
    async with faulty_peer(BLOB, Fault.WRONG_BYTES) as lying, faulty_peer(BLOB, Fault.NONE) as good:
        async with mirror_host(discovery=first_then(BLOB, lying, good)) as host:
            answer = await ask(url(host))
            assert not answer.whole
            assert (await ask(url(host), Range=f"bytes={len(answer.body)}-")).status == 404


async def test_a_peer_that_does_not_hold_it_is_not_asked_again_at_once() -> None:
    async with faulty_peer(BLOB, Fault.ABSENT) as empty, faulty_peer(BLOB, Fault.NONE) as good:
        async with mirror_host(discovery=first_then(BLOB, empty, good)) as host:
            for _ in range(3):
                assert (await ask(url(host))).body == BLOB
    assert empty.heads_count == 1


async def test_a_wrong_byte_of_a_small_blob_never_leaves() -> None:
    async with faulty_peer(SMALL, Fault.WRONG_BYTE, 5) as lying, mirror_host(peers=[lying.peer]) as host:
        assert (await ask(url(host, SMALL))).status == 404
        assert host.store.discarded == []


async def test_a_peer_that_lies_about_its_length_is_found_by_the_manifest() -> None:
    layer = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": str(Digest.of(BLOB)),
        "size": len(BLOB),
    }
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": str(Digest.of(SMALL)),
        "size": len(SMALL),
    }
    manifest = json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()
    for fault in (Fault.SHORT_LENGTH, Fault.LONG_LENGTH):
        async with faulty_peer(BLOB, fault, 4096) as lying, mirror_host(manifest, BLOB) as good:
            for peers in ([lying.peer, good.peer], [good.peer, lying.peer]):
                async with mirror_host(peers=peers) as host:
                    assert (await ask(url(host, manifest, "manifests"))).status == 200
                    answer = await ask(url(host))
                    assert (answer.status, answer.whole, answer.body == BLOB) == (200, True, True)


async def test_a_manifest_corrects_a_size_that_a_peer_told_before() -> None:
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": str(Digest.of(SMALL)),
        "size": 3000,
    }
    layer = {
        "mediaType": "application/vnd.oci.image.layer.v1.tar",
        "digest": str(Digest.of(BLOB)),
        "size": len(BLOB),
    }
    manifest = json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()
    cluster = MemoryCluster()
    async with faulty_peer(BLOB, Fault.SHORT_LENGTH, 2_000_000) as lying, mirror_host(manifest, BLOB) as good:
        cluster.announce(str(Digest.of(BLOB)), lying.peer)
        cluster.announce(str(Digest.of(BLOB)), good.peer)
        cluster.announce(str(Digest.of(manifest)), good.peer)
        async with mirror_host(discovery=cluster.member(Peer("127.0.0.1", 1))) as host:
            assert (await ask(url(host), "HEAD")).headers["Content-Length"] == "2000000"
            assert (await ask(url(host, manifest, "manifests"))).status == 200
            assert (await ask(url(host))).body == BLOB


async def test_a_manifest_with_a_wrong_size_gets_no_honest_peer_banned() -> None:
    """Anybody who can have a manifest fetched can write one."""
    config = {
        "mediaType": "application/vnd.oci.image.config.v1+json",
        "digest": str(Digest.of(SMALL)),
        "size": 1,
    }
    layer = {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": str(Digest.of(BLOB)), "size": 1}
    crafted = json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()
    async with mirror_host(crafted, BLOB, SMALL, b"other") as good, mirror_host(peers=[good.peer]) as host:
        assert (await ask(url(host, crafted, "manifests"))).status == 200
        assert (await ask(url(host))).status == 404
        assert (await ask(url(host, b"other"))).body == b"other"


async def test_an_honest_manifest_mends_what_a_crafted_one_said_also_when_it_is_known_already() -> None:
    def manifest_with(size_bytes: int) -> bytes:
        config = {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": str(Digest.of(SMALL)),
            "size": 1,
        }
        layer = {
            "mediaType": "application/vnd.oci.image.layer.v1.tar",
            "digest": str(Digest.of(BLOB)),
            "size": size_bytes,
        }
        return json.dumps({"schemaVersion": 2, "config": config, "layers": [layer]}).encode()

    honest, crafted = manifest_with(len(BLOB)), manifest_with(1)
    async with mirror_host(honest, crafted, BLOB) as good, mirror_host(peers=[good.peer]) as host:
        for manifest in (honest, crafted, honest):
            assert (await ask(url(host, manifest, "manifests"))).status == 200
        assert (await ask(url(host))).body == BLOB


@pytest.mark.parametrize("at", [2 * 1024 * 1024, 4096])
async def test_a_length_that_nobody_vouches_for_never_completes_a_wrong_body(at: int) -> None:
    async with faulty_peer(BLOB, Fault.SHORT_LENGTH, at) as lying, mirror_host(peers=[lying.peer]) as host:
        answer = await ask(url(host))
        assert answer.status == 404 or not answer.whole


async def test_a_peer_of_another_wire_version_is_named_once(caplog: pytest.LogCaptureFixture) -> None:
    async with faulty_peer(BLOB, Fault.OTHER_VERSION) as newer, mirror_host(peers=[newer.peer]) as host:
        for data in (BLOB, SMALL, b"other"):
            assert (await ask(url(host, data))).status == 404
    named = [record for record in caplog.records if "wire version 7, 8" in record.getMessage()]
    assert len(named) == 1
    assert newer.peer.address in named[0].getMessage()


async def test_a_peer_that_is_gone_is_not_tried_for_every_digest() -> None:
    """Each try at a host that was switched off would cost the pull a second."""
    tries = 0

    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal tries
        tries += 1
        writer.close()

    blobs = [b"blob %d" % number for number in range(20)]
    server = await asyncio.start_server(connected, "127.0.0.1", 0)
    gone = Peer("127.0.0.1", server.sockets[0].getsockname()[1])
    async with (
        server,
        mirror_host(*blobs) as good,
        mirror_host(peers=[gone, good.peer], clock=lambda: 0.0) as host,
    ):
        assert (await ask(url(host, blobs[0]))).body == blobs[0]
        tries_at_first = tries
        for data in blobs:
            assert (await ask(url(host, data))).body == data
    assert 1 <= tries == tries_at_first
