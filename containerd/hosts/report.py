"""What configure and cleanup tell their caller: one line for each file, and what the operator should know."""

from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path


class Action(StrEnum):
    """What happened to one hosts.toml."""

    WRITTEN = "written"
    """The file has our entries now, and did not have them, or had others."""
    UNCHANGED = "unchanged"
    """The file says already what it should; it was not touched."""
    SKIPPED = "skipped"
    """The file was left as it is; a warning says why."""
    RESTORED = "restored"
    """The file is byte for byte what it was before us."""
    REMOVED = "removed"
    """The file was ours alone and is gone."""
    KEPT = "kept"
    """The user changed the file after us: our entries are out, his text stays."""


@dataclass(frozen=True, slots=True)
class Change:
    registry: str
    """The registry's name, or `_default`."""
    path: Path
    action: Action


@dataclass(frozen=True, slots=True)
class Report:
    changes: tuple[Change, ...]
    """In the order in which they were made; a path is named once."""
    warnings: tuple[str, ...] = ()

    @property
    def changed(self) -> bool:
        return any(change.action not in (Action.UNCHANGED, Action.SKIPPED) for change in self.changes)
