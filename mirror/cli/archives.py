"""What `peili import` and `peili export` have in common: how far they are, on a terminal, and what they did."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import asdict

import click

from mirror.archive.results import Done, Report
from mirror.cli.options import print_warnings
from mirror.cli.showing import bytes_text, printable

# Often enough to see that it goes on.
_SHOW_EVERY_S = 0.5
_LINE_WIDTH = 60


@contextmanager
def progress(verb: str, total_bytes: int) -> Iterator[Report]:
    """One line that changes, on a terminal; nothing elsewhere."""
    if not sys.stderr.isatty():
        yield lambda _: None
        return
    done_bytes = 0
    shown_s = 0.0

    def report(more_bytes: int) -> None:
        nonlocal done_bytes, shown_s
        done_bytes += more_bytes
        if time.monotonic() - shown_s >= _SHOW_EVERY_S:
            shown_s = time.monotonic()
            text = f"{verb}: {bytes_text(done_bytes)} of {bytes_text(total_bytes)} at most"
            click.echo(f"\r{text:<{_LINE_WIDTH}}", err=True, nl=False)

    try:
        yield report
    finally:
        click.echo(f"\r{'':<{_LINE_WIDTH}}\r", err=True, nl=False)


def show_lines(done: Sequence[Done], *, tells_already_there: bool) -> None:
    for one in done:
        there = f", {one.already_there_count} already there" if tells_already_there else ""
        click.echo(
            f"{printable(one.name)}  {one.digest}  {bytes_text(one.size_bytes)}  {one.blobs_count} blobs{there}"
        )


def show_document(done: Sequence[Done], **more: str) -> None:
    images = [{**asdict(one), "digest": str(one.digest)} for one in done]
    click.echo(json.dumps({**more, "images": images}))


def warn_of_absent(done: Sequence[Done], where: str) -> None:
    for one in done:
        if one.absent:
            platforms = ", ".join(one.absent)
            print_warnings((printable(f"{one.name} is not in {where} for {platforms}"),))
