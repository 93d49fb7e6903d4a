"""A real DNS server for tests: dnsmasq in a network namespace, with a list of addresses that a test may change.

Its namespace must have no other TCP server: accepted TCP connections are counted by the kernel for the namespace.
"""

from __future__ import annotations

import asyncio
import os
import re
import signal
import time
from collections.abc import Iterable
from pathlib import Path
from typing import Self

from tests.support.bed_process import READY_TIMEOUT_S, BedProcess


class Dnsmasq:
    """`async with Dnsmasq(tool_bin("dnsmasq"), folder, netns, address) as dns`. Knows no name until `publish`."""

    def __init__(self, bin_folder: Path, folder: Path, netns: str, address: str) -> None:
        self.address = address
        self._names: dict[str, list[str]] = {}
        self._hosts = folder / "dnsmasq.hosts"
        self._hosts.write_text("")
        self._hosts.chmod(0o644)
        options = {
            "conf-file": "",
            "user": "root",
            "pid-file": "",
            "listen-address": address,
            "addn-hosts": str(self._hosts),
            # Names of this domain that are not listed do not exist; others would be refused.
            "local": "/test/",
            "log-facility": "-",
        }
        flags = ["--keep-in-foreground", "--bind-interfaces", "--no-resolv", "--no-hosts", "--log-queries"]
        self._process = BedProcess(
            [bin_folder / "dnsmasq", *flags, *(f"--{name}={value}" for name, value in options.items())],
            folder / "dnsmasq.log",
            netns=netns,
        )

    async def publish(self, name: str, addresses: Iterable[str]) -> None:
        """From now on the name has exactly these addresses; other published names keep theirs."""
        self._names[name] = list(addresses)
        lines = [f"{one} {name}\n" for name, addresses in self._names.items() for one in addresses]
        self._hosts.write_text("".join(lines))
        before = self._reads_count()
        os.kill(self._process.pid, signal.SIGHUP)
        deadline = time.monotonic() + READY_TIMEOUT_S
        while self._reads_count() == before:
            assert time.monotonic() < deadline, "dnsmasq did not read its list again"
            await asyncio.sleep(0.01)

    def queries_count(self, name: str) -> int:
        return len(re.findall(rf"query\[AA*\] {re.escape(name)} from", self._process.log()))

    def tcp_connections_count(self) -> int:
        """TCP connections that this namespace has accepted so far."""
        lines = Path(f"/proc/{self._process.pid}/net/snmp").read_text().splitlines()
        names, values = (line.split() for line in lines if line.startswith("Tcp:"))
        return int(dict(zip(names, values, strict=True))["PassiveOpens"])

    async def stop(self) -> None:
        await self._process.stop()

    async def __aenter__(self) -> Self:
        self._process.start()
        await self._process.said(r"started, version")
        await self._process.said(rf"read {re.escape(str(self._hosts))}")
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.stop()

    def _reads_count(self) -> int:
        return len(re.findall(rf"read {re.escape(str(self._hosts))}", self._process.log()))
