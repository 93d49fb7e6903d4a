"""skopeo, whose library is that of Podman and CRI-O, against a daemon with a relay: it stays with the mirror that gave
it the manifest, so it gets all of an image from there, or none of it.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from mirror.web.listener import bind
from tests.support.bed_process import BedProcess
from tests.support.oci_image import Image, build_image, build_index
from tests.support.recording_mirror import Status
from tests.support.skips import tool_bin
from tests.support.token_origin import TokenOrigin

pytestmark = pytest.mark.slow

IMAGE = build_image(61, [3_000_000, 50_000])
INDEX = build_index(62, [40_000])
PULL_LIMIT_S = 30.0


@dataclass(frozen=True, slots=True)
class Bed:
    origin: TokenOrigin
    daemon: BedProcess
    folder: Path

    async def pull(self, repository: str, *flags: str) -> tuple[int, str]:
        """Exit code and what a user reads."""
        target = self.folder / f"pulled-{len(list(self.folder.iterdir()))}"
        process = await asyncio.create_subprocess_exec(
            tool_bin("skopeo") / "skopeo",
            *("--insecure-policy", f"--registries-conf={self.folder / 'registries.conf'}", *flags, "copy"),
            *("--src-tls-verify=false", f"--authfile={self.folder / 'auth.json'}"),
            *(f"docker://{self.origin.authority}/{repository}:1", f"dir:{target}"),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        async with asyncio.timeout(PULL_LIMIT_S):
            output, _ = await process.communicate()
        assert process.returncode is not None
        return process.returncode, output.decode()

    def asked_by(self, agent: str, *kinds: str) -> int:
        return sum(
            agent in exchange.asked.headers.get("user-agent", "")
            for exchange in self.origin.journal
            if not kinds or exchange.asked.kind in kinds
        )


@asynccontextmanager
async def bed(tmp_path: Path, image: Image, *flags: str) -> AsyncIterator[Bed]:
    async with AsyncExitStack() as stack:
        # Kept, so that the kernel gives it to nobody else before the daemon binds it, too.
        port = stack.enter_context(bind("registry", "127.0.0.1", 0)).getsockname()[1]
        origin = await stack.enter_async_context(TokenOrigin(auth="bearer"))
        origin.users["user"] = "secret"
        origin.add(image, "team/open", "1")
        origin.add(INDEX, "team/index", "1")
        origin.add(image, "team/closed", "1", is_private=True)
        hosts = tmp_path / "hosts" / origin.authority
        hosts.mkdir(parents=True)
        (hosts / "hosts.toml").write_text(f'server = "{origin.url}"\n')
        in_a_path = origin.authority.replace(":", "__")
        (tmp_path / "registries.conf").write_text(
            f'[[registry]]\nlocation = "{origin.authority}"\ninsecure = true\n'
            f'[[registry.mirror]]\nlocation = "127.0.0.1:{port}/{in_a_path}"\ninsecure = true\n'
        )
        auth = {"auths": {origin.authority: {"auth": "dXNlcjpzZWNyZXQ="}}}
        (tmp_path / "auth.json").write_text(json.dumps(auth))
        daemon = BedProcess(
            [
                *(sys.executable, "-m", "mirror", "serve", "--store=directory", "--log-level=debug"),
                *(f"--store-dir={tmp_path / 'store'}", f"--data-dir={tmp_path / 'data'}"),
                *(f"--registry-addr=127.0.0.1:{port}", "--peer-addr=127.0.0.1:0"),
                *("--admin-addr=127.0.0.1:0", f"--hosts-dir={tmp_path / 'hosts'}", *flags),
            ],
            tmp_path / "daemon.log",
        )
        await stack.enter_async_context(daemon)
        await daemon.said("serving containerd")
        yield Bed(origin, daemon, tmp_path)


async def test_an_image_comes_from_the_mirror_as_a_whole(tmp_path: Path) -> None:
    async with bed(tmp_path, IMAGE, "--origin=relay") as it:
        code, output = await it.pull("team/open")
        assert code == 0, output
        assert it.asked_by("skopeo", "head", "manifest", "blob") == 0, "all of it came from the mirror"
        assert it.asked_by("peili", "blob") >= len(IMAGE.layers) + 1


async def test_an_image_for_several_platforms(tmp_path: Path) -> None:
    async with bed(tmp_path, IMAGE, "--origin=relay") as it:
        code, output = await it.pull("team/index", "--override-arch=arm64")
        assert code == 0, output
        assert it.asked_by("skopeo", "head", "manifest", "blob") == 0


async def test_a_private_image_comes_from_the_registry_with_the_users_own_secret(tmp_path: Path) -> None:
    async with bed(tmp_path, IMAGE, "--origin=relay") as it:
        code, output = await it.pull("team/closed")
        assert code == 0, output
        assert it.asked_by("peili", "blob") == 0
        assert it.asked_by("skopeo", "blob") == len(IMAGE.layers) + 1


async def test_a_mirror_that_cannot_get_it_is_passed_by(tmp_path: Path) -> None:
    """Its way to the registry is gone, the user's is not."""
    async with bed(tmp_path, IMAGE, "--origin=relay") as it:
        it.origin.answer = lambda asked: (
            Status(503) if "peili" in asked.headers.get("user-agent", "") else None
        )
        code, output = await it.pull("team/open")
        assert code == 0, output
        assert it.asked_by("skopeo", "blob") == len(IMAGE.layers) + 1


async def test_without_a_relay_it_is_sent_on(tmp_path: Path) -> None:
    async with bed(tmp_path, IMAGE) as it:
        code, output = await it.pull("team/open")
        assert code == 0, output
        assert it.asked_by("skopeo", "blob") == len(IMAGE.layers) + 1
