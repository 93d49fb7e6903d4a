"""What a setting is: its flag, its variable, its default, and how its text is read. Pure.

Which settings there are stands in `mirror.settings.table`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import Generic, TypeVar

Value_co = TypeVar("Value_co", covariant=True)

ENVIRONMENT_PREFIX = "PEILI_"


class Command(StrEnum):
    UP = "up"
    DOWN = "down"
    SERVE = "serve"
    CONFIGURE = "configure"
    CLEANUP = "cleanup"
    CLEANUP_WAIT = "cleanup-wait"
    STATUS = "status"
    PEERS = "peers"
    IMAGES = "images"
    DOCTOR = "doctor"
    IMPORT = "import"
    EXPORT = "export"


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting(Generic[Value_co]):
    """`shape` stands for the value in help texts and tells its unit. `default` None: not set, and `unset`
    says in words what that means. A repeatable setting's default is one value."""

    name: str
    shape: str
    parse: Callable[[str], Value_co]
    help: str
    example: str
    commands: frozenset[Command]
    default: str | None = None
    unset: str = ""
    is_repeatable: bool = False
    also: str = ""

    @property
    def flag(self) -> str:
        return f"--{self.name}"

    @property
    def field(self) -> str:
        return self.name.replace("-", "_")

    @property
    def variable(self) -> str:
        return f"{ENVIRONMENT_PREFIX}{self.field.upper()}"

    @property
    def variables(self) -> tuple[str, ...]:
        """In the order in which they count."""
        return (self.variable, self.also) if self.also else (self.variable,)

    @property
    def default_text(self) -> str:
        """For people."""
        return self.unset or self.default or ""
