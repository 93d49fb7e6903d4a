"""configure with the arguments of most tests, and what it then makes containerd ask first and last."""

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from containerd.hosts.configure import add_registry, configure
from containerd.hosts.layout import Tags
from containerd.hosts.report import Action, Report
from tests.support.containerd_hosts import Asked

URL = "http://127.0.0.1:29020"
NAMED = ("docker.io", "ghcr.io", "reg.test:5000", "localhost:5000")

_MIRROR = "127.0.0.1:29020"
MIRROR = Asked("http", _MIRROR, "/v2", frozenset({"pull"}), (), (), None, "[]", "1s", "[]")
FALLBACK = Asked(
    "http", _MIRROR, "/fallback/v2", frozenset({"pull", "resolve"}), (), (), None, "[]", "", "[]"
)

_SAME = "the hosts directory itself"


def run_configure(
    hosts_dir: Path,
    *,
    registry_url: str = URL,
    tags: Tags = "upstream",
    registries: Sequence[str] = NAMED,
    config_path: str | None = _SAME,
    containerd_version: tuple[int, int] | None = (2, 1),
    default: bool = True,
) -> Report:
    return configure(
        hosts_dir,
        registry_url=registry_url,
        tags=tags,
        registries=registries,
        config_path=str(hosts_dir) if config_path is _SAME else config_path,
        containerd_version=containerd_version,
        default=default,
    )


def run_add(hosts_dir: Path, registry: str) -> Report:
    return add_registry(
        hosts_dir, registry, registry_url=URL, tags="upstream", config_path=None, containerd_version=None
    )


def actions(report: Report) -> dict[str, Action]:
    """By registry; for a report that names each once."""
    return {change.registry: change.action for change in report.changes}


def write(path: Path, text: str, mode: int = 0o644) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(mode)


@contextmanager
def memory_folder() -> Iterator[Path]:
    """In memory where there is such a file system: thousands of files are synced in these tests."""
    with tempfile.TemporaryDirectory(dir="/dev/shm" if os.access("/dev/shm", os.W_OK) else None) as folder:
        yield Path(folder)
