"""What containerd says of itself, over its socket. Calls that read, and no other."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from datetime import datetime
from pathlib import Path

from containerd.client import Client
from containerd.effective_config import TRANSFER_SINCE, EffectiveConfig
from containerd.errors import ContainerdError, InvalidArgument, SocketForbidden, SocketMissing
from mirror.doctor.facts import ContainerdFacts, PulledImage
from mirror.host.distribution import KNOWN_SOCKS
from mirror.host.facts import Answer, ConfigFacts
from mirror.host.look_process import Process, config_of, listener, namespace_of
from mirror.settings.model import DoctorSettings
from mirror.tags.image_name import SOURCE_LABEL

# Of images that are new, how many are looked at: one that was pulled past us is enough.
IMAGES_MAX_COUNT = 64


async def look_containerd(settings: DoctorSettings, since_s: float | None) -> ContainerdFacts:
    """`since_s`: when the daemon was started, in seconds since 1970; None where it does not run."""
    sock = settings.containerd_sock
    try:
        async with Client(sock) as client:
            version = await client.version()
            process = await asyncio.to_thread(listener, sock)
            root, trouble = await _content(client, settings.containerd_content_path)
            return ContainerdFacts(
                Answer.ANSWERS,
                version=version.text,
                release=version.release,
                namespaces=await client.namespaces(),
                network=None if process is None else namespace_of(process.pid, "net"),
                config=await asyncio.to_thread(_config, settings, process, version.release),
                content_root=root,
                content_trouble=trouble,
                pulled=await _pulled(client, settings.containerd_namespaces, since_s),
            )
    except (SocketMissing, InvalidArgument) as exc:
        return ContainerdFacts(Answer.ABSENT, str(exc), other_socks=_other_socks(sock))
    except SocketForbidden as exc:
        return ContainerdFacts(Answer.FORBIDDEN, str(exc))
    except ContainerdError as exc:
        return ContainerdFacts(Answer.SILENT, str(exc))


def _other_socks(sock: Path) -> tuple[str, ...]:
    return tuple(one for one in KNOWN_SOCKS if one != str(sock) and Path(one).is_socket())


def _config(
    settings: DoctorSettings, process: Process | None, release: tuple[int, int]
) -> ConfigFacts | None:
    told = settings.containerd_config_path
    if told is None:
        return config_of(process, release)
    # Nothing else is known of it: the transfer service is the default where there is one.
    config = EffectiveConfig(told, False, release >= TRANSFER_SINCE, ())
    return ConfigFacts("--containerd-config-path", config)


async def _content(client: Client, told: Path | None) -> tuple[str, str]:
    """The root, and why it cannot be read here."""
    try:
        root = told or await client.content_root()
    except ContainerdError as exc:
        return "", str(exc)
    return await asyncio.to_thread(_readable, root, is_told=told is not None)


def _readable(root: Path, *, is_told: bool) -> tuple[str, str]:
    try:
        # containerd makes it with the first content; until then the directory that it will be in must be seen here.
        if not root.is_dir() and (is_told or not root.parent.is_dir()):
            return str(root), "there is no such directory here"
        for folder in (root, root / "ingest", root / "blobs" / "sha256"):
            if folder.exists() and not os.access(folder, os.R_OK | os.X_OK):
                return str(folder), "permission denied"
    except OSError as exc:
        return str(root), exc.strerror or str(exc)
    return str(root), ""


async def _pulled(
    client: Client, namespaces: tuple[str, ...], since_s: float | None
) -> tuple[PulledImage, ...]:
    if since_s is None:
        return ()
    found: list[PulledImage] = []
    for namespace in namespaces:
        found += [image async for image in _pulled_in(client, namespace, since_s)]
    return tuple(found)


async def _pulled_in(client: Client, namespace: str, since_s: float) -> AsyncIterator[PulledImage]:
    def is_new(when: datetime) -> bool:
        return when.timestamp() > since_s

    try:
        images = await client.images(namespace).list()
    except ContainerdError:
        return
    # By content: CRI gives one pull three names. The shortest is the tag's.
    names: dict[str, str] = {}
    for image in sorted(images, key=lambda one: len(one.name), reverse=True):
        if is_new(image.created_at) and not image.name.startswith("sha256:"):
            names[image.target.digest] = image.name
    for digest, name in list(names.items())[:IMAGES_MAX_COUNT]:
        try:
            info = await client.content(namespace).info(digest)
        except ContainerdError:
            continue
        # An import has no source, and another name for what is here already is not asked for.
        if is_new(info.created_at) and any(key.startswith(SOURCE_LABEL) for key in info.labels):
            yield PulledImage(name, name.partition("/")[0])
