"""What `peili up` was given and found, as the flags of configure and serve. Pure.

A unit of systemd has no variables of the caller's, and another working directory: every text that counts becomes a
flag, and every path an absolute one.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from mirror.settings.setting import Command, Setting
from mirror.settings.table import settings_of

# By field.
Texts = Mapping[str, tuple[str, ...]]


def flags_of(
    command: Command, given: Texts, found: Texts, working_dir: Path
) -> dict[str, str | tuple[str, ...]]:
    """By field, as `settings.load.read` takes them. What was given wins over what was found."""
    return {
        setting.field: texts if setting.is_repeatable else texts[0]
        for setting in settings_of(command)
        if (texts := _texts(setting, given.get(setting.field) or found.get(setting.field) or (), working_dir))
    }


def remembered(command: Command, kept: Texts, given: Texts) -> dict[str, str | tuple[str, ...]]:
    """For a command that is to speak with the daemon that up started: what up handed on, where nothing is given."""
    return flags_of(
        command, {}, {field: texts for field, texts in kept.items() if field not in given}, Path("/")
    )


def words(flags: Mapping[str, str | tuple[str, ...]]) -> tuple[str, ...]:
    """As on a command line, in the order of `flags`."""
    return tuple(
        f"--{field.replace('_', '-')}={text}"
        for field, texts in flags.items()
        for text in ((texts,) if isinstance(texts, str) else texts)
    )


def _texts(setting: Setting[object], texts: tuple[str, ...], working_dir: Path) -> tuple[str, ...]:
    return tuple(str(working_dir / text) for text in texts) if setting.shape == "PATH" else texts
