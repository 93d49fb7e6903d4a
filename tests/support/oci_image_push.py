"""Pushes a built image to a registry over plain HTTP, as far as the distribution API asks for.

No authentication and no TLS: the registries of the test bed have neither.
"""

from __future__ import annotations

import io
from typing import Final

import aiohttp
from yarl import URL

from tests.support.oci_image import MEDIA_TYPES, Blob, Image, Index

_MANIFEST_TYPES: Final = frozenset(
    media_type for types in MEDIA_TYPES.values() for media_type in (types.manifest, types.index)
)


class PushError(Exception):
    """The registry refused a request; the message holds its answer."""


async def push(image: Image | Index, registry_url: str, repository: str, tag: str) -> None:
    """registry_url as in http://127.0.0.1:5000. Raises: PushError."""
    async with aiohttp.ClientSession(registry_url) as session:
        for blob in image:
            if blob.media_type in _MANIFEST_TYPES:
                await _push_manifest(session, repository, blob, blob.digest)
            else:
                await _push_blob(session, repository, blob)
        await _push_manifest(session, repository, image.manifest, tag)


async def _push_blob(session: aiohttp.ClientSession, repository: str, blob: Blob) -> None:
    async with session.head(f"/v2/{repository}/blobs/{blob.digest}") as answer:
        if answer.status == 200:
            return
    async with session.post(f"/v2/{repository}/blobs/uploads/") as answer:
        await _expect(answer, 202)
        # Absolute or relative, and with a query of its own that must be kept.
        upload = answer.url.join(URL(answer.headers["Location"], encoded=True))
    octets = {"Content-Type": "application/octet-stream"}
    url = upload.update_query(digest=blob.digest)
    async with session.put(url, data=io.BytesIO(blob.content), headers=octets) as answer:
        await _expect(answer, 201)


async def _push_manifest(session: aiohttp.ClientSession, repository: str, blob: Blob, reference: str) -> None:
    url = f"/v2/{repository}/manifests/{reference}"
    async with session.put(url, data=blob.content, headers={"Content-Type": blob.media_type}) as answer:
        await _expect(answer, 201)


async def _expect(answer: aiohttp.ClientResponse, status: int) -> None:
    if answer.status != status:
        raise PushError(f"{answer.method} {answer.url}: {answer.status} {await answer.text()}")
