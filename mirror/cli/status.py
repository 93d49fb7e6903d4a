"""`peili status`: what the daemon of this host is, and what it has moved."""

from __future__ import annotations

import click

from mirror.admin.answers import STATUS_PATH, Status
from mirror.cli.asking import asking_command
from mirror.cli.showing import bytes_text, printable
from mirror.settings.setting import Command


def show(told: Status) -> None:
    for name, text in rows(told):
        click.echo(f"{name:<20}  {printable(text)}")


def rows(told: Status) -> list[tuple[str, str]]:
    return [
        ("ready", f"no: {'; '.join(told.unready)}" if told.unready else "yes"),
        ("version", f"{told.version}, peer wire version {told.peer_wire_version}"),
        ("node", told.node_id),
        ("cluster", told.cluster),
        ("other nodes", f"{told.members} known{', none answers' if told.isolated else ''}"),
        *([("trouble", told.trouble)] if told.trouble else []),
        ("advertised", f"{told.announced_digests} blobs, {told.announced_tags} tags"),
        ("records kept", str(told.records)),
        ("from own content", bytes_text(told.bytes_from_local)),
        ("from peers", f"{bytes_text(told.bytes_from_peers)}, {bytes_text(told.bytes_spliced)} spliced"),
        ("from the registry", f"{bytes_text(told.bytes_from_origin)} (by the daemon itself)"),
        ("received from peers", bytes_text(told.bytes_received_from_peers)),
        ("served to peers", bytes_text(told.bytes_served_to_peers)),
    ]


status = asking_command(
    Command.STATUS,
    "What the daemon of this host is, whether it can work, and what it has moved since it started.",
    STATUS_PATH,
    Status,
    show,
)
