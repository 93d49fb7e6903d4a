"""What a daemon tells of a real containerd's images, and `peili images` of that."""

from __future__ import annotations

import asyncio
import json
import secrets
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from containerd.client import Client
from containerd.types import Descriptor
from tests.support.bed_containerds import Containerds
from tests.support.free_ports import free_port
from tests.support.json_schema import violations
from tests.support.oci_image import Blob, Image, Index, build_image, build_index
from tests.support.store_beds import write_content

pytestmark = [pytest.mark.containerd, pytest.mark.slow]

DEADLINE_S = 20.0
SCHEMA = Path(__file__).resolve().parents[2] / "docs" / "api" / "images.json"
PULLED = build_index(880_001, [200_000, 3_000])
BUILT = build_image(880_011, [1_000])
ABSENT = build_image(880_012, [1_000])
SOURCE = {"containerd.io/distribution.source.reg.example": "public/app"}


@asynccontextmanager
async def daemon(sock: Path, namespace: str, folder: Path) -> AsyncIterator[int]:
    """The port of its admin API."""
    admin_port = free_port()
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mirror", "serve", f"--containerd-sock={sock}"),
        *(f"--containerd-namespace={namespace}", f"--data-dir={folder / 'data'}"),
        *("--registry-addr=127.0.0.1:0", "--peer-addr=127.0.0.1:0", f"--admin-addr=127.0.0.1:{admin_port}"),
        *(f"--hosts-dir={folder / 'certs.d'}", "--origin=off", "--tags=peers"),
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield admin_port
    finally:
        process.kill()
        await process.wait()


async def put(client: Client, namespace: str, blobs: Sequence[Blob], **labels: str) -> None:
    for blob in blobs:
        await write_content(client, namespace, blob.content, **{"containerd.io/gc.root": "test", **labels})


async def name(client: Client, namespace: str, text: str, image: Image | Index) -> None:
    target = image.manifest
    await client.images(namespace).create(
        text, Descriptor(target.media_type, target.digest, len(target.content), {})
    )


async def shown(admin_port: int, *flags: str) -> tuple[int, str]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-m", "mirror", "images", f"--admin-addr=127.0.0.1:{admin_port}", *flags),
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    async with asyncio.timeout(DEADLINE_S):
        out, err = await process.communicate()
    return process.returncode or 0, (out or err).decode()


async def told(admin_port: int) -> Any:
    """None: not yet."""
    code, out = await shown(admin_port, "--json")
    return None if code else json.loads(out)


async def test_images_of_a_real_containerd(containerds: Containerds, tmp_path: Path) -> None:
    """Pulled for one platform of two, built here, and a name whose content is gone; other namespaces are not told."""
    containerd = await containerds.get("2.1")
    namespace = f"told-{secrets.token_hex(4)}"
    here, _ = PULLED.images
    async with Client(containerd.socket) as client:
        await put(client, namespace, [PULLED.manifest], **SOURCE)
        await put(client, namespace, list(here))
        await put(client, namespace, list(BUILT))
        for text, image in (
            ("reg.example/public/app:v1", PULLED),
            (f"reg.example/public/app@{PULLED.manifest.digest}", PULLED),
            ("built.local/mine:latest", BUILT),
            ("reg.example/gone:v1", ABSENT),
        ):
            await name(client, namespace, text, image)
        await name(client, f"{namespace}-other", "reg.example/other:v1", BUILT)
        async with daemon(containerd.socket, namespace, tmp_path) as admin_port, asyncio.timeout(DEADLINE_S):
            while True:
                found = await told(admin_port)
                # The tag is told last.
                if found is not None and any(one["tag_advertised"] for one in found["images"]):
                    break
            code, table = await shown(admin_port)
    assert violations(found, json.loads(SCHEMA.read_text())) == []
    keys = (
        "name",
        "namespace",
        "digest",
        "size_bytes",
        "blobs",
        "blobs_here",
        "advertised",
        "tag_advertised",
    )
    assert (found["store"], found["total"], found["truncated"]) == ("containerd", 3, False)
    size_bytes = len(PULLED.manifest.content) + here.size_bytes
    assert [tuple(one[key] for key in keys) for one in found["images"]] == [
        ("built.local/mine:latest", namespace, BUILT.manifest.digest, BUILT.size_bytes, 3, 3, True, False),
        ("reg.example/gone:v1", namespace, ABSENT.manifest.digest, None, None, None, False, False),
        ("reg.example/public/app:v1", namespace, PULLED.manifest.digest, size_bytes, 5, 5, True, True),
    ]
    assert code == 0
    assert [line.split()[0] for line in table.splitlines()] == [
        "IMAGE",
        *(one["name"] for one in found["images"]),
    ]
    assert "content and tag" in table
