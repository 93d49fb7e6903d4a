"""One DHT node as a process of its own, and the test's handle on it.

`python -m tests.support.dht_node JSON` runs a node until SIGTERM and prints its state as a JSON line whenever it
changes. `DhtNode` starts one in a network namespace (with a resolv.conf of its own if asked) and reads the lines.
"""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import signal
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import msgspec

from dht.endpoints import endpoint
from dht.params import Params
from dht.service import DHT
from dht.settings import DnsBootstrap, LanBootstrap, Settings, StaticBootstrap
from dht.wire.envelope import Key
from tests.support.bed_process import BedProcess

ROOT: Final = Path(__file__).resolve().parents[2]
_WATCH_EVERY_S: Final = 0.02
# A loaded machine with two cores and a dozen Python processes that start at once.
WITHIN_S: Final = 30.0


class Plan(msgspec.Struct, frozen=True):
    """`node` is any text, its hash is the id. `bootstrap` in the words of the command line: `static:HOST:PORT`,
    `dns:NAME` (on `port`), `lan`. `params` override fields of Params."""

    node: str
    port: int
    v4: str = "0.0.0.0"
    v6: str = "::"
    cluster: str = "test"
    secret: str = "secret"
    bootstrap: list[str] = []
    provide: list[str] = []
    find: list[str] = []
    params: dict[str, float] = {}
    epoch: int = 1


class State(msgspec.Struct, frozen=True):
    """`members` by id the endpoints; `found` by key the ids of its providers."""

    node: str
    members: dict[str, list[str]]
    found: dict[str, list[str]]
    unready: str | None
    trouble: str | None
    drops: dict[str, int]


def id_of(node: str) -> bytes:
    return hashlib.sha256(node.encode()).digest()[:20]


def settings_of(plan: Plan) -> Settings:
    bootstrap: list[StaticBootstrap | DnsBootstrap | LanBootstrap] = []
    for text in plan.bootstrap:
        kind, _, rest = text.partition(":")
        host, _, port = rest.rpartition(":")
        bootstrap.append(
            LanBootstrap()
            if kind == "lan"
            else DnsBootstrap(rest, plan.port)
            if kind == "dns"
            else StaticBootstrap(host.strip("[]"), int(port))
        )
    keys = (Key(b"key1", hashlib.sha256(plan.secret.encode()).digest()),) if plan.secret else ()
    listen = tuple(endpoint(address, plan.port) for address in (plan.v4, plan.v6) if address)
    overrides = {
        name: type(getattr(Params(), name))(value)  # counts are whole numbers
        for name, value in plan.params.items()
    }
    return Settings(
        id_of(plan.node),
        plan.epoch,
        plan.cluster,
        keys,
        listen,
        bootstrap=tuple(bootstrap),
        params=Params(**overrides),
    )


async def run(plan: Plan) -> None:
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    found: dict[str, set[str]] = {key: set() for key in plan.find}
    async with DHT(settings_of(plan)) as dht:
        dht.provide([id_of(key) for key in plan.provide])
        said = b""
        while not stop.is_set():
            for key in plan.find:
                if not found[key]:
                    async for provider in dht.find_providers(id_of(key)):
                        found[key].add(provider.node.hex())
            state = State(
                id_of(plan.node).hex(),
                {one.node.hex(): [str(where) for where in one.endpoints] for one in dht.members},
                {key: sorted(nodes) for key, nodes in found.items()},
                dht.unready,
                dht.trouble,
                dict(dht.stats.drops),
            )
            if (line := msgspec.json.encode(state, order="sorted")) != said:
                said = line
                print("state", line.decode(), flush=True)
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(_WATCH_EVERY_S):
                    await stop.wait()


class DhtNode:
    """`async with DhtNode(plan, folder, netns) as node`. `nameserver` makes it the only one of a private
    /etc/resolv.conf."""

    def __init__(self, plan: Plan, folder: Path, netns: str | None, *, nameserver: str | None = None) -> None:
        self.plan = plan
        self.id = id_of(plan.node).hex()
        command = [sys.executable, "-m", "tests.support.dht_node", msgspec.json.encode(plan).decode()]
        if nameserver is not None:
            command = in_resolver(nameserver, folder / f"{plan.node}.resolv", command)
        self.process = BedProcess(
            command, folder / f"{plan.node}.log", netns=netns, environment={"PYTHONPATH": str(ROOT)}
        )

    @property
    def state(self) -> State | None:
        """The last one it told; None before the first."""
        lines = [line for line in self.process.log().splitlines() if line.startswith("state ")]
        with contextlib.suppress(msgspec.DecodeError):  # half written
            return msgspec.json.decode(lines[-1][6:], type=State) if lines else None
        return msgspec.json.decode(lines[-2][6:], type=State) if len(lines) > 1 else None

    @property
    def members(self) -> set[str]:
        return set(self.state.members) if self.state is not None else set()

    async def __aenter__(self) -> DhtNode:
        self.process.start()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.process.stop()


def in_resolver(nameserver: str, path: Path, command: Sequence[str]) -> list[str]:
    """The command, with a resolv.conf (and nsswitch.conf) that nobody else sees."""
    path.write_text(f"nameserver {nameserver}\noptions timeout:1 attempts:1\n")
    switch = path.with_suffix(".nsswitch")
    switch.write_text("hosts: files dns\n")
    script = (
        f"mount --bind {path} /etc/resolv.conf && "
        f'{{ test ! -e /etc/nsswitch.conf || mount --bind {switch} /etc/nsswitch.conf; }} && exec "$@"'
    )
    return ["unshare", "--mount", "sh", "-c", script, "sh", *command]


async def eventually(holds: Callable[[], bool], nodes: Sequence[DhtNode], within_s: float = WITHIN_S) -> None:
    """Raises: AssertionError, with what every node said last."""
    deadline = time.monotonic() + within_s
    while not holds():
        dead = [node.plan.node for node in nodes if not node.process.running]
        if dead or time.monotonic() > deadline:
            texts = [f"{node.plan.node}: {node.process.log()[-1500:]}" for node in nodes]
            raise AssertionError("\n".join([f"not within {within_s:g} s; ended: {dead}", *texts]))
        await asyncio.sleep(_WATCH_EVERY_S)


def all_know(nodes: Sequence[DhtNode]) -> bool:
    """Each has exactly the others as members."""
    ids = {node.id for node in nodes}
    return all(node.members == ids - {node.id} for node in nodes)


if __name__ == "__main__":
    asyncio.run(run(msgspec.convert(json.loads(sys.argv[1]), Plan)))
