"""`peili peers`: which other daemons the one of this host knows."""

from __future__ import annotations

import click

from mirror.admin.answers import PEERS_PATH, Peer, Peers
from mirror.cli.asking import asking_command
from mirror.cli.showing import bytes_text, show_table
from mirror.settings.setting import Command

COLUMNS = ("PEER", "NODE", "STATE", "ZONE", "RECEIVED", "SERVED", "NOTES")
_AVOIDED = {"unreachable": "avoided: unreachable", "wrong_bytes": "avoided: sent wrong bytes"}


def show(told: Peers) -> None:
    if not told.peers:
        click.echo("no other daemon is known; peili status may say why")
        return
    show_table(COLUMNS, [row(one) for one in told.peers], right=("RECEIVED", "SERVED"))
    if told.truncated:
        click.echo(f"{len(told.peers)} of {told.total} are listed")


def row(one: Peer) -> tuple[str, ...]:
    notes = [
        "seed" if one.seed else "",
        f"channel version {one.channel_version}" if one.channel_version is not None else "",
        _AVOIDED[one.avoided] if one.avoided is not None else "",
    ]
    return (
        one.address or "?",
        one.node_id,
        one.state,
        one.zone or "-",
        bytes_text(one.received_bytes),
        bytes_text(one.served_bytes),
        ", ".join(filter(None, notes)) or "-",
    )


peers = asking_command(
    Command.PEERS,
    "Which other daemons the one of this host knows, those with an open channel first.",
    PEERS_PATH,
    Peers,
    show,
)
