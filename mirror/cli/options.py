"""How the settings table becomes click commands. Parses no value: click only collects texts."""

from __future__ import annotations

from collections.abc import Callable

import click

from mirror.settings.load import Flags
from mirror.settings.setting import Command, Setting
from mirror.settings.table import settings_of


def command(
    kind: Command, help_text: str, run: Callable[[Flags], int], *others: click.Parameter
) -> click.Command:
    """`run` gets the flags by field and returns the exit code. `others` are no settings:
    they stand in click's context, and have no variable."""
    fields = {setting.field for setting in settings_of(kind)}

    def callback(**flags: str | tuple[str, ...] | None) -> int:
        return run({field: text for field, text in flags.items() if field in fields})

    return click.Command(
        kind.value,
        help=help_text,
        params=[*options(kind), *others],
        callback=callback,
        epilog=epilog(*others),
    )


def print_warnings(warnings: tuple[str, ...]) -> None:
    """For commands that have no log."""
    for warning in warnings:
        click.echo(f"peili: warning: {warning}", err=True)


def epilog(*others: click.Parameter) -> str:
    """`others` are no settings."""
    names = [other.opts[0] for other in others if isinstance(other, click.Option)]
    without = f" but {' and '.join(filter(None, [', '.join(names[:-1]), *names[-1:]]))}" if names else ""
    return (
        f"Every flag{without} has a variable: PEILI_ and its name in upper case, with commas between values."
    )


def options(kind: Command) -> list[click.Parameter]:
    return [_option(setting) for setting in settings_of(kind)]


def _option(setting: Setting[object]) -> click.Option:
    notes = [f"default: {setting.default_text}"]
    if setting.is_repeatable:
        notes.insert(0, "repeatable")
    return click.Option(
        [setting.flag],
        metavar=setting.shape,
        multiple=setting.is_repeatable,
        help=f"{setting.help}  [{'; '.join(notes)}]",
    )
