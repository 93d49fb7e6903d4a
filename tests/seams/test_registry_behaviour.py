"""What containerd relies on beyond the pull rules: how bodies end, resets, refusals, draining."""

from __future__ import annotations

import asyncio
import json
import socket

import pytest

from mirror.oci.digest import Digest
from mirror.swarm.pieces import PIECE_MIN_BYTES
from tests.support.faulty_peer import Fault, faulty_peer
from tests.support.mirror_host import MirrorHost, ask, mirror_host

BLOB = bytes(range(256)) * 20_000
D = Digest.of(BLOB)
CONFIG = b"{}"
MANIFEST = json.dumps(
    {
        "schemaVersion": 2,
        "config": {
            "mediaType": "application/vnd.oci.image.config.v1+json",
            "digest": str(Digest.of(CONFIG)),
            "size": 2,
        },
        "layers": [
            {"mediaType": "application/vnd.oci.image.layer.v1.tar", "digest": str(D), "size": len(BLOB)}
        ],
    }
).encode()
M = Digest.of(MANIFEST)


MIB = 1024 * 1024


async def raw(host: MirrorHost, head: str) -> tuple[bytes, bool]:
    """Everything until the end of the connection; True: it ended by FIN, False: by RST."""
    port = int(host.registry_url.rsplit(":", 1)[1])
    loop = asyncio.get_running_loop()
    with socket.create_connection(("127.0.0.1", port)) as sock:
        sock.setblocking(False)
        await loop.sock_sendall(sock, f"{head}\r\nHost: x\r\n\r\n".encode())
        received = bytearray()
        while True:
            try:
                chunk = await asyncio.wait_for(loop.sock_recv(sock, 1 << 20), 10)
            except ConnectionResetError:
                return bytes(received), False
            if not chunk:
                return bytes(received), True
            received += chunk


async def test_a_body_that_cannot_go_on_ends_by_fin() -> None:
    """A reset fails the pull at once, on every version; after FIN containerd goes on at the next host (measured)."""
    async with (
        faulty_peer(BLOB, Fault.FIN, 5 * PIECE_MIN_BYTES + 300_000) as dying,
        mirror_host(peers=[dying.peer]) as host,
    ):
        received, by_fin = await raw(host, f"GET /v2/a/blobs/{D} HTTP/1.1")
    assert by_fin
    head, _, body = received.partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert body == BLOB[: 5 * PIECE_MIN_BYTES], "the pieces that had arrived are delivered before the end"


async def test_what_was_written_before_the_end_still_leaves() -> None:
    """A client that reads slowly gets all that had arrived, and then FIN."""
    large = BLOB * 3  # more than what the kernel takes on its own
    async with faulty_peer(large, Fault.FIN, 12_000_000) as dying, mirror_host(peers=[dying.peer]) as host:
        port = int(host.registry_url.rsplit(":", 1)[1])
        loop = asyncio.get_running_loop()
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            sock.connect(("127.0.0.1", port))
            sock.setblocking(False)
            await loop.sock_sendall(
                sock, f"GET /v2/a/blobs/{Digest.of(large)} HTTP/1.1\r\nHost: x\r\n\r\n".encode()
            )
            received = bytearray()
            while chunk := await loop.sock_recv(sock, 65536):
                received += chunk
    body = received.partition(b"\r\n\r\n")[2]
    assert (len(body), large.startswith(body)) == (12_000_000 // MIB * MIB, True)


async def test_a_local_file_that_shrank_ends_by_fin() -> None:
    async with mirror_host(BLOB) as host:
        blob = await host.store.open(D)
        descriptor = blob.descriptor
        assert descriptor is not None

        class Shrunk:
            size_bytes = len(BLOB) + 1000
            descriptor = blob.descriptor

            def close(self) -> None:
                blob.close()

        async def open_shrunk(digest: Digest) -> object:
            return Shrunk()

        host.store.open = open_shrunk  # type: ignore[method-assign, assignment]
        received, by_fin = await raw(host, f"GET /v2/a/blobs/{D} HTTP/1.1")
        assert by_fin
        assert received.endswith(BLOB[-1000:])


async def test_a_refused_tag_at_the_fallback_host_ends_the_connection_for_2_1() -> None:
    """So that the user of containerd 2.1 reads the origin's own error; older versions need a 404 for that."""
    async with mirror_host(MANIFEST) as host:
        line = "GET /fallback/v2/a/manifests/latest HTTP/1.1\r\nUser-Agent: containerd/{}"
        assert await raw(host, line.format("2.1.9+ds1")) == (b"", True)
        for version in ("1.6.20~ds1", "1.7.24"):
            received, _ = await raw(host, line.format(version) + "\r\nConnection: close")
            assert received.startswith(b"HTTP/1.1 404")
        received, _ = await raw(
            host, "GET /v2/a/manifests/latest HTTP/1.1\r\nUser-Agent: containerd/2.1.9\r\nConnection: close"
        )
        assert received.startswith(b"HTTP/1.1 404")


async def test_open_ended_ranges_that_the_client_resets_hurt_nobody() -> None:
    """containerd 2.1 fetches a layer in parallel: `bytes=N-` on many connections, each reset after a chunk."""
    async with mirror_host(BLOB) as holder, mirror_host(peers=[holder.peer]) as host:
        port = int(host.registry_url.rsplit(":", 1)[1])

        async def chunk(start: int, length: int) -> bytes:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, limit=1 << 16)
            try:
                writer.write(
                    f"GET /v2/a/blobs/{D} HTTP/1.1\r\nHost: x\r\nRange: bytes={start}-\r\n\r\n".encode()
                )
                head = await reader.readuntil(b"\r\n\r\n")
                assert head.startswith(b"HTTP/1.1 206"), head
                return await reader.readexactly(length)
            finally:
                writer.transport.abort()

        step = len(BLOB) // 8
        for _ in range(3):
            parts = await asyncio.gather(*(chunk(start, step) for start in range(0, len(BLOB), step)))
            assert b"".join(parts) == BLOB
        # A reset is no failure of the peer: the whole blob still comes, at once.
        assert (await ask(f"{host.registry_url}/v2/a/blobs/{D}")).body == BLOB


