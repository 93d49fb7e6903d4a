"""Looks at everything, each thing in bounded time, and never fails: what could not be seen is a fact, too."""

from __future__ import annotations

import asyncio
import random
import time
from pathlib import Path

from mirror.doctor.facts import Asked, ContainerdFacts, DaemonFacts, Facts
from mirror.doctor.look_containerd import look_containerd
from mirror.doctor.look_daemon import look_daemon, look_registry
from mirror.doctor.look_hosts import look_hosts
from mirror.doctor.look_peers import look_peers
from mirror.host.distribution import RKE2_DIR
from mirror.host.facts import Answer
from mirror.settings.model import DoctorSettings
from mirror.version import VERSION

# Several calls, each with its own limit, and a dump; a containerd that needs longer in all is stuck.
CONTAINERD_LIMIT_S = 20.0


async def gather(settings: DoctorSettings) -> Facts:
    # Before the daemon tells its age: what is looked at later takes time, too.
    now_s = time.time()
    daemon = await look_daemon(settings.admin_addr)
    listen = await look_registry(settings.registry_addr)
    since_s = now_s - daemon.uptime_s if isinstance(daemon, DaemonFacts) else None
    containerd = await _containerd(settings, since_s)
    config = None if containerd.config is None else containerd.config.effective
    hosts = await asyncio.to_thread(
        look_hosts, settings.hosts_dir, None if config is None else config.config_path, containerd.release
    )
    return Facts(
        asked(settings),
        containerd,
        hosts,
        listen,
        daemon if isinstance(daemon, DaemonFacts) else None,
        VERSION,
        daemon if isinstance(daemon, str) else "",
        await asyncio.to_thread(Path(RKE2_DIR).is_dir),
        await look_peers(settings, daemon.bootstrap or (), random.Random())
        if isinstance(daemon, DaemonFacts)
        else (),
    )


async def _containerd(settings: DoctorSettings, since_s: float | None) -> ContainerdFacts:
    try:
        async with asyncio.timeout(CONTAINERD_LIMIT_S):
            return await look_containerd(settings, since_s)
    except TimeoutError:
        return ContainerdFacts(Answer.SILENT, f"it did not answer within {CONTAINERD_LIMIT_S:.0f} s")


def asked(settings: DoctorSettings) -> Asked:
    """What checks need of it, in texts."""
    address = settings.registry_addr
    configured = address if settings.configured_addr is None else settings.configured_addr.from_this_host
    return Asked(
        str(settings.containerd_sock),
        str(settings.hosts_dir),
        str(address),
        address.port,
        # Behind a forwarded port the daemon has a network of its own, and that is meant.
        address.from_this_host.is_loopback and settings.configured_addr is None,
        # As configure writes it.
        f"http://{configured.from_this_host}",
        str(configured),
        settings.configured_addr is not None,
        settings.peer_addr.port,
        str(settings.admin_addr),
        settings.admin_addr.port,
        settings.mirrors,
        settings.containerd_namespaces,
    )
