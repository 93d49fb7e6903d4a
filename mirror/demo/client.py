"""An OCI client that pulls as containerd does, where that matters to a mirror: a process of one host would be it.

Rules (measured on containerd 1.6, 1.7, 2.1)
1. The tag is resolved at the origin; everything else is asked for by digest, of the mirror first, then of the origin.
   Each request goes through the list anew: nothing is remembered of a mirror that had to pass.
2. A body that ends early is continued by a Range request to the next in the list. The last one is asked again as
   long as it makes progress.
3. Manifest, then config, then layers, at most three at a time. Each has its ingest before it is asked for, and is
   checked against its digest when it is whole; a wrong byte ends the pull.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass

import aiohttp

from mirror.demo.errors import PullFailed
from mirror.demo.progress import HostProgress
from mirror.demo.sink import Sink
from mirror.demo.together import together
from mirror.errors import MirrorError
from mirror.oci.digest import Digest
from mirror.oci.manifest import MANIFEST_MAX_BYTES, MANIFEST_MEDIA_TYPES, Descriptor, parse_manifest

# containerd's max_concurrent_downloads.
PARALLEL_LAYERS_COUNT = 3
# What `peili configure` writes as dial_timeout.
CONNECT_TIMEOUT_S = 1.0
# containerd has no such limit. Longer than the longest silence of a daemon that waits for others (20 s), after which
# it ends the body by itself.
SILENCE_TIMEOUT_S = 25.0
# Bodies come in portions of at most this much; each is one write to the disk.
READ_BUFFER_BYTES = 2**18

Write = Callable[[bytes], Awaitable[None]]


@dataclass(frozen=True, slots=True)
class Endpoint:
    """`address` is host:port. `is_mirror`: what it sends came from peers."""

    address: str
    is_mirror: bool


class _Cut(Exception):
    """An answer that did not bring all that was asked for; `offset`: how far it came."""

    def __init__(self, offset: int, reason: str) -> None:
        super().__init__(reason)
        self.offset = offset
        self.reason = reason


def session(local_address: str) -> aiohttp.ClientSession:
    """For one host, whose requests come from its own address."""
    return aiohttp.ClientSession(
        connector=aiohttp.TCPConnector(local_addr=(local_address, 0)),
        timeout=aiohttp.ClientTimeout(
            total=None, sock_connect=CONNECT_TIMEOUT_S, sock_read=SILENCE_TIMEOUT_S
        ),
        auto_decompress=False,
        read_bufsize=READ_BUFFER_BYTES,
    )


class Client:
    """Pulls `repository` at `origin` into `sink`, for one host; `clock` is monotonic seconds."""

    def __init__(
        self,
        http: aiohttp.ClientSession,
        mirrors: Sequence[Endpoint],
        origin: Endpoint,
        repository: str,
        sink: Sink,
        progress: HostProgress,
        clock: Callable[[], float],
    ) -> None:
        self._http = http
        self._origin = origin
        self._endpoints = (*mirrors, origin)
        self._repository = repository
        self._sink = sink
        self._progress = progress
        self._clock = clock
        self._layer_slots = asyncio.Semaphore(PARALLEL_LAYERS_COUNT)

    async def pull(self, tag: str) -> None:
        """Raises: PullFailed."""
        self._progress.started_at = self._clock()
        try:
            await self._pull(tag)
        except MirrorError as exc:
            raise PullFailed(f"{self._progress.name}: {exc}") from exc
        self._progress.ended_at = self._clock()

    async def _pull(self, tag: str) -> None:
        described = await self._resolve(tag)
        pieces: list[bytes] = []

        async with self._sink.ingest(described.digest, described.size_bytes) as writer:

            async def keep(chunk: bytes) -> None:
                pieces.append(chunk)
                await writer.write(chunk)

            await self._copy("manifests", described, keep)
            await writer.commit()
        config, *layers = parse_manifest(b"".join(pieces)).children
        self._progress.total_bytes = sum(part.size_bytes for part in (described, config, *layers))
        await self._blob(config)
        await together(self._layer(layer) for layer in layers)

    async def _resolve(self, tag: str) -> Descriptor:
        url = f"http://{self._origin.address}/v2/{self._repository}/manifests/{tag}"
        try:
            async with self._http.head(
                url, headers={"Accept": ", ".join(sorted(MANIFEST_MEDIA_TYPES))}
            ) as response:
                if response.status != 200:
                    raise PullFailed(f"the origin answered {response.status} for the tag {tag}")
                digest = Digest.parse(response.headers.get("Docker-Content-Digest", ""))
                size_bytes = response.content_length or 0
                if not 0 < size_bytes <= MANIFEST_MAX_BYTES:
                    raise PullFailed(
                        f"the origin says that {digest} has {size_bytes} bytes: that is no manifest"
                    )
                return Descriptor(response.content_type, digest, size_bytes)
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise PullFailed(f"the origin did not resolve the tag {tag}: {_reason(exc)}") from exc

    async def _layer(self, layer: Descriptor) -> None:
        async with self._layer_slots:
            await self._blob(layer)

    async def _blob(self, blob: Descriptor) -> None:
        async with self._sink.ingest(blob.digest, blob.size_bytes) as writer:
            await self._copy("blobs", blob, writer.write)
            await writer.commit()

    async def _copy(self, kind: str, wanted: Descriptor, write: Write) -> None:
        """All bytes of it in order, from endpoint to endpoint (rules 1 and 2). Raises: PullFailed."""
        reasons = []
        offset = 0
        position = 0
        while True:
            endpoint = self._endpoints[position]
            began_at = offset
            try:
                offset = await self._attempt(endpoint, kind, wanted, offset, write)
            except _Cut as cut:
                offset = cut.offset
                reasons.append(f"{endpoint.address} {cut.reason}")
            if offset == wanted.size_bytes:
                return
            if position + 1 < len(self._endpoints):
                position += 1
            elif offset == began_at:
                raise PullFailed(f"{wanted.digest} cannot be had: {'; '.join(reasons)}")

    async def _attempt(
        self, endpoint: Endpoint, kind: str, wanted: Descriptor, offset: int, write: Write
    ) -> int:
        """The offset after it. Raises: _Cut."""
        url = f"http://{endpoint.address}/v2/{self._repository}/{kind}/{wanted.digest}"
        if endpoint.is_mirror:
            url += f"?ns={self._origin.address}"
        headers = {"Accept": f"{wanted.media_type}, */*"}
        if offset:
            headers["Range"] = f"bytes={offset}-"
        expected_status = 206 if offset else 200
        try:
            async with self._http.get(url, headers=headers) as response:
                if response.status != expected_status:
                    raise _Cut(offset, f"answered {response.status}")
                if response.content_length != wanted.size_bytes - offset:
                    raise _Cut(offset, f"offered {response.content_length} bytes")
                async for chunk in response.content.iter_any():
                    await write(chunk)
                    offset += len(chunk)
                    self._count(endpoint, len(chunk))
                return offset
        except (aiohttp.ClientError, TimeoutError) as exc:
            raise _Cut(offset, f"failed: {_reason(exc)}") from exc

    def _count(self, endpoint: Endpoint, count_bytes: int) -> None:
        if endpoint.is_mirror:
            self._progress.peer_bytes += count_bytes
        else:
            self._progress.origin_bytes += count_bytes


def _reason(exc: Exception) -> str:
    """Timeouts have no text of their own."""
    return str(exc) or type(exc).__name__
