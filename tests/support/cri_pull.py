"""A pull as the kubelet makes it, and its outcome as a value: an error's text is what a user reads."""

from __future__ import annotations

import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Protocol

from containerd.client import Client
from containerd.errors import ContainerdError

# Beyond every wait that a test provokes on purpose.
PULL_DEADLINE_S: Final = 60.0


class HasSocket(Protocol):
    """As RealContainerd has."""

    @property
    def socket(self) -> Path: ...


@dataclass(frozen=True, slots=True)
class Pulled:
    image_id: str
    took_s: float


@dataclass(frozen=True, slots=True)
class PullFailed:
    message: str
    took_s: float


async def cri_pull(
    containerd: HasSocket, image: str, *, deadline_s: float = PULL_DEADLINE_S
) -> Pulled | PullFailed:
    started = time.monotonic()
    async with Client(containerd.socket) as client:
        try:
            image_id = await client.cri.pull_image(image, deadline_s=deadline_s)
        except ContainerdError as error:
            return PullFailed(str(error), time.monotonic() - started)
    return Pulled(image_id, time.monotonic() - started)
