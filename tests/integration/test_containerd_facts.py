"""What Peili relies on in containerd, shown on real ones: a new version that differs fails here first."""

from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass

import pytest
import pytest_asyncio

from tests.support.bed_hosts_toml import install, mirror_layout
from tests.support.cri_pull import Pulled, PullFailed, cri_pull
from tests.support.oci_image import Image
from tests.support.real_containerd import RealContainerd
from tests.support.recording_mirror import Journal, RecordingHost, Shelf, Status

pytestmark = [pytest.mark.containerd, pytest.mark.slow]


@dataclass(frozen=True, slots=True)
class Trio:
    """A registry (origin) with our layout in front of and behind it, and one image on all three."""

    containerd: RealContainerd
    mirror: RecordingHost
    origin: RecordingHost
    fallback: RecordingHost
    journal: Journal
    image: Image

    @property
    def name(self) -> str:
        return f"{self.origin.authority}/lib/small:v1"

    async def pull(self) -> Pulled | PullFailed:
        return await cri_pull(self.containerd, self.name)


@pytest_asyncio.fixture
async def trio(containerd: RealContainerd, fresh_image: Image) -> AsyncIterator[Trio]:
    shelf, journal = Shelf(), Journal()
    shelf.add(fresh_image, "lib/small", "v1")
    async with AsyncExitStack() as stack:
        mirror, origin = [
            await stack.enter_async_context(RecordingHost(name, shelf, journal))
            for name in ("mirror", "origin")
        ]
        install(containerd.certs_dir, origin.authority, mirror_layout(origin.url, mirror.url))
        yield Trio(containerd, mirror, origin, mirror, journal, fresh_image)


async def test_x(trio: Trio) -> None:
    print(await trio.pull())
    print("\n".join(trio.journal.trace()))
    assert 0
