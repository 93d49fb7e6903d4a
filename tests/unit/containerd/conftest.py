"""A host's file system for the tests of hosts.toml, in memory: they write thousands of small files."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.hosts_runs import memory_folder


@pytest.fixture
def folder() -> Iterator[Path]:
    with memory_folder() as folder:
        yield folder


@pytest.fixture
def certs(folder: Path) -> Path:
    """containerd's hosts directory, empty."""
    directory = folder / "etc/containerd/certs.d"
    directory.mkdir(parents=True)
    return directory
