"""The containerds of a test session, each started when first asked for and kept until the end.

Which versions there are is decided here; how one is run, in `real_containerd`.
"""

from __future__ import annotations

from contextlib import AsyncExitStack
from pathlib import Path
from typing import Final

from tests.support.real_containerd import RealContainerd
from tests.support.skips import tool_bin

VERSIONS: Final = ("1.6", "1.7", "2.1")


class Containerds:
    """Starts a version when the first test asks for it."""

    def __init__(self, folder: Path, stack: AsyncExitStack) -> None:
        self._folder = folder
        self._stack = stack
        self._running: dict[str, RealContainerd] = {}

    async def get(self, version: str, *, extra_config: str = "", variant: str = "") -> RealContainerd:
        """The variant names an instance whose extra_config differs."""
        key = f"{version}{variant}"
        if key not in self._running:
            home = self._folder / key
            containerd = RealContainerd(
                tool_bin(f"containerd-{version}"), home, certs_dir=home / "certs", extra_config=extra_config
            )
            self._running[key] = await self._stack.enter_async_context(containerd)
        return self._running[key]
