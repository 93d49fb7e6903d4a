"""`peili demo`: its flags, and where its output goes."""

from __future__ import annotations

import asyncio
import json
import sys

import click

from mirror.demo import plan as limits
from mirror.demo.plan import DemoPlan
from mirror.demo.view import View
from mirror.errors import MirrorError, SettingsError
from mirror.settings.values import ValueInvalid, size_bytes, size_text

# As a shell reports a command that a signal ended.
EXIT_SIGNAL_BASE = 128

_JSON_KEYS = (
    "Keys with --json: ok, version, hosts, image_bytes, layers, link_bytes_per_s; without and with (seconds, "
    "origin_bytes, origin_requests, peer_bytes, hosts); origin_bytes_factor, seconds_factor. "
    "When it fails: ok (false), version, error."
)


@click.command(epilog=_JSON_KEYS)
@click.option(
    "--json",
    "as_json",
    is_flag=True,
    help="One JSON object on standard output; what goes on, on standard error.",
)
@click.option(
    "--hosts",
    metavar="N",
    type=int,
    default=limits.HOSTS_DEFAULT_COUNT,
    show_default=True,
    help=f"How many hosts, each with a daemon: {limits.HOSTS_MIN_COUNT} to {limits.HOSTS_MAX_COUNT}.",
)
@click.option(
    "--image-size",
    metavar="SIZE",
    default=size_text(limits.IMAGE_DEFAULT_BYTES),
    show_default=True,
    help="Size of the image that they pull, in six layers.",
)
@click.option(
    "--link-rate",
    metavar="SIZE",
    default=size_text(limits.LINK_DEFAULT_BYTES_PER_S),
    show_default=True,
    help="Bytes per second of the link that the origin is behind.",
)
def demo(as_json: bool, hosts: int, image_size: str, link_rate: str) -> int:
    """A cluster of daemons on loopback that pulls an image from an origin behind a slow link, and what it saved.

    The hosts pull twice, all of them at the same moment: without Peili, then with it, when none of them has any of the
    image. Takes about 20 seconds, a minute at most; needs no root and leaves nothing behind.
    """
    from mirror.demo.report import failure_document
    from mirror.demo.run import Interrupted, run  # aiohttp

    try:
        plan = DemoPlan(hosts, _size("--image-size", image_size), _size("--link-rate", link_rate))
        report = asyncio.run(run(plan, _view(as_json)))
    except MirrorError as exc:
        if as_json:
            click.echo(json.dumps(failure_document(str(exc))))
        if isinstance(exc, Interrupted):
            click.echo(f"peili: {exc}", err=True)
            return EXIT_SIGNAL_BASE + exc.number
        raise
    if as_json:
        click.echo(json.dumps(report.document()))
    return 0


def _size(flag: str, text: str) -> int:
    """Raises: SettingsError."""
    try:
        return size_bytes(1)(text)
    except ValueInvalid as exc:
        raise SettingsError(flag, str(exc)) from exc


def _view(as_json: bool) -> View:
    from mirror.demo.lines import LinesView

    if as_json:
        return LinesView(sys.stderr)
    if sys.stdout.isatty():
        from rich.console import Console

        from mirror.demo.table import MIN_WIDTH, TableView

        console = Console(file=sys.stdout)
        if console.width >= MIN_WIDTH and not console.is_dumb_terminal:
            return TableView(console)
    return LinesView(sys.stdout)
