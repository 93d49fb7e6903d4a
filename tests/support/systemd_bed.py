"""Hosts whose systemd is to run the daemon: unit, secret and hosts.toml are there, and nothing of ours runs.

What a test asks of one besides; how a host is made, `systemd_host` says.
"""

from __future__ import annotations

import base64
import contextlib
import itertools
import json
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from mirror.host.unit import ServiceFacts, service
from tests.support.bed_hosts import ADMIN_PORT, PEER_PORT
from tests.support.bed_registry import RealRegistry
from tests.support.cri_pull import Pulled, cri_pull
from tests.support.netns import Network
from tests.support.skips import require, tool_bin
from tests.support.systemd_host import (
    CERTS_DIR,
    PROGRAM,
    SystemdHost,
    python_reads,
    systemd_or_missing,
)

REGISTRY_PORT: Final = 5000
SECRET_FILE: Final = "/etc/peili/secret"
SECRET: Final = base64.b64encode(b"s" * 32).decode()
UNIT: Final = "peili.service"
_FOLDERS: Final = itertools.count()

START: Final = "import asyncio; from mirror.host import systemd; print(asyncio.run(systemd.start()))"
STOP: Final = "import asyncio; from mirror.host import systemd; asyncio.run(systemd.stop())"


@dataclass(frozen=True, slots=True)
class Bed:
    network: Network
    registry: RealRegistry
    hosts: Sequence[SystemdHost]
    facts: ServiceFacts


@contextlib.asynccontextmanager
async def bed(short_folder: Path, version: str, host_count: int) -> AsyncIterator[Bed]:
    """Unit and secret are there, and nothing of ours runs."""
    require(systemd_or_missing())
    home = short_folder / f"systemd{next(_FOLDERS)}"
    async with contextlib.AsyncExitStack() as stack:
        network = await stack.enter_async_context(Network(host_count + 1))
        at, *links = network.hosts
        registry = RealRegistry(
            tool_bin("docker-registry"), home / "r", address=at.address, port=REGISTRY_PORT, netns=at.netns
        )
        await stack.enter_async_context(registry)
        facts = ServiceFacts(
            program=(PROGRAM,),
            serve_flags=(
                f"--cluster-secret-file={SECRET_FILE}",
                f"--bootstrap=static:{links[0].address}:{PEER_PORT}",
                "--log-level=debug",
            ),
            data_dir="/var/lib/peili",
            hosts_dirs=(CERTS_DIR,),
            reads=python_reads(),
        )
        hosts = []
        for number, link in enumerate(links):
            host = SystemdHost(home / f"h{number}", tool_bin(f"containerd-{version}"), netns=link.netns)
            hosts.append(await stack.enter_async_context(host))
            host.write(SECRET_FILE, SECRET, 0o600)
            host.write(
                f"{CERTS_DIR}/{registry.name}/hosts.toml",
                f'server = "{registry.url}"\n\n[host."{registry.url}"]\n',
            )
            host.run(PROGRAM, "configure", f"--mirror={registry.name}")
            install(host, facts)
        yield Bed(network, registry, hosts, facts)


def install(host: SystemdHost, facts: ServiceFacts) -> None:
    change = service(facts)
    host.write(change.path, change.content.decode(), change.mode)


def started(host: SystemdHost) -> str:
    return host.python(START).stdout.strip()


def status(host: SystemdHost, name: str) -> int:
    told = json.loads(host.ask("/api/v1/status", ADMIN_PORT))[name]
    assert isinstance(told, int)
    return told


async def pulled(host: SystemdHost, image: str) -> None:
    outcome = await cri_pull(host, image)
    assert isinstance(outcome, Pulled), f"{outcome}\n" + "\n".join(host.journal().splitlines()[-20:])
