"""Which images an operator means by a registry, or by a registry and the beginning of a path. Pure."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ImageScope:
    """`path` empty: all of the registry; else the repository of that name and all below it."""

    registry: str
    path: str

    def __str__(self) -> str:
        return f"{self.registry}/{self.path}" if self.path else self.registry

    def covers(self, registry: str, repository: str) -> bool:
        """Both as an image name has them, `registry` canonical."""
        if registry != self.registry:
            return False
        return not self.path or f"{repository}/".startswith(f"{self.path}/")
