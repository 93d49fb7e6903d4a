"""`peili version`."""

from __future__ import annotations

import json
import platform

import click

from mirror.peer.wire import PEER_WIRE_VERSION
from mirror.version import VERSION


@click.command()
@click.option("--json", "as_json", is_flag=True, help="One JSON object.")
def version(as_json: bool) -> None:
    """Release, Python and wire version."""
    python = platform.python_version()
    if as_json:
        click.echo(json.dumps({"version": VERSION, "python": python, "peer_wire_version": PEER_WIRE_VERSION}))
    else:
        click.echo(f"peili {VERSION}\npython {python}\npeer wire version {PEER_WIRE_VERSION}")
