"""What doctor asks of a Kubernetes API: lists of objects, and a command run in a container. Pure.

Behind it are `mirror.doctor.cluster.api` (the package `kubernetes`) and, in tests, a cluster in memory.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol, TypeVar

from mirror.errors import MirrorError

Item = TypeVar("Item")


class ApiUnheard(MirrorError):
    """The API cannot be asked at all: no such kubeconfig or context, no answer, or credentials that it refuses."""


class ListRefused(MirrorError):
    """The API answers, and does not give this list."""


class NotRun(MirrorError):
    """The command was not run in the container, or its end was not seen."""


@dataclass(frozen=True, slots=True)
class Printed:
    """What a command printed, and its exit code."""

    code: int
    out: bytes
    err: bytes


class ClusterApi(Protocol):
    async def items(self, path: str, kind: type[Item], *, labels: str = "", fields: str = "") -> list[Item]:
        """All pages of a list, as far as its cap goes. `labels` and `fields` are selectors. Raises: ApiUnheard,
        ListRefused."""
        ...

    async def run(self, namespace: str, pod: str, container: str, command: Sequence[str]) -> Printed:
        """Raises: NotRun."""
        ...
