"""A registry that a real containerd asks for the first time: the daemon gives it an entry with the fallback host, and
cleanup takes it out again.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from mirror.web.listener import bind
from tests.support.bed_hosts_toml import install
from tests.support.bed_process import BedProcess
from tests.support.cri_pull import Pulled, cri_pull
from tests.support.hosts_trees import snapshot
from tests.support.oci_image import Image, build_image
from tests.support.real_containerd import RealContainerd
from tests.support.token_origin import TokenOrigin, server_tls

pytestmark = [pytest.mark.containerd, pytest.mark.slow]

APPEARS_LIMIT_S = 15.0


async def appears(path: Path, daemon: BedProcess) -> None:
    deadline_s = time.monotonic() + APPEARS_LIMIT_S
    while not path.exists():
        assert time.monotonic() < deadline_s, daemon.log()
        await asyncio.sleep(0.05)


async def run(*arguments: str) -> None:
    process = await asyncio.create_subprocess_exec(sys.executable, "-m", "mirror", *arguments)
    assert await process.wait() == 0, arguments


@pytest.fixture
def port() -> Iterator[int]:
    """Of the registry. Kept, so that the kernel gives it to nobody else before the daemon binds it, too."""
    with bind("registry", "127.0.0.1", 0) as kept:
        yield kept.getsockname()[1]


async def test_the_next_pull_has_a_fallback_host(
    containerd: RealContainerd, version: str, fresh_image: Image, tmp_path: Path, port: int
) -> None:
    registry = f"seen-{version.replace('.', '-')}.example"
    mirrored = f"http://127.0.0.1:{port}"
    tls, authority = server_tls(tmp_path)
    other = build_image(int(version.replace(".", "")) + 90_000, [40_000])
    async with TokenOrigin(auth="bearer", tls=tls) as origin:
        origin.add(fresh_image, "team/app", "1")
        origin.add(other, "team/app", "2")
        # As `_default` of an operator: every registry is behind one proxy. containerd reads our own tree of the test
        # for this registry alone, so that other tests are left as they are.
        hosts_dir = tmp_path / "certs.d"
        proxy = f'server = "{origin.url}"\nca = "{authority}"\n[host."{origin.url}"]\nca = "{authority}"\n'
        install(hosts_dir, "_default", proxy)
        before = snapshot(hosts_dir)
        await run("configure", f"--hosts-dir={hosts_dir}", f"--registry-addr=127.0.0.1:{port}")
        daemon = BedProcess(
            [
                *(sys.executable, "-m", "mirror", "serve", f"--containerd-sock={containerd.socket}"),
                *(f"--registry-addr=127.0.0.1:{port}", "--peer-addr=127.0.0.1:0", "--admin-addr=127.0.0.1:0"),
                *(f"--hosts-dir={hosts_dir}", f"--data-dir={tmp_path / 'data'}", "--log-level=debug"),
            ],
            tmp_path / "daemon.log",
        )
        async with daemon:
            await daemon.said("serving containerd")
            first = hosts_dir / "_default" / "hosts.toml"
            install(containerd.certs_dir, registry, first.read_text())
            assert isinstance(await cri_pull(containerd, f"{registry}/team/app:1"), Pulled), daemon.log()
            await appears(hosts_dir / registry / "hosts.toml", daemon)
            written = (hosts_dir / registry / "hosts.toml").read_text()
            assert f'server = "{mirrored}/fallback/v2"' in written
            install(containerd.certs_dir, registry, written)
            assert isinstance(await cri_pull(containerd, f"{registry}/team/app:2"), Pulled), daemon.log()
        await run("cleanup", f"--hosts-dir={hosts_dir}")
        assert snapshot(hosts_dir) == before
