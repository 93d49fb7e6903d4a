"""`peili doctor`: looks, and prints what it found."""

from __future__ import annotations

import asyncio
import json
import os

import click

from mirror.cli.options import epilog, options, print_warnings
from mirror.settings import load, machine, resolve
from mirror.settings.setting import Command

# Notes alone are no reason for it.
EXIT_FOUND = 3


def run(as_json: bool, **flags: str | tuple[str, ...] | None) -> int:
    """Raises: SettingsError."""
    resolved = resolve.doctor(load.read(Command.DOCTOR, flags, os.environ), machine.surroundings())
    print_warnings(resolved.warnings)

    from mirror.doctor import report
    from mirror.doctor.diagnosis import diagnose
    from mirror.doctor.gather import gather  # grpc

    facts = asyncio.run(gather(resolved.settings))
    findings = diagnose(facts)
    if as_json:
        click.echo(json.dumps(report.document(facts, findings), ensure_ascii=False))
    else:
        click.echo("\n".join(report.lines(facts, findings)))
    return EXIT_FOUND if report.problem_count(findings) else 0


_JSON = click.Option(
    ["--json", "as_json"], is_flag=True, help="One JSON object on standard output (docs/doctor.md)."
)

doctor = click.Command(
    Command.DOCTOR.value,
    help="Looks for what is wrong on this host, and says what it saw and how to mend it. Give it the settings of serve "
    "and configure. It changes nothing. Exit code 3: it found a problem; notes alone are 0.",
    params=[*options(Command.DOCTOR), _JSON],
    callback=run,
    epilog=epilog(_JSON),
)
