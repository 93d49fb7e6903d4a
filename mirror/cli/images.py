"""`peili images`: which images this host's containerd has, and what of them the daemon gives to others."""

from __future__ import annotations

import click

from mirror.admin.answers import IMAGES_PATH, Image, Images
from mirror.cli.asking import asking_command
from mirror.cli.showing import bytes_text, show_table
from mirror.settings.setting import Command

COLUMNS = ("IMAGE", "DIGEST", "SIZE", "BLOBS", "ADVERTISED")
# As containerd's and Docker's own lists cut it: enough to tell images apart.
DIGEST_SHOWN_LENGTH = len("sha256:") + 12


def show(told: Images) -> None:
    if told.store == "directory":
        click.echo("the content of this host is in a directory, where it has no names")
        return
    if not told.images:
        click.echo("containerd has no image in the namespaces that the daemon watches")
        return
    show_table(COLUMNS, [row(one) for one in told.images], right=("SIZE", "BLOBS"))
    if told.truncated:
        click.echo(f"{len(told.images)} of {told.total} are listed")


def row(one: Image) -> tuple[str, ...]:
    advertised = {
        (True, True): "content and tag",
        (True, False): "content",
        (False, True): "tag",
        (False, False): "no",
    }[one.advertised, one.tag_advertised]
    return (
        one.name,
        one.digest[:DIGEST_SHOWN_LENGTH],
        "?" if one.size_bytes is None else bytes_text(one.size_bytes),
        "?" if one.blobs is None else f"{one.blobs_here}/{one.blobs}",
        advertised,
    )


images = asking_command(
    Command.IMAGES,
    "Which images the containerd of this host has, and how much of each the daemon can give to others.",
    IMAGES_PATH,
    Images,
    show,
)
