"""Real daemons for the integration tests, one containerd of each version for the whole session.

Tests share it, so each pulls images of its own (`fresh_image`), and none deletes what it did not make.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from itertools import count
from pathlib import Path

import pytest
import pytest_asyncio

from tests.support.bed_containerds import VERSIONS, Containerds
from tests.support.built_images import BuiltImages, built_images
from tests.support.oci_image import Image, build_image
from tests.support.real_containerd import RealContainerd
from tests.support.skips import require

_SEEDS = count(1000)


@pytest.fixture(scope="session")
def short_folder() -> Iterator[Path]:
    """A folder whose path is short enough for Unix sockets, which pytest's are not."""
    folder = Path(tempfile.mkdtemp(prefix="peili-"))
    yield folder
    shutil.rmtree(folder)


@pytest.fixture
def folder() -> Iterator[Path]:
    """As short, the test's alone, and gone after it."""
    made = Path(tempfile.mkdtemp(prefix="peili-"))
    yield made
    shutil.rmtree(made)


@pytest_asyncio.fixture(scope="session", loop_scope="session")
async def containerds(short_folder: Path) -> AsyncIterator[Containerds]:
    async with AsyncExitStack() as stack:
        yield Containerds(short_folder, stack)


@pytest.fixture(params=VERSIONS)
def version(request: pytest.FixtureRequest) -> str:
    return str(request.param)


@pytest_asyncio.fixture
async def containerd(containerds: Containerds, version: str) -> RealContainerd:
    """Each of the versions in turn."""
    return await containerds.get(version)


@pytest.fixture
def fresh_image() -> Image:
    """Two layers, 1.5 and 0.1 MB, that no other test has pulled."""
    return build_image(next(_SEEDS), [1_500_000, 100_000])


@pytest.fixture(scope="session")
def images() -> BuiltImages:
    """Of ours, as `make image` builds it; kept over sessions."""
    return require(built_images())
