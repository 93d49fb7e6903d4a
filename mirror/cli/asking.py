"""What `peili status`, `peers` and `images` have in common: flags, and that --json prints the API's own document."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

import click

from mirror.cli.admin_client import ask, read
from mirror.cli.after_up import with_what_up_found
from mirror.cli.options import command, print_warnings
from mirror.settings import load, resolve
from mirror.settings.load import Flags
from mirror.settings.setting import Command

Document = TypeVar("Document")

_JSON = "as_json"


def asking_command(
    kind: Command, help_text: str, path: str, document: type[Document], show: Callable[[Document], None]
) -> click.Command:
    """`show` is for people."""

    def run(flags: Flags) -> int:
        """Raises: SettingsError, DaemonUnheard."""
        resolved = resolve.asking(load.read(kind, with_what_up_found(kind, flags), os.environ))
        print_warnings(resolved.warnings)
        address = resolved.settings.admin_addr
        body = ask(address, path)
        told = read(address, body, document)
        if click.get_current_context().params[_JSON]:
            click.echo(body)
        else:
            show(told)
        return 0

    as_json = click.Option(
        ["--json", _JSON],
        is_flag=True,
        help="The document of the admin API as it is (docs/admin-api.md).",
    )
    return command(kind, help_text, run, as_json)