async def test_a_client_that_leaves_ends_the_fetch_behind_it() -> None:
    async with faulty_peer(BLOB, Fault.STALL, 2_000_000) as holder, mirror_host(peers=[holder.peer]) as host:
        port = int(host.registry_url.rsplit(":", 1)[1])
        reader, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.write(f"GET /v2/a/blobs/{D} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
        await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(MIB)  # the first piece, all there is: the handler now waits for its source
        assert host.metrics.value("peili_download_readers") == 1
        writer.transport.abort()
        async with asyncio.timeout(1.5):  # less than the stall timeout: it is the reset that ends it
            while host.metrics.value("peili_download_readers"):
                await asyncio.sleep(0.01)


async def test_a_manifest_is_fetched_from_a_peer_once_for_head_and_get() -> None:
    async with faulty_peer(MANIFEST, Fault.NONE) as holder, mirror_host(peers=[holder.peer]) as host:
        for method in ("HEAD", "GET", "GET"):
            assert (await ask(f"{host.registry_url}/v2/a/manifests/{M}?ns=reg.example", method)).status == 200
        assert len(holder.gets) == 1


async def test_two_requests_for_one_digest_share_what_is_known() -> None:
    """The first finds that the peer is broken; the second does not ask it again."""
    async with faulty_peer(BLOB, Fault.ERROR_500) as broken, mirror_host(peers=[broken.peer]) as host:
        for _ in range(3):
            assert (await ask(f"{host.registry_url}/v2/a/blobs/{D}")).status == 404
        assert len(broken.gets) == 1


async def test_only_mirrored_registries_are_answered() -> None:
    async with mirror_host(BLOB, MANIFEST, mirrors=["docker.io", "ghcr.io"]) as host:
        for query, status in (
            ("?ns=ghcr.io", 200),
            ("", 200),
            ("?ns=registry-1.docker.io", 200),
            ("?ns=quay.io", 404),
        ):
            assert (await ask(f"{host.registry_url}/v2/a/blobs/{D}{query}")).status == status
        refused = await ask(f"{host.registry_url}/v2/a/manifests/{M}?ns=quay.io")
        assert json.loads(refused.body)["errors"][0]["code"] == "NAME_UNKNOWN"


async def test_filtered_images_are_not_answered() -> None:
    async with mirror_host(BLOB, filters=[r"^ghcr\.io/secret/"]) as host:
        assert (await ask(f"{host.registry_url}/v2/secret/a/blobs/{D}?ns=ghcr.io")).status == 404
        assert (await ask(f"{host.registry_url}/v2/open/a/blobs/{D}?ns=ghcr.io")).status == 200


async def test_a_draining_mirror_still_serves_what_is_local() -> None:
    async with mirror_host(BLOB) as holder, mirror_host(MANIFEST, peers=[holder.peer]) as host:
        host.registry.drain()
        assert (await ask(f"{host.registry_url}/v2/a/blobs/{D}")).status == 404
        assert (await ask(f"{host.registry_url}/v2/a/manifests/{M}")).status == 200


async def test_without_its_store_the_mirror_still_asks_peers() -> None:
    async with mirror_host(BLOB) as holder, mirror_host(peers=[holder.peer]) as host:
        host.store.go_away("containerd restarts")
        assert (await ask(f"{host.registry_url}/v2/a/blobs/{D}")).body == BLOB


async def test_requests_are_counted_by_outcome() -> None:
    async with mirror_host(BLOB) as holder, mirror_host(MANIFEST, peers=[holder.peer]) as host:
        await ask(f"{host.registry_url}/v2/a/blobs/{D}")
        await ask(f"{host.registry_url}/v2/a/manifests/{M}")
        await ask(f"{host.registry_url}/v2/a/blobs/{Digest.of(b'x')}")
        await ask(f"{host.registry_url}/v2/a/manifests/latest")
        value = host.metrics.value
        assert value("peili_bytes_total", source="peer") == len(BLOB)
        assert value("peili_bytes_total", source="local") == len(MANIFEST)
        assert value("peili_requests_total", kind="blob", outcome="peer") == 1
        assert value("peili_requests_total", kind="blob", outcome="miss") == 1
        assert value("peili_requests_total", kind="manifest", outcome="local") == 1
        assert value("peili_requests_total", kind="manifest", outcome="refused") == 1


@pytest.mark.parametrize("size", [20_000, 200_000])
async def test_a_request_with_too_long_a_header_is_refused_and_nothing_breaks(
    size: int, caplog: pytest.LogCaptureFixture
) -> None:
    async with mirror_host(BLOB) as host:
        received, _ = await raw(host, f"GET /v2/a/blobs/{D} HTTP/1.1\r\nX-Long: {'x' * size}")
        assert received.split(b" ")[1] == b"400"
        assert (await ask(f"{host.registry_url}/v2/")).status == 200
    assert not caplog.records, "no log line for what anybody can send"
